"""
Counts the database connections that an API server's revocation check holds.

A plugin with two pages: ``POST /check-watch/reset`` begins to count, ``GET /check-watch/report`` tells the
count since, as JSON.

A connection is the check's from when one of its functions takes it from the pool, or from when it is asked
about revoked tokens, until it goes back to the pool. So none is missed, however short its use.
"""

from __future__ import annotations

import re
import sys
import threading
from types import FrameType
from typing import Any

from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool

from airflow.plugins_manager import AirflowPlugin

#: Where the check is done, on stock and patched.
PLACES = re.compile(r"/airflow/(?:models/revoked_token|api_fastapi/auth/tokens)\.py$")
QUERY = re.compile(r"^\s*SELECT\b.*\brevoked_token\b", re.IGNORECASE | re.DOTALL)


class Connections:
    """The connections that are the check's now, and the most that were at once since the last reset."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: set[Any] = set()
        self.reset()

    def reset(self) -> None:
        """Count from now on."""
        with self._lock:
            self.most = len(self._held)
            self.taken = self.queries = 0

    def take(self, record: Any) -> None:
        """
        Note that a connection is the check's.

        :param record: the pool's record of it.
        """
        with self._lock:
            if record not in self._held:
                self._held.add(record)
                self.taken += 1
                self.most = max(self.most, len(self._held))

    def query(self, record: Any) -> None:
        """
        Note that a connection is asked about revoked tokens.

        :param record: the pool's record of it.
        """
        self.take(record)
        with self._lock:
            self.queries += 1

    def give_back(self, record: Any) -> None:
        """
        Note that a connection went back to the pool, whoever had it.

        :param record: the pool's record of it.
        """
        with self._lock:
            self._held.discard(record)

    def report(self) -> dict[str, int]:
        """Give what was counted, as plain data."""
        with self._lock:
            return {
                "most": self.most,
                "held": len(self._held),
                "taken": self.taken,
                "queries": self.queries,
            }


connections = Connections()


async def reset() -> dict[str, int]:
    """Begin to count."""
    connections.reset()
    return {}


async def report() -> dict[str, int]:
    """Tell what was counted."""
    return connections.report()


def checking(frame: FrameType | None) -> bool:
    """
    Tell whether the check is among those who called.

    :param frame: where to begin, outwards.
    """
    while frame is not None:
        if PLACES.search(frame.f_code.co_filename):
            return True
        frame = frame.f_back
    return False


def _checkout(dbapi: Any, record: Any, *_: Any) -> None:
    if checking(sys._getframe(1)):
        connections.take(record)


def _checkin(dbapi: Any, record: Any) -> None:
    connections.give_back(record)


def _statement(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
    if QUERY.search(statement):
        connections.query(connection.connection._connection_record)


event.listen(Pool, "checkout", _checkout)
event.listen(Pool, "checkin", _checkin)
event.listen(Engine, "before_cursor_execute", _statement)

app = FastAPI(title="check-watch")
app.add_api_route("/reset", reset, methods=["POST"])
app.add_api_route("/report", report)


class CheckWatch(AirflowPlugin):  # type: ignore[misc]
    """Gives the API server the two pages."""

    name = "check_watch"
    fastapi_apps = [{"app": app, "url_prefix": "/check-watch", "name": "check-watch"}]
