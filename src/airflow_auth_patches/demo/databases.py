"""Private database servers: what PostgreSQL and MariaDB have in common."""

from __future__ import annotations

import copy
import os
import secrets
import shutil
import signal
import stat
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from airflow_auth_patches.demo.managed import ManagedProcess
from airflow_auth_patches.demo.ports import port_of, reserve_port
from airflow_auth_patches.util.errors import Exit, Problem

START_DEADLINE = 60.0
KILL_DEADLINE = 10.0
#: Seconds to wait for other transactions that use a table to lock.
LOCK_PATIENCE = 3


class NotInstalled(Problem):
    """Raised when the programs of a database server are not installed."""


class DatabaseServer(AbstractContextManager["DatabaseServer"]):
    """
    A private database server with any number of databases, stopped at the end of a ``with`` block.

    It listens on a port of 127.0.0.1 and has a random password. As root, it runs as the user ``nobody``.

    :param folder: the folder to create for the data and the log.
    :raises Problem: when it is not installed or does not start.
    :ivar version: the version of the server.
    :cvar product: the display name.
    :cvar variables: additional environment variables that Airflow needs for this database.
    :cvar address: the SQLAlchemy URL, without the password, the port and the name of the database.
    :cvar async_driver: the driver in the URL, and the asyncio driver that replaces it.
    :cvar stop_signal: the signal that stops the server without waiting for its clients.
    """

    product: str
    variables: Mapping[str, str] = {}
    address: str
    async_driver: tuple[str, str]
    stop_signal = signal.SIGTERM
    #: The database that administrative statements connect to, if the server needs one.
    _admin_database = ""
    #: SQL for the ids of the connections to a database, and of those that are idle in a transaction.
    _connections: str
    _open_transactions: str
    #: Seconds until the server shows a transaction.
    _delay = 0.0
    _kill: str
    _drop = "DROP DATABASE IF EXISTS {name}"
    #: SQL to lock a table, after which no other connection can read or write it.
    _lock: tuple[str, ...]

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._password = secrets.token_hex(16)
        self._user = "nobody" if os.geteuid() == 0 else None
        self._data = folder / "data"
        self._server: ManagedProcess | None = None
        self.version = ""
        self._reservation = reserve_port()
        self.port = port_of(self._reservation)
        self._engine: Engine = create_engine(
            self.url(self._admin_database),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"connect_timeout": 10},
            # Statements without values can contain percent signs.
            execution_options={"no_parameters": True},
        )
        folder.mkdir(mode=0o711)
        self._check_access()
        self._initialise()
        self._start()

    def url(self, name: str) -> str:
        """
        Return the synchronous SQLAlchemy URL of a database.

        :param name: the name of the database.
        """
        return self.address.format(password=self._password, port=self.port, name=name)

    def async_url(self, name: str) -> str:
        """
        Return the asyncio SQLAlchemy URL of a database.

        :param name: the name of the database.
        """
        return self.url(name).replace(*self.async_driver, 1)

    @abstractmethod
    def create(self, name: str, template: str | None = None) -> None:
        """
        Create a database.

        :param name: the name of the database.
        :param template: the database to copy; its connections are killed first. By default, an empty
            database.
        """

    def drop(self, name: str) -> None:
        """
        Kill the connections to a database and remove it. Does nothing if it does not exist.

        :param name: the name of the database.
        """
        self.kill_connections(name)
        self._execute(self._drop.format(name=self._quoted(name)))

    def kill_connections(self, name: str) -> int:
        """
        Close every connection to a database on the server's side, and wait until they are closed.

        :param name: the name of the database.
        :return: the number of closed connections.
        """
        ids = self._select(self._connections, name)
        with self._engine.connect() as admin:
            for each in ids:
                with suppress(OperationalError):  # the connection is closed already
                    admin.execute(text(self._kill), {"id": each})
        # There are no other clients, so the remaining connections are the ones being closed.
        deadline = time.monotonic() + KILL_DEADLINE
        while self.connections(name):
            if time.monotonic() > deadline:
                raise Problem(
                    f"{self.product} did not close the connections to {name}.",
                    "Run it again on an idle machine.",
                    Exit.FAILED,
                )
            time.sleep(0.005)
        return len(ids)

    def connections(self, name: str) -> int:
        """
        Return the number of connections to a database.

        :param name: the name of the database.
        """
        return len(self._select(self._connections, name))

    def open_transactions(self, name: str) -> int:
        """
        Return the number of connections to a database that are idle in a transaction.

        :param name: the name of the database.
        """
        time.sleep(self._delay)
        return len(self._select(self._open_transactions, name))

    def lock(self, name: str, table: str) -> Connection:
        """
        Lock a table. Other connections cannot read or write it until the returned connection is closed.

        :param name: the name of the database.
        :param table: the name of the table.
        :raises Problem: when another transaction uses the table for longer than `LOCK_PATIENCE`.
        """
        connection = create_engine(self.url(name), poolclass=NullPool).connect()
        try:
            for statement in self._lock:
                connection.exec_driver_sql(statement.format(table=self._quoted(table), seconds=LOCK_PATIENCE))
        except BaseException as error:
            connection.close()
            if not isinstance(error, DBAPIError):
                raise
            raise Problem(
                f"The table {table} could not be locked: {error.orig}",
                "Close the transactions that use it.",
                Exit.FAILED,
            ) from error
        return connection

    def through(self, port: int) -> DatabaseServer:
        """
        Return this server for clients that use another port, for example that of a proxy in front of it.

        Administrative statements still go to the server itself.

        :param port: the port.
        """
        other = copy.copy(self)
        other.port = port
        other._server = None  # the copy must not stop the server
        return other

    def restart(self) -> None:
        """Stop and start the server, with the same port and the same data."""
        self.stop()
        self._start()

    def stop(self) -> None:
        """Stop the server. Does nothing if it is stopped."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def _initialise(self) -> None:
        """Create the data, once."""

    @abstractmethod
    def _command(self) -> list[str | Path]:
        """Return the command that starts the server."""

    def _run(self, *command: str | Path) -> ManagedProcess:
        """Start a program of the server."""
        # The variables of the user (``PGDATA``, ``PGPORT``, ...) would change it.
        env = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        log, signal_ = self._folder / "log", self.stop_signal
        return ManagedProcess(
            command, env=env, cwd=self._folder, log=log, stop_signal=signal_, grace=20, user=self._user
        )

    def _start(self) -> None:
        """Start the server and wait until it responds."""
        self._server = self._run(*self._command())
        deadline = time.monotonic() + START_DEADLINE
        while True:
            try:
                self._engine.connect().close()
                # The dialect reads it in the first connection.
                self.version = ".".join(map(str, getattr(self._engine.dialect, "server_version_info", ())))
                return
            except Exception as error:
                if not self._server.running or time.monotonic() > deadline:
                    tail = self._server.tail()
                    self.stop()
                    raise Problem(
                        f"{self.product} did not start:\n{tail}",
                        "Correct the error above and run it again.",
                        Exit.FAILED,
                    ) from error
                time.sleep(0.05)

    def _select(self, statement: str, name: str) -> Sequence[Any]:
        """Return the first column of a query on a database."""
        with self._engine.connect() as admin:
            return admin.scalars(text(statement), {"name": name}).all()

    def _execute(self, *statements: str) -> None:
        """Execute statements as they are, in one connection."""
        with self._engine.connect() as admin:
            for statement in statements:
                admin.exec_driver_sql(statement)

    def _quoted(self, name: str) -> str:
        return self._engine.dialect.identifier_preparer.quote_identifier(name)

    def _own(self, *paths: Path) -> None:
        """Give files to the user of the server."""
        if self._user is not None:
            for path in paths:
                shutil.chown(path, self._user)

    def _check_access(self) -> None:
        """
        Check that the user of the server can access its folder.

        :raises Problem: when the server runs as another user without access.
        """
        if self._user is not None and not traversable(self._folder):
            raise Problem(
                f"{self.product} cannot run as root, and the user {self._user} cannot access {self._folder}.",
                "Run as an ordinary user, or set TMPDIR to a folder that every user can access.",
                Exit.USAGE,
            )


def traversable(folder: Path) -> bool:
    """
    Check whether every user has execute permission on a folder and all its parents.

    :param folder: the folder.
    """
    return all(place.stat().st_mode & stat.S_IXOTH for place in (folder, *folder.resolve().parents))
