"""Database servers behind the common interface."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Connection, create_engine, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.pool import NullPool

from airflow_auth_patches.demo import databases
from airflow_auth_patches.demo.databases import DatabaseServer
from airflow_auth_patches.demo.mariadb import MariaDB
from airflow_auth_patches.demo.postgresql import PostgreSQL
from airflow_auth_patches.demo.run import private_folder
from airflow_auth_patches.util.errors import Problem

PRODUCTS = (PostgreSQL, MariaDB)


@pytest.fixture(scope="module", params=PRODUCTS, ids=lambda product: product.product)
def running(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    with private_folder() as folder, request.param(folder / "server") as started:
        yield started


@pytest.fixture
def server(running: DatabaseServer) -> Iterator[DatabaseServer]:
    """Return a database server whose databases are removed after the test."""
    yield running
    for name in ("base", "one", "two", "other"):
        running.drop(name)


def connect(url: str | URL) -> Connection:
    return create_engine(url, poolclass=NullPool, execution_options={"no_parameters": True}).connect()


def ask(server: DatabaseServer, name: str, *statements: str) -> Any:
    """Execute statements in one transaction, and return the first value of the last one."""
    with connect(server.url(name)) as connection, connection.begin():
        results = [connection.exec_driver_sql(each) for each in statements]
        return results[-1].scalar() if results[-1].returns_rows else None


def comes_to(wanted: int, count: Callable[[str], int], deadline: float = 20) -> bool:
    """Check whether a count for ``one`` becomes the wanted number; closed connections are counted briefly."""
    until = time.monotonic() + deadline
    while count("one") != wanted and time.monotonic() < until:
        time.sleep(0.01)
    return count("one") == wanted


def idle_and_busy(server: DatabaseServer) -> list[Connection]:
    """Return two connections to a new database ``one``; the second one is in a transaction."""
    server.create("one")
    ask(server, "one", "CREATE TABLE t (n INTEGER)")
    idle, busy = connect(server.url("one")), connect(server.url("one"))
    busy.exec_driver_sql("SELECT * FROM t")
    return [idle, busy]


def broken(connection: Connection) -> bool:
    with pytest.raises(OperationalError):
        connection.exec_driver_sql("SELECT 1")
    return True


def test_copy_has_data_and_foreign_keys_of_template_and_is_independent(server: DatabaseServer) -> None:
    server.create("base")
    ask(
        server,
        "base",
        "CREATE TABLE b (n INTEGER PRIMARY KEY, t VARCHAR(9) DEFAULT '50 %:x')",
        "CREATE TABLE a (n INTEGER, FOREIGN KEY (n) REFERENCES b (n))",
        "INSERT INTO b (n) VALUES (1)",
        "INSERT INTO a VALUES (1)",
    )
    with connect(server.url("base")) as connection:
        connection.exec_driver_sql("SELECT 1")
        server.create("one", "base")  # in spite of the connection to the template
        assert broken(connection)
    server.create("two", "base")
    assert server.connections("one") == 0
    ask(server, "one", "INSERT INTO a VALUES (1)")
    counts = [ask(server, name, "SELECT count(*) FROM a") for name in ("base", "one", "two")]
    assert counts == [1, 2, 1]
    assert ask(server, "two", "SELECT t FROM b") == "50 %:x"
    with pytest.raises(IntegrityError):
        ask(server, "one", "INSERT INTO a VALUES (2)")


def test_dropped_database_can_be_created_again(server: DatabaseServer) -> None:
    name = "a b`'\"c"
    server.drop(name)  # it does not exist
    for _ in range(2):
        server.create(name)
        server.drop(name)
    idle_and_busy(server)
    server.drop("one")  # with connections
    server.create("one")
    ask(server, "one", "CREATE TABLE t (n INTEGER)")


def test_restart_keeps_data_and_url_and_closes_every_connection(server: DatabaseServer) -> None:
    connections = idle_and_busy(server)
    before = server.url("one")
    server.restart()
    assert server.url("one") == before
    assert server.connections("one") == 0
    assert all(map(broken, connections))
    assert ask(server, "one", "SELECT count(*) FROM t") == 0


def test_kill_closes_connections_of_one_database_and_counts_them(server: DatabaseServer) -> None:
    connections = idle_and_busy(server)
    server.create("other")
    with connect(server.url("other")) as spared:
        assert comes_to(2, server.connections)
        assert server.open_transactions("one") == 1
        assert server.kill_connections("one") == 2
        assert (server.connections("one"), server.open_transactions("one")) == (0, 0)
        assert all(map(broken, connections))
        spared.exec_driver_sql("SELECT 1")
    assert server.kill_connections("one") == 0


def test_requires_password(server: DatabaseServer) -> None:
    server.create("one")
    with pytest.raises(OperationalError, match=r"password|denied"):
        connect(make_url(server.url("one")).set(password="x"))


@pytest.mark.parametrize("product", PRODUCTS)
def test_stops_server_at_end_of_block(shared_folder: Path, product: type[DatabaseServer]) -> None:
    with product(shared_folder / "data") as server:
        server.create("one")
        connection = connect(server.url("one"))
    assert broken(connection)
    with pytest.raises(OperationalError, match="refused"):
        connect(server.url("one"))
    assert not list((shared_folder / "data" / "data").glob("*.pid"))


def test_locked_table_is_blocked_until_released(server: DatabaseServer) -> None:
    idle_and_busy(server)[1].close()
    wait = {"PostgreSQL": "SET lock_timeout = '50ms'", "MariaDB": "SET lock_wait_timeout = 1"}
    with server.lock("one", "t") as lock:
        with pytest.raises(DBAPIError, match=r"(?i)lock (wait )?timeout"):
            ask(server, "one", wait[server.product], "SELECT * FROM t")
        lock.close()
        assert ask(server, "one", "SELECT count(*) FROM t") == 0
    with pytest.raises(KeyboardInterrupt), server.lock("one", "t"):
        raise KeyboardInterrupt
    assert ask(server, "one", "SELECT count(*) FROM t") == 0


def test_lock_of_table_in_use_times_out(server: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "LOCK_PATIENCE", 1)
    for connection in idle_and_busy(server):
        with pytest.raises(
            Problem, match=r"(?i)The table t could not be locked: .*lock (wait )?timeout"
        ) as raised:
            server.lock("one", "t")
        assert comes_to(2, server.connections)
        assert (
            raised.tb
        )  # the traceback keeps the connection alive, so it is not closed by garbage collection
        connection.exec_driver_sql("SELECT 1")


@pytest.mark.parametrize(
    ("product", "file", "content"),
    [(PostgreSQL, "postgresql.conf", "shared_buffers = nonsense\n"), (MariaDB, "ibdata1", "nonsense")],
)
def test_reports_why_it_does_not_start(
    shared_folder: Path, product: type[DatabaseServer], file: str, content: str
) -> None:
    with product(shared_folder / "server") as server:
        server.stop()
        (shared_folder / "server" / "data" / file).write_text(content)
        reason = rf"(?s){product.product} did not start:.*({content.split()[0]}|{file})"
        with pytest.raises(Problem, match=reason):
            server.restart()


def test_reports_missing_mariadb_and_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("airflow_auth_patches.demo.mariadb.SEARCH_PATH", str(tmp_path))
    with pytest.raises(Problem, match="MariaDB is not installed: mariadbd was not found") as raised:
        MariaDB(tmp_path / "mariadb")
    assert "mariadb-server-core" in raised.value.remedy


@pytest.mark.parametrize("product", PRODUCTS)
def test_as_root_rejects_folder_that_user_cannot_access(
    tmp_path: Path, product: type[DatabaseServer]
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    if os.geteuid() == 0:
        with pytest.raises(Problem, match=r"the user nobody cannot access .*closed"):
            product(closed / "data")
    else:
        with product(closed / "data") as server:
            server.create("one")
