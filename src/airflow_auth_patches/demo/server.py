"""A real ``airflow api-server`` with FabAuthManager: booted, asked, watched and stopped."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import jwt

from airflow_auth_patches.demo.databases import DatabaseServer
from airflow_auth_patches.demo.interrupts import check, shield
from airflow_auth_patches.demo.managed import ManagedProcess
from airflow_auth_patches.demo.memory import resident
from airflow_auth_patches.demo.ports import free_port
from airflow_auth_patches.demo.preparation import Preparation, Settings, airflow_environment, place_inside
from airflow_auth_patches.demo.reached import Reached
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.util.errors import Exit, Problem

BOOT_DEADLINE = 180.0
#: Seconds to end by itself: short, as nothing that it would tidy up is used again.
GRACE = 0.5


class Server(Reached):
    """
    One API server with a database of its own, or another's, stopped at the end of a ``with`` block.

    Starts when the block is entered; ``wait`` before the first use.

    :param environment: the releases to run.
    :param pair: what they are called, core first: ``3.1.6+3.3.0``.
    :param name: the name of its database.
    :param prepared: what its database is copied from.
    :param settings: pool, caches and what is loaded into it.
    :param log: file for what the server prints.
    :param beside: what to call it among those on one database; empty for the one that makes the database.
    """

    def __init__(
        self,
        environment: Environment,
        pair: str,
        name: str,
        *,
        prepared: Preparation,
        settings: Settings,
        log: Path,
        beside: str = "",
    ) -> None:
        self._port = free_port()
        super().__init__(f"http://127.0.0.1:{self._port}", pair)
        self.database = prepared.database
        self.name = name
        self.log = log
        self.settings = settings
        self._environment = environment
        self._prepared = prepared
        self._beside = beside
        self._process: ManagedProcess | None = None

    def __enter__(self) -> Server:
        self.log.unlink(missing_ok=True)
        if not self._beside:
            self.database.drop(self.name)
            self.database.create(self.name, self._prepared.name)
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with shield():
            self.close()
            self.stop()
            if not self._beside:
                self.database.drop(self.name)

    def sibling(
        self,
        name: str = "sibling",
        *,
        settings: Settings | None = None,
        probes: tuple[str, ...] | None = None,
        database: DatabaseServer | None = None,
    ) -> Server:
        """
        Make another server process of the same releases on the same database, for a block inside this one's.

        :param name: what to call it; its log is this one's with that at the end.
        :param settings: its pool and caches; this one's when not given.
        :param probes: what is loaded into it; as the settings say when not given.
        :param database: the same database server, where this process is to find it elsewhere.
        """
        settings = settings or self.settings
        other = Server(
            self._environment,
            self.pair,
            self.name,
            prepared=self._prepared,
            settings=settings if probes is None else replace(settings, probes=probes),
            log=self.log.with_name(f"{self.log.stem}-{name}.log"),
            beside=name,
        )
        other.database = database or self.database
        return other

    def _start(self) -> None:
        made = self._prepared
        home = made.folder / "-".join(filter(None, (self.name, self._beside)))
        home.mkdir(exist_ok=True)
        place_inside(home, self.settings)
        self._process = ManagedProcess(
            [
                *(self._environment.airflow, "api-server", "--workers", "1"),
                *("--host", "127.0.0.1", "--port", str(self._port)),
            ],
            env=airflow_environment(
                home, made.folder / "dags", self.database, self.name, made.keys, self.settings
            ),
            cwd=home,
            log=self.log,
            grace=GRACE,
        )

    def wait(self, deadline: float = BOOT_DEADLINE) -> Server:
        """
        Wait until it answers.

        :param deadline: seconds.
        :return: itself.
        :raises Problem: when it ends, or does not answer in time; with the end of its log.
        """
        assert self._process is not None
        end = time.monotonic() + deadline
        while not self.healthy(5):
            check()
            if not self._process.running or time.monotonic() > end:
                why = f"did not answer within {deadline:.0f} s" if self._process.running else "ended"
                tail = self._process.tail(25)
                self.stop()
                raise Problem(f"The API server of {self.pair} {why}:\n{tail}", "", Exit.FAILED)
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        """End it, by force after a grace; nothing when it has ended."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def run(self, program: Path, *arguments: str, deadline: float = 120.0) -> None:
        """
        Run a Python program in the server's environment, with its configuration and on its database.

        :param program: the file.
        :param arguments: what it is given.
        :param deadline: seconds.
        :raises Problem: when it fails or takes longer; with the end of what it printed.
        """
        made = self._prepared
        home = made.folder / f"{self.name}-{program.stem}"
        home.mkdir(exist_ok=True)
        ManagedProcess(
            [self._environment.python, program, *arguments],
            env=airflow_environment(
                home, made.folder / "dags", self.database, self.name, made.keys, Settings()
            ),
            cwd=home,
            log=home / "log",
        ).finish(deadline, f"{program.stem} for {self.pair}")

    def restart(self) -> None:
        """Stop and start it, with the same database, and wait until it answers."""
        self.stop()
        if not self._beside:
            self.database.kill_connections(self.name)
        self._start()
        self.wait()

    def tokens(self, count: int, users: Sequence[int] = ()) -> list[str]:
        """
        Make tokens that differ in their ``jti`` only, as if the user had logged in so many times.

        :param count: how many.
        :param users: ids of users to take in turn; the administrator alone when there are none.
        :return: the tokens, signed with the server's secret.
        """
        first = self.token()
        subjects: Sequence[int | None] = users or [None]
        return [
            self.sign({"jti": uuid.uuid4().hex, **({} if user is None else {"sub": str(user)})}, first)
            for user in (subjects[number % len(subjects)] for number in range(count))
        ]

    def sign(self, claims: Mapping[str, str | int], like: str) -> str:
        """
        Make a token that has some claims other than another one.

        :param claims: these claims.
        :param like: the other token.
        :return: the token, signed with the server's secret.
        """
        header = jwt.get_unverified_header(like)
        known = jwt.decode(like, options={"verify_signature": False})
        secret = self._prepared.keys.jwt
        return jwt.encode({**known, **claims}, secret, algorithm=header["alg"], headers=header)

    def kill_connections(self) -> int:
        """
        Break all its connections on the database's side.

        :return: how many there were.
        """
        return self.database.kill_connections(self.name)

    def memory(self) -> int:
        """Tell the resident memory of its processes together, in bytes; 0 when it is stopped."""
        return resident(self._process.group) if self._process is not None else 0

    def log_size(self) -> int:
        """Tell how long the log is now, in bytes: a mark for ``log_since``."""
        return self.log.stat().st_size

    def log_since(self, mark: int = 0) -> str:
        """
        Read what it logged after a mark.

        :param mark: what ``log_size`` said.
        """
        with self.log.open("rb") as file:
            file.seek(mark)
            return file.read().decode(errors="replace")
