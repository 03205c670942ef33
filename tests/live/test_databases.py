"""Databases behind one interface."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from airflow_auth_patches.errors import Problem
from airflow_auth_patches.live.databases import DatabaseServer, SQLite
from airflow_auth_patches.live.postgresql import PostgreSQL


@pytest.fixture
def postgresql(room: Path) -> Iterator[PostgreSQL]:
    with PostgreSQL(room / "postgresql") as server:
        yield server


@pytest.fixture(params=["PostgreSQL", "SQLite"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseServer:
    if request.param == "SQLite":
        return SQLite(tmp_path / "sqlite")
    found: DatabaseServer = request.getfixturevalue("postgresql")
    return found


def connect(server: DatabaseServer, name: str) -> Any:
    url = server.url(name)
    if url.startswith("sqlite:///"):
        return sqlite3.connect(url.removeprefix("sqlite:///"))
    return psycopg2.connect(url.replace("+psycopg2", ""))


def ask(server: DatabaseServer, name: str, statement: str) -> list[tuple[Any, ...]]:
    connection = connect(server, name)
    try:
        cursor = connection.cursor()
        cursor.execute(statement)
        rows = cursor.fetchall() if cursor.description else []
        connection.commit()
        return rows
    finally:
        connection.close()


def test_a_copy_has_what_its_template_has_and_a_life_of_its_own(server: DatabaseServer) -> None:
    server.create("base")
    ask(server, "base", "CREATE TABLE t (n INTEGER)")
    ask(server, "base", "INSERT INTO t VALUES (1)")
    server.create("one", "base")
    server.create("two", "base")
    ask(server, "one", "INSERT INTO t VALUES (2)")
    counts = [ask(server, name, "SELECT count(*) FROM t") for name in ("base", "one", "two")]
    assert counts == [[(1,)], [(2,)], [(1,)]]


def test_a_dropped_database_can_be_made_anew(server: DatabaseServer) -> None:
    server.drop("one")  # there is none
    server.create("one")
    ask(server, "one", "CREATE TABLE t (n INTEGER)")
    server.drop("one")
    server.create("one")
    ask(server, "one", "CREATE TABLE t (n INTEGER)")


def test_a_restart_keeps_data_and_url(server: DatabaseServer) -> None:
    server.create("one")
    ask(server, "one", "CREATE TABLE t (n INTEGER)")
    before = server.url("one")
    server.restart()
    assert server.url("one") == before
    assert ask(server, "one", "SELECT count(*) FROM t") == [(0,)]


@pytest.mark.parametrize("name", ['a"; DROP DATABASE postgres; --', "../up", "", "Upper", "1st", "a" * 64])
def test_refuses_a_name_that_is_more_than_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a plain database name"):
        SQLite(tmp_path / "sqlite").create(name)


def test_async_urls(postgresql: PostgreSQL, tmp_path: Path) -> None:
    assert postgresql.async_url("one") == postgresql.url("one").replace("psycopg2", "asyncpg")
    assert SQLite(tmp_path / "sqlite").async_url("one").startswith("sqlite+aiosqlite:////")


def test_killed_connections_are_dead_and_counted(postgresql: PostgreSQL) -> None:
    postgresql.create("one")
    postgresql.create("other")
    idle, busy, spared = (connect(postgresql, name) for name in ("one", "one", "other"))
    busy.cursor().execute("SELECT 1")
    assert (postgresql.connections("one"), postgresql.open_transactions("one")) == (2, 1)
    assert postgresql.kill_connections("one") == 2
    assert (postgresql.connections("one"), postgresql.open_transactions("one")) == (0, 0)
    for connection in (idle, busy):
        with pytest.raises(psycopg2.OperationalError):
            connection.cursor().execute("SELECT 1")
    spared.cursor().execute("SELECT 1")
    for connection in (idle, busy, spared):
        connection.close()
    assert postgresql.kill_connections("one") == 0


def test_a_template_in_use_can_be_copied(postgresql: PostgreSQL) -> None:
    postgresql.create("base")
    connection = connect(postgresql, "base")
    postgresql.create("one", "base")
    connection.close()
    assert postgresql.connections("one") == 0


def test_needs_its_password(postgresql: PostgreSQL) -> None:
    url = postgresql.url("postgres").replace("+psycopg2", "")
    head, _, tail = url.partition("@")
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(f"{head[:-1]}x@{tail}")


def test_nothing_answers_after_the_end(room: Path) -> None:
    with PostgreSQL(room / "postgresql") as server:
        url = server.url("postgres").replace("+psycopg2", "")
        connection = psycopg2.connect(url)
    with pytest.raises(psycopg2.OperationalError):
        connection.cursor().execute("SELECT 1")
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        psycopg2.connect(url)
    assert not (room / "postgresql" / "data" / "postmaster.pid").exists()


def test_sqlite_has_no_connections_to_kill(tmp_path: Path) -> None:
    server = SQLite(tmp_path / "sqlite")
    for ask_for in (server.kill_connections, server.connections, server.open_transactions):
        with pytest.raises(Problem, match="SQLite has no server"):
            ask_for("one")


def test_says_why_it_does_not_start(postgresql: PostgreSQL, room: Path) -> None:
    with (room / "postgresql" / "data" / "postgresql.conf").open("a") as settings:
        settings.write("shared_buffers = nonsense\n")
    with pytest.raises(Problem, match=r"(?s)PostgreSQL did not start:.*shared_buffers"):
        postgresql.restart()


def test_as_root_names_a_folder_that_its_user_cannot_reach(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    if os.geteuid() == 0:
        with pytest.raises(Problem, match=r"the user nobody cannot reach .*closed"):
            PostgreSQL(closed / "postgresql")
    else:
        with PostgreSQL(closed / "postgresql") as server:
            server.create("one")
