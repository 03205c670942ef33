"""Databases to run Airflow on, behind one interface; SQLite, which is only files, is here too."""

from __future__ import annotations

import re
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from airflow_auth_patches.util.errors import Problem


class NotInstalled(Problem):
    """A database server whose programs this machine does not have."""


class Lock(ABC):
    """A locked table, released at the end of a ``with`` block or when this process ends."""

    @abstractmethod
    def release(self) -> None:
        """Release it, from any thread; nothing when that is done."""

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class DatabaseServer(ABC):
    """
    One database server of our own, with any number of databases, stopped at the end of a ``with`` block.

    :cvar product: its name, for people.
    :cvar variables: environment variables that Airflow needs to use it, besides those of every setting.
    """

    product: str
    variables: Mapping[str, str] = {}

    @abstractmethod
    def url(self, name: str) -> str:
        """
        Tell the SQLAlchemy URL of a database for synchronous use.

        :param name: the database.
        """

    @abstractmethod
    def async_url(self, name: str) -> str:
        """
        Tell the SQLAlchemy URL of a database for asyncio.

        :param name: the database.
        """

    @abstractmethod
    def create(self, name: str, template: str | None = None) -> None:
        """
        Create a database.

        :param name: the database.
        :param template: the database to copy, whose connections are killed first; empty when not given.
        """

    @abstractmethod
    def drop(self, name: str) -> None:
        """
        Remove a database, its connections killed first; nothing when there is none of that name.

        :param name: the database.
        """

    @abstractmethod
    def kill_connections(self, name: str) -> int:
        """
        Break, on the server's side, every connection to a database, and wait until they are gone.

        :param name: the database.
        :return: how many there were.
        :raises Problem: where the product has no such connections.
        """

    @abstractmethod
    def connections(self, name: str) -> int:
        """
        Count the connections to a database.

        :param name: the database.
        :raises Problem: where the product has no such connections.
        """

    @abstractmethod
    def open_transactions(self, name: str) -> int:
        """
        Count the connections to a database that wait inside a transaction.

        :param name: the database.
        :raises Problem: where the product has no such connections.
        """

    def lock(self, name: str, table: str) -> Lock:
        """
        Lock a table, so that nobody else reads or writes it until it is released.

        :param name: the database.
        :param table: the table.
        :raises Problem: when somebody in a transaction is in the way, or the product has no such locks.
        """
        raise Problem(f"Tables of {self.product} are not locked here.")

    def through(self, port: int) -> DatabaseServer:
        """
        Return this server as it is found at another port, where something passes on to it.

        :param port: the port.
        :raises Problem: where the product has no ports.
        """
        raise Problem(f"{self.product} is not reached through another port here.")

    @abstractmethod
    def restart(self) -> None:
        """Stop and start the server, on the same port with the same data."""

    @abstractmethod
    def stop(self) -> None:
        """Stop the server for good; nothing when it is stopped."""

    def __enter__(self) -> DatabaseServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class SQLite(DatabaseServer):
    """
    SQLite: a file for each database, and no server.

    :param folder: a folder to make, for the files.
    """

    product = "SQLite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    def path(self, name: str) -> Path:
        """
        Tell the file of a database.

        :param name: the database.
        """
        return self._folder / f"{checked(name)}.db"

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
        """Nothing: there is no server."""

    def stop(self) -> None:
        """Nothing: there is no server."""


def _no_connections() -> Problem:
    return Problem("SQLite has no server, so its connections can be neither counted nor killed.")


def checked(name: str) -> str:
    """
    Return the name of a database, when it can stand in a statement or a path as it is.

    :raises ValueError: when it cannot.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
        raise ValueError(f"not a plain database name: {name!r}")
    return name
