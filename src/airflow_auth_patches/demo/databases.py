"""The common interface of the databases that Airflow runs on, and its implementation for SQLite."""

from __future__ import annotations

import re
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from airflow_auth_patches.util.errors import Problem


class NotInstalled(Problem):
    """Raised when the programs of a database server are not installed."""


class Lock(ABC):
    """A table lock. It is released at the end of a ``with`` block or when this process ends."""

    @abstractmethod
    def release(self) -> None:
        """Release the lock. Safe to call from any thread and more than once."""

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class DatabaseServer(ABC):
    """
    A private database server with any number of databases, stopped at the end of a ``with`` block.

    :cvar product: the display name.
    :cvar variables: additional environment variables that Airflow needs for this database.
    """

    product: str
    variables: Mapping[str, str] = {}

    @abstractmethod
    def url(self, name: str) -> str:
        """
        Return the synchronous SQLAlchemy URL of a database.

        :param name: the name of the database.
        """

    @abstractmethod
    def async_url(self, name: str) -> str:
        """
        Return the asyncio SQLAlchemy URL of a database.

        :param name: the name of the database.
        """

    @abstractmethod
    def create(self, name: str, template: str | None = None) -> None:
        """
        Create a database.

        :param name: the name of the database.
        :param template: the database to copy; its connections are killed first. By default, an empty
            database.
        """

    @abstractmethod
    def drop(self, name: str) -> None:
        """
        Kill the connections to a database and remove it. Does nothing if it does not exist.

        :param name: the name of the database.
        """

    @abstractmethod
    def kill_connections(self, name: str) -> int:
        """
        Close every connection to a database on the server's side, and wait until they are closed.

        :param name: the name of the database.
        :return: the number of closed connections.
        :raises Problem: when the product does not support this.
        """

    @abstractmethod
    def connections(self, name: str) -> int:
        """
        Return the number of connections to a database.

        :param name: the name of the database.
        :raises Problem: when the product does not support this.
        """

    @abstractmethod
    def open_transactions(self, name: str) -> int:
        """
        Return the number of connections to a database that are idle in a transaction.

        :param name: the name of the database.
        :raises Problem: when the product does not support this.
        """

    def lock(self, name: str, table: str) -> Lock:
        """
        Lock a table. Other connections cannot read or write it until the lock is released.

        :param name: the name of the database.
        :param table: the name of the table.
        :raises Problem: when another transaction uses the table, or the product does not support this.
        """
        raise Problem(f"Locking a table of {self.product} is not supported.", "Use PostgreSQL.")

    def through(self, port: int) -> DatabaseServer:
        """
        Return this server with another port, for example the port of a proxy in front of it.

        :param port: the port.
        :raises Problem: when the product has no ports.
        """
        raise Problem(f"{self.product} has no port.", "Use PostgreSQL.")

    @abstractmethod
    def restart(self) -> None:
        """Stop and start the server, with the same port and the same data."""

    @abstractmethod
    def stop(self) -> None:
        """Stop the server. Does nothing if it is stopped."""

    def __enter__(self) -> DatabaseServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class SQLite(DatabaseServer):
    """
    SQLite, with one file per database and no server.

    :param folder: the folder to create for the files.
    """

    product = "SQLite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    def path(self, name: str) -> Path:
        """
        Return the file of a database.

        :param name: the name of the database.
        """
        return self._folder / f"{valid_name(name)}.db"

    def url(self, name: str) -> str:
        return f"sqlite:///{self.path(name).resolve()}"

    def async_url(self, name: str) -> str:
        return f"sqlite+aiosqlite:///{self.path(name).resolve()}"

    def create(self, name: str, template: str | None = None) -> None:
        target = sqlite3.connect(self.path(name))
        try:
            if template:
                source = sqlite3.connect(self.path(template))
                try:
                    source.backup(target)
                finally:
                    source.close()
        finally:
            target.close()

    def drop(self, name: str) -> None:
        for suffix in ("", "-journal", "-wal", "-shm"):
            Path(f"{self.path(name)}{suffix}").unlink(missing_ok=True)

    def kill_connections(self, name: str) -> int:
        raise _no_connections()

    def connections(self, name: str) -> int:
        raise _no_connections()

    def open_transactions(self, name: str) -> int:
        raise _no_connections()

    def restart(self) -> None:
        """Do nothing: SQLite has no server."""

    def stop(self) -> None:
        """Do nothing: SQLite has no server."""


def _no_connections() -> Problem:
    return Problem("SQLite has no server, so its connections cannot be counted or killed.", "Use PostgreSQL.")


def valid_name(name: str) -> str:
    """
    Return the name of a database if it is safe to use in a SQL statement or a path.

    :param name: lower-case letters, digits and underscores.
    :raises ValueError: when it is not.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
        raise ValueError(f"invalid database name {name!r}: use lower-case letters, digits and underscores")
    return name
