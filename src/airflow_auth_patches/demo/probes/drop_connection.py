"""
Drops the database connection that a FAB page holds, after its last query and before Flask's teardown.

A plugin for stock and patched releases, on PostgreSQL. A request that has ``drop-connection`` in its query
loses its connection as by a time-out or a fail-over: the database ends the process behind it. Flask sends the
signal used here when the status and the headers of the page are out and its own teardown is next.
``GET /drop-connection/count`` tells how many connections were dropped, as JSON.
"""

from __future__ import annotations

import threading
from typing import Any

from fastapi import FastAPI
from flask import request, request_tearing_down  # type: ignore[import-not-found]
from sqlalchemy import create_engine, event, text
from sqlalchemy.pool import NullPool, Pool

from airflow import settings
from airflow.plugins_manager import AirflowPlugin

#: The connections that are out of their pool, under the pool's record of them, and who took them.
held: dict[Any, tuple[int, Any]] = {}
dropped: list[int] = []


def _checkout(dbapi: Any, record: Any, *_: Any) -> None:
    held[record] = threading.get_ident(), dbapi


def _checkin(dbapi: Any, record: Any) -> None:
    held.pop(record, None)


def _tearing_down(*_: Any, **__: Any) -> None:
    if "drop-connection" not in request.args:
        return
    # Of those that the page holds, not of the session: to ask it would give it one.
    processes = [
        dbapi.info.backend_pid for thread, dbapi in tuple(held.values()) if thread == threading.get_ident()
    ]
    engine = create_engine(settings.engine.url, poolclass=NullPool)
    with engine.connect() as connection:
        for process in processes:
            # Waits until it has ended: 10 seconds at most.
            if connection.scalar(text("SELECT pg_terminate_backend(:process, 10000)"), {"process": process}):
                dropped.append(process)


async def count() -> int:
    """Tell how many connections were dropped."""
    return len(dropped)


request_tearing_down.connect(_tearing_down, weak=False)
event.listen(Pool, "checkout", _checkout)
event.listen(Pool, "checkin", _checkin)

app = FastAPI(title="drop-connection")
app.add_api_route("/count", count)


class DropConnection(AirflowPlugin):  # type: ignore[misc]
    """Gives the API server the page."""

    name = "drop_connection"
    fastapi_apps = [{"app": app, "url_prefix": "/drop-connection", "name": "drop-connection"}]
