"""The common base class of database servers that listen on a port."""

from __future__ import annotations

import copy
import os
import secrets
import stat
import time
from abc import abstractmethod
from pathlib import Path
from typing import TypeVar

from airflow_auth_patches.demo.databases import DatabaseServer
from airflow_auth_patches.demo.managed import ManagedProcess
from airflow_auth_patches.demo.ports import free_port
from airflow_auth_patches.util.errors import Exit, Problem

START_DEADLINE = 60.0
KILL_DEADLINE = 10.0
T = TypeVar("T", bound="Networked")


class Networked(DatabaseServer):
    """
    A server on a port of 127.0.0.1 with a random password. As root, it runs as the user ``nobody``.

    :param folder: the folder to create for the data and the log.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._password = secrets.token_hex(16)
        self._user = "nobody" if os.geteuid() == 0 else None
        self._data = folder / "data"
        self._log = folder / "log"
        self._port = 0
        self._server: ManagedProcess | None = None
        folder.mkdir(mode=0o711)

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._port

    def through(self: T, port: int) -> T:
        other = copy.copy(self)
        other._port = port
        other._server = None  # the copy must not stop the server
        return other

    def kill_connections(self, name: str) -> int:
        closed = self._end_connections(name)
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
        return closed

    def restart(self) -> None:
        self.stop()
        self._start(self._port)

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    @abstractmethod
    def _end_connections(self, name: str) -> int:
        """Start closing the connections to a database, and return their number."""

    @abstractmethod
    def _launch(self) -> ManagedProcess:
        """Start the program on the port."""

    @abstractmethod
    def _answer(self) -> None:
        """Run a query; raise an exception if the server does not respond."""

    def _start(self, port: int = 0) -> None:
        """Start the server and wait until it responds."""
        self._port = port or free_port()
        self._server = self._launch()
        deadline = time.monotonic() + START_DEADLINE
        while True:
            try:
                return self._answer()
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
