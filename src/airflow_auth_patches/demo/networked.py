"""What database servers that listen on a port have in common."""

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
    A server on a port of 127.0.0.1 with a random password and its own folder; as root, it runs as ``nobody``.

    :param folder: a folder to make, for the data and the log.
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
        """The port that it listens on."""
        return self._port

    def through(self: T, port: int) -> T:
        other = copy.copy(self)
        other._port = port
        other._server = None  # it is not the other's to stop
        return other

    def kill_connections(self, name: str) -> int:
        told = self._end_connections(name)
        # Nobody else connects here, so those that are left are those that were told.
        deadline = time.monotonic() + KILL_DEADLINE
        while self.connections(name):
            if time.monotonic() > deadline:
                raise Problem(f"{self.product} did not end the connections to {name}.", "", Exit.FAILED)
            time.sleep(0.005)
        return told

    def restart(self) -> None:
        self.stop()
        self._start(self._port)

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    @abstractmethod
    def _end_connections(self, name: str) -> int:
        """Tell the connections to a database to end; return how many there were."""

    @abstractmethod
    def _launch(self) -> ManagedProcess:
        """Start the program on the port."""

    @abstractmethod
    def _answer(self) -> None:
        """Return once the server has answered a question; raise while it does not."""

    def _start(self, port: int = 0) -> None:
        """Start the server and wait until it answers."""
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
                    raise Problem(f"{self.product} did not start:\n{tail}", "", Exit.FAILED) from error
                time.sleep(0.05)

    def _refuse_what_its_user_cannot_reach(self) -> None:
        """
        Do nothing unless the server runs as another user, who cannot pass to its folder.

        :raises Problem: when it is so.
        """
        if self._user is not None and not traversable(self._folder):
            raise Problem(
                f"{self.product} cannot run as root, and the user {self._user} cannot reach {self._folder}.",
                "Run as an ordinary user, or let TMPDIR name a folder that everyone can pass through.",
                Exit.USAGE,
            )


def traversable(folder: Path) -> bool:
    """
    Tell whether every user may pass through a folder and all those above it.

    :param folder: the folder.
    """
    return all(place.stat().st_mode & stat.S_IXOTH for place in (folder, *folder.resolve().parents))
