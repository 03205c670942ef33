"""
Count the database connections that an API server's revocation check holds.

This plugin adds two pages: ``POST /check-watch/reset`` resets the counts, and ``GET /check-watch/report``
returns them as JSON.

A connection belongs to the check when a function of the check takes it from the pool, or when it runs a query
on revoked tokens, until it returns to the pool. So the probe also counts connections that are used briefly.
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

#: The modules of the check, on stock and patched.
PLACES = re.compile(r"/airflow/(?:models/revoked_token|api_fastapi/auth/tokens)\.py$")
QUERY = re.compile(r"^\s*SELECT\b.*\brevoked_token\b", re.IGNORECASE | re.DOTALL)


class Connections:
    """The connections that the check holds, and their maximum number since the last reset."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: set[Any] = set()
        self.reset()

    def reset(self) -> None:
        """Reset the counts."""
        with self._lock:
            self.most = len(self._held)
            self.taken = self.queries = 0

    def take(self, record: Any) -> None:
        """
        Record that the check holds a connection.

        :param record: the pool's record of the connection.
        """
        with self._lock:
            if record not in self._held:
                self._held.add(record)
                self.taken += 1
                self.most = max(self.most, len(self._held))

    def query(self, record: Any) -> None:
        """
        Record a query on revoked tokens.

        :param record: the pool's record of the connection.
        """
        self.take(record)
        with self._lock:
            self.queries += 1

    def give_back(self, record: Any) -> None:
        """
        Record that a connection returned to the pool.

        :param record: the pool's record of the connection.
        """
        with self._lock:
            self._held.discard(record)

    def report(self) -> dict[str, int]:
        """Return the counts as JSON-serializable data."""
        with self._lock:
            return {
                "most": self.most,
                "held": len(self._held),
                "taken": self.taken,
                "queries": self.queries,
            }


connections = Connections()


async def reset() -> dict[str, int]:
    """Reset the counts."""
    connections.reset()
    return {}


async def report() -> dict[str, int]:
    """Return the counts."""
    return connections.report()


def checking(frame: FrameType | None) -> bool:
    """
    Check whether a function of the revocation check is on the call stack.

    :param frame: the innermost frame.
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
    """Add the two pages to the API server."""

    name = "check_watch"
    fastapi_apps = [{"app": app, "url_prefix": "/check-watch", "name": "check-watch"}]
