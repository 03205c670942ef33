"""Lock tables and kill connections in the database of a reached API server, to disturb it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from airflow_auth_patches.util.errors import Exit, Problem, UsageProblem
from airflow_auth_patches.util.signals import shield

PROGRAM = Path(__file__).with_name("run_sql.py")
#: Seconds to wait for other transactions that use a table to lock.
LOCK_PATIENCE = 3
OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
POSTGRESQL = "The database of the server must be PostgreSQL."


class ServerDatabase(contextlib.AbstractContextManager["ServerDatabase"]):
    """
    The database of a running API server, reached with the server's interpreter and configuration.

    :param command: the command that runs the server's interpreter.
    :param port: the port that the server listens on there.
    :raises Problem: if the database cannot be reached, or is not PostgreSQL.
    :ivar pool: the number of connections that the server's pool can have.
    :ivar pool_timeout: seconds for which a request waits for a connection.
    """

    def __init__(self, command: Sequence[str], port: int | str) -> None:
        self._talk = threading.Lock()
        self._process = subprocess.Popen(
            [*command, "-c", PROGRAM.read_text("utf-8"), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C must not end it before its locks are released
        )
        found = self._answer()
        if found.get("dialect") != "postgresql":
            self.close()
            told = f"it is {found['dialect']}" if "dialect" in found else "the server's interpreter ended"
            raise UsageProblem(
                f"The probes cannot use the database of the server: {told}.",
                f"{POSTGRESQL} Set the AIRFLOW__ variables of the server also for this command.",
            )
        self.pool: int = found["pool"]
        self.pool_timeout: float = found["pool_timeout"]

    def _answer(self) -> dict[str, Any]:
        """Return the next answer. Skip other output, such as warnings of Airflow."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        return {}

    def _run(self, connection: str, statement: str | None) -> list[list[Any]]:
        with self._talk:
            assert self._process.stdin is not None
            self._process.stdin.write(f"{json.dumps([connection, statement])}\n")
            self._process.stdin.flush()
            answer = self._answer()
        if "rows" not in answer:
            raise Problem(
                f"The database of the server failed: {answer.get('error', 'no answer')}",
                "Close other transactions, and check the database.",
                Exit.FAILED,
            )
        rows: list[list[Any]] = answer["rows"]
        return rows

    @contextlib.contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Lock a table during a ``with`` block. Other connections can neither read nor write it."""
        try:
            for statement in (
                "BEGIN",
                f"SET LOCAL lock_timeout = '{LOCK_PATIENCE}s'",
                f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",
            ):
                self._run("lock", statement)
            yield
        finally:
            with shield():
                self._run("lock", None)

    def waiting(self, table: str) -> list[int]:
        """Return the ids of the connections that wait for a lock on a table."""
        told = f"SELECT pid FROM pg_locks WHERE NOT granted AND relation = '{table}'::regclass"
        return [row[0] for row in self._run("look", told)]

    def kill(self, connection: int) -> None:
        """Close a connection on the database's side."""
        self._run("look", f"SELECT pg_terminate_backend({connection}, 10000)")

    def kill_connections(self, name: str = "") -> int:
        """
        Close every other connection on the database's side.

        :param name: unused; a private database server has several databases.
        :return: the number of closed connections.
        """
        return len(self._run("look", f"SELECT pg_terminate_backend(pid, 10000) {OTHERS}"))

    def close(self) -> None:
        """End the program, which closes its connections."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __exit__(self, *_: object) -> None:
        self.close()
