"""Database servers behind the common interface."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pymysql
import pytest

from airflow_auth_patches.demo.databases import DatabaseServer, SQLite
from airflow_auth_patches.demo.mariadb import MariaDB
from airflow_auth_patches.demo.postgresql import PostgreSQL, TableLock
from airflow_auth_patches.util.errors import Problem


@pytest.fixture
def postgresql(shared_folder: Path) -> Iterator[PostgreSQL]:
    with PostgreSQL(shared_folder / "postgresql") as server:
        yield server


@pytest.fixture
def mariadb(shared_folder: Path) -> Iterator[MariaDB]:
    with MariaDB(shared_folder / "mariadb") as server:
        yield server


@pytest.fixture(params=["PostgreSQL", "MariaDB", "SQLite"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseServer:
    if request.param == "SQLite":
        return SQLite(tmp_path / "sqlite")
    found: DatabaseServer = request.getfixturevalue(request.param.lower())
    return found


@pytest.fixture(params=["PostgreSQL", "MariaDB"])
def real(request: pytest.FixtureRequest) -> DatabaseServer:
    """Return a database server with client connections."""
    found: DatabaseServer = request.getfixturevalue(request.param.lower())
    return found


BROKEN = (psycopg2.OperationalError, pymysql.err.OperationalError)


def connect(server: DatabaseServer, name: str) -> Any:
    url = server.url(name)
    if url.startswith("sqlite:///"):
        return sqlite3.connect(url.removeprefix("sqlite:///"))
    if url.startswith("mysql"):
        parts = urlsplit(url)
        return pymysql.connect(
            host=parts.hostname or "",
            port=parts.port or 0,
            user=parts.username,
            password=parts.password or "",
            database=parts.path.removeprefix("/"),
        )
    return psycopg2.connect(url.replace("+psycopg2", ""))


def ask(server: DatabaseServer, name: str, statement: str) -> list[tuple[Any, ...]]:
    connection = connect(server, name)
    try:
        cursor = connection.cursor()
        cursor.execute(statement)
        rows = list(cursor.fetchall()) if cursor.description else []
        connection.commit()
        return rows
    finally:
        connection.close()


def comes_to(wanted: int, count: Callable[[str], int], deadline: float = 20) -> bool:
    """Check whether a count for ``one`` becomes the wanted number; closed connections are counted briefly."""
    until = time.monotonic() + deadline
    while count("one") != wanted and time.monotonic() < until:
        time.sleep(0.01)
    return count("one") == wanted


def test_copy_has_data_of_template_and_is_independent(server: DatabaseServer) -> None:
    server.create("base")
    ask(server, "base", "CREATE TABLE t (n INTEGER)")
    ask(server, "base", "INSERT INTO t VALUES (1)")
    server.create("one", "base")
    server.create("two", "base")
    ask(server, "one", "INSERT INTO t VALUES (2)")
    counts = [ask(server, name, "SELECT count(*) FROM t") for name in ("base", "one", "two")]
    assert counts == [[(1,)], [(2,)], [(1,)]]


def test_dropped_database_can_be_created_again(server: DatabaseServer) -> None:
    server.drop("one")  # it does not exist
    server.create("one")
    ask(server, "one", "CREATE TABLE t (n INTEGER)")
    server.drop("one")
    server.create("one")
    ask(server, "one", "CREATE TABLE t (n INTEGER)")


def test_restart_keeps_data_and_url(server: DatabaseServer) -> None:
    server.create("one")
    ask(server, "one", "CREATE TABLE t (n INTEGER)")
    before = server.url("one")
    server.restart()
    assert server.url("one") == before
    assert ask(server, "one", "SELECT count(*) FROM t") == [(0,)]


def test_restart_closes_every_connection(real: DatabaseServer) -> None:
    real.create("one")
    ask(real, "one", "CREATE TABLE t (n INTEGER)")
    idle, busy = connect(real, "one"), connect(real, "one")
    busy.cursor().execute("SELECT * FROM t")
    real.restart()
    assert real.connections("one") == 0
    for connection in (idle, busy):
        with pytest.raises(BROKEN):
            connection.cursor().execute("SELECT 1")


@pytest.mark.parametrize("name", ['a"; DROP DATABASE postgres; --', "../up", "", "Upper", "1st", "a" * 64])
def test_rejects_unsafe_database_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="invalid database name"):
        SQLite(tmp_path / "sqlite").create(name)


def test_async_urls_use_async_drivers(postgresql: PostgreSQL, tmp_path: Path) -> None:
    assert postgresql.async_url("one") == postgresql.url("one").replace("psycopg2", "asyncpg")
    assert SQLite(tmp_path / "sqlite").async_url("one").startswith("sqlite+aiosqlite:////")


def test_kill_closes_connections_of_one_database_and_counts_them(real: DatabaseServer) -> None:
    real.create("one")
    real.create("other")
    ask(real, "one", "CREATE TABLE t (n INTEGER)")
    idle, busy, spared = (connect(real, name) for name in ("one", "one", "other"))
    busy.cursor().execute("SELECT * FROM t")
    assert comes_to(2, real.connections)
    assert real.open_transactions("one") == 1
    assert real.kill_connections("one") == 2
    assert (real.connections("one"), real.open_transactions("one")) == (0, 0)
    for connection in (idle, busy):
        with pytest.raises(BROKEN):
            connection.cursor().execute("SELECT 1")
    spared.cursor().execute("SELECT 1")
    spared.close()
    assert real.kill_connections("one") == 0


def test_copies_template_with_open_connections(real: DatabaseServer) -> None:
    real.create("base")
    connect(real, "base").cursor().execute("SELECT 1")
    real.create("one", "base")
    assert real.connections("one") == 0


def test_copy_keeps_foreign_keys(real: DatabaseServer) -> None:
    real.create("base")
    ask(real, "base", "CREATE TABLE b (n INTEGER PRIMARY KEY)")
    ask(real, "base", "CREATE TABLE a (n INTEGER, FOREIGN KEY (n) REFERENCES b (n))")
    ask(real, "base", "INSERT INTO b VALUES (1)")
    ask(real, "base", "INSERT INTO a VALUES (1)")
    real.create("one", "base")
    assert ask(real, "one", "SELECT n FROM a") == [(1,)]
    with pytest.raises((psycopg2.IntegrityError, pymysql.err.IntegrityError)):
        ask(real, "one", "INSERT INTO a VALUES (2)")


def test_requires_password(postgresql: PostgreSQL) -> None:
    url = postgresql.url("postgres").replace("+psycopg2", "")
    head, _, tail = url.partition("@")
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(f"{head[:-1]}x@{tail}")


@pytest.mark.parametrize("product", [PostgreSQL, MariaDB])
def test_stops_server_at_end_of_block(shared_folder: Path, product: type[PostgreSQL] | type[MariaDB]) -> None:
    with product(shared_folder / "data") as server:
        server.create("one")
        connection = connect(server, "one")
    with pytest.raises(BROKEN):
        connection.cursor().execute("SELECT 1")
    with pytest.raises(BROKEN, match="refused"):
        connect(server, "one")
    assert not list((shared_folder / "data" / "data").glob("*.pid"))


def test_locked_table_is_blocked_until_released(postgresql: PostgreSQL) -> None:
    postgresql.create("one")
    ask(postgresql, "one", "CREATE TABLE t (n INTEGER)")
    with postgresql.lock("one", "t") as lock:
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            ask(postgresql, "one", "SET lock_timeout = '50ms'; SELECT * FROM t")
        lock.release()
        assert ask(postgresql, "one", "SELECT count(*) FROM t") == [(0,)]
    assert comes_to(0, postgresql.connections)


def test_releases_lock_at_end_of_block(postgresql: PostgreSQL) -> None:
    postgresql.create("one")
    ask(postgresql, "one", "CREATE TABLE t (n INTEGER)")
    with pytest.raises(KeyboardInterrupt), postgresql.lock("one", "t"):
        raise KeyboardInterrupt
    assert ask(postgresql, "one", "SELECT count(*) FROM t") == [(0,)]


def test_lock_of_table_in_use_times_out(postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TableLock, "PATIENCE", 0.05)
    postgresql.create("one")
    ask(postgresql, "one", "CREATE TABLE t (n INTEGER)")
    user = connect(postgresql, "one")
    user.cursor().execute("SELECT * FROM t")
    with pytest.raises(Problem, match="The table t could not be locked") as raised:
        postgresql.lock("one", "t")
    assert comes_to(1, postgresql.connections)
    assert raised.tb  # the traceback keeps the connection alive, so it is not closed by garbage collection
    user.close()


def test_sqlite_supports_neither_locks_nor_ports(tmp_path: Path) -> None:
    server = SQLite(tmp_path / "sqlite")
    with pytest.raises(Problem, match="Locking a table of SQLite is not supported"):
        server.lock("one", "t")
    with pytest.raises(Problem, match="SQLite has no port"):
        server.through(1)


def test_sqlite_does_not_support_connection_methods(tmp_path: Path) -> None:
    server = SQLite(tmp_path / "sqlite")
    for method in (server.kill_connections, server.connections, server.open_transactions):
        with pytest.raises(Problem, match="SQLite has no server"):
            method("one")


def test_postgresql_reports_why_it_does_not_start(postgresql: PostgreSQL, shared_folder: Path) -> None:
    with (shared_folder / "postgresql" / "data" / "postgresql.conf").open("a") as settings:
        settings.write("shared_buffers = nonsense\n")
    with pytest.raises(Problem, match=r"(?s)PostgreSQL did not start:.*shared_buffers"):
        postgresql.restart()


def test_mariadb_reports_why_it_does_not_start(mariadb: MariaDB, shared_folder: Path) -> None:
    mariadb.stop()
    (shared_folder / "mariadb" / "data" / "ibdata1").write_bytes(b"nonsense")
    with pytest.raises(Problem, match=r"(?s)MariaDB did not start:.*ibdata1"):
        mariadb.restart()


def test_reports_missing_mariadb_and_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("airflow_auth_patches.demo.mariadb.SEARCH_PATH", str(tmp_path))
    with pytest.raises(Problem, match="MariaDB is not installed: mariadbd was not found") as raised:
        MariaDB(tmp_path / "mariadb")
    assert "mariadb-server-core" in raised.value.remedy


@pytest.mark.parametrize("product", [PostgreSQL, MariaDB])
def test_as_root_rejects_folder_that_user_cannot_access(
    tmp_path: Path, product: type[PostgreSQL] | type[MariaDB]
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    if os.geteuid() == 0:
        with pytest.raises(Problem, match=r"the user nobody cannot access .*closed"):
            product(closed / "data")
    else:
        with product(closed / "data") as server:
            server.create("one")
