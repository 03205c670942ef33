"""Boot, measure and stop a real ``airflow api-server`` with FabAuthManager."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import jwt

from airflow_auth_patches.demo import pages
from airflow_auth_patches.demo.databases import DatabaseServer
from airflow_auth_patches.demo.managed import ManagedProcess, stop_all
from airflow_auth_patches.demo.ports import port_of, reserve_port
from airflow_auth_patches.demo.preparation import Preparation, Settings, install_plugins
from airflow_auth_patches.demo.reached import Reached
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.signals import Interrupted, check, shield

BOOT_DEADLINE = 180.0
RUN_DEADLINE = 120.0
#: Seconds to shut down before it is killed; short, because its state is not used again.
GRACE = 0.5


class Server(Reached):
    """
    An API server with a private database, stopped at the end of a ``with`` block.

    It starts when the block is entered. Call ``wait`` before the first request.

    :param environment: the environment with the releases.
    :param pair: the releases, core first: ``3.1.6+3.3.0``.
    :param name: the name of its database.
    :param prepared: the template of its database.
    :param settings: the settings.
    :param log: the file for its output.
    :param sibling: the name among several servers on one database; empty for the server that owns the
        database.
    """

    database: DatabaseServer

    def __init__(
        self,
        environment: Environment,
        pair: str,
        name: str,
        *,
        prepared: Preparation,
        settings: Settings,
        log: Path,
        sibling: str = "",
    ) -> None:
        self._reservation = reserve_port()
        self._port = port_of(self._reservation)
        super().__init__(f"http://127.0.0.1:{self._port}", pair)
        self.database = prepared.database
        self.name = name
        self.log = log
        self.settings = settings
        self._environment = environment
        self._prepared = prepared
        self._sibling = sibling
        self._process: ManagedProcess | None = None

    def __enter__(self) -> Server:
        self.log.unlink(missing_ok=True)
        if not self._sibling:
            self.database.drop(self.name)
            self.database.create(self.name, self._prepared.name)
        self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with shield():
            self.close()
            if kind is not None and issubclass(kind, Interrupted):
                stop_all()  # at once, the database too: its data is removed anyway
                return
            self.stop()
            if not self._sibling:
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
        Return another server of the same releases on the same database, for a nested ``with`` block.

        :param name: its name; it is appended to the name of the log.
        :param settings: its settings; by default those of this server.
        :param probes: the probes to load into it; by default those of the settings.
        :param database: the same database server with another port, if it is reached through a proxy.
        """
        settings = settings or self.settings
        other = Server(
            self._environment,
            self.pair,
            self.name,
            prepared=self._prepared,
            settings=settings if probes is None else replace(settings, probes=probes),
            log=self.log.with_name(f"{self.log.stem}-{name}.log"),
            sibling=name,
        )
        other.database = database or self.database
        return other

    def _start(self) -> None:
        home = self._prepared.folder / "-".join(filter(None, (self.name, self._sibling)))
        home.mkdir(exist_ok=True)
        install_plugins(home, self.settings)
        self._process = ManagedProcess(
            [
                *(self._environment.airflow, "api-server", "--host", "127.0.0.1"),
                *("--port", str(self._port)),
            ],
            env=self._prepared.variables(home, self.database, self.name, self.settings),
            cwd=home,
            log=self.log,
            grace=GRACE,
        )

    def wait(self, deadline: float = BOOT_DEADLINE) -> Server:
        """
        Wait until the server responds.

        :param deadline: seconds.
        :return: the server.
        :raises Problem: when it ends or does not respond in time; with the end of its log.
        """
        assert self._process is not None
        end = time.monotonic() + deadline
        while not self.healthy(5):
            check()
            if not self._process.running or time.monotonic() > end:
                why = f"did not respond within {deadline:.0f} s" if self._process.running else "ended"
                tail = self._process.tail(25)
                self.stop()
                raise Problem(
                    f"The API server of {self.pair} {why}:\n{tail}",
                    "Correct the error above and run it again.",
                    Exit.FAILED,
                )
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        """Stop the server, and kill it after a grace period. Does nothing if it is stopped."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def run(self, program: Path, *arguments: str) -> None:
        """
        Run a Python program in the server's environment, with its configuration and its database.

        :param program: the file.
        :param arguments: the arguments of the program.
        :raises Problem: when it fails or takes longer than `RUN_DEADLINE`; with the end of its output.
        """
        home = self._prepared.folder / f"{self.name}-{program.stem}"
        home.mkdir(exist_ok=True)
        ManagedProcess(
            [self._environment.python, program, *arguments],
            env=self._prepared.variables(home, self.database, self.name, Settings()),
            cwd=home,
            log=home / "log",
        ).finish(RUN_DEADLINE, f"{program.stem} for {self.pair}")

    def restart(self) -> None:
        """Restart the server with the same database, and wait until it responds."""
        self.stop()
        if not self._sibling:
            self.database.kill_connections(self.name)
        self._start()
        self.wait()

    def tokens(self, count: int, users: Sequence[int] = ()) -> list[str]:
        """
        Return tokens that differ only in their ``jti``, as if the user had logged in several times.

        :param count: the number of tokens.
        :param users: ids of users, used in turn; by default only the administrator.
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
        Return a copy of a token with some claims replaced.

        :param claims: the claims to replace.
        :param like: the token to copy.
        :return: the new token, signed with the server's secret.
        """
        header = jwt.get_unverified_header(like)
        known = jwt.decode(like, options={"verify_signature": False})
        secret = self._prepared.keys.jwt
        return jwt.encode({**known, **claims}, secret, algorithm=header["alg"], headers=header)

    def memory(self) -> int:
        """Return the total resident memory of its processes, in bytes; 0 if it is stopped."""
        return self._process.memory() if self._process is not None else 0

    def reset(self, *probes: str) -> None:
        pages.reset(self.url, *probes)

    def log_size(self) -> int:
        return self.log.stat().st_size

    def log_since(self, mark: int = 0) -> str:
        with self.log.open("rb") as file:
            file.seek(mark)
            return file.read().decode(errors="replace")
