"""
Drop the database connection that a FAB page holds, after its last query and before Flask's teardown.

This plugin is for stock and patched releases, on PostgreSQL. A request with ``drop-connection`` in its query
string loses its connection, as after a time-out or a fail-over: the database terminates the backend process.
Flask sends the signal used here after the status and the headers of the page, just before its own teardown.
``GET /drop-connection/count`` returns the number of dropped connections as JSON.
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

#: The checked-out connections by the pool's record, with the id of the thread that took them.
held: dict[Any, tuple[int, Any]] = {}
dropped: list[int] = []


def _checkout(dbapi: Any, record: Any, *_: Any) -> None:
    held[record] = threading.get_ident(), dbapi


def _checkin(dbapi: Any, record: Any) -> None:
    held.pop(record, None)


def _tearing_down(*_: Any, **__: Any) -> None:
    if "drop-connection" not in request.args:
        return
    # Use the connections of this thread. Asking the session for its connection would create one.
    processes = [
        dbapi.info.backend_pid for thread, dbapi in tuple(held.values()) if thread == threading.get_ident()
    ]
    engine = create_engine(settings.engine.url, poolclass=NullPool)
    with engine.connect() as connection:
        for process in processes:
            # This waits until the process ended, for at most 10 seconds.
            if connection.scalar(text("SELECT pg_terminate_backend(:process, 10000)"), {"process": process}):
                dropped.append(process)


async def count() -> int:
    """Return the number of dropped connections."""
    return len(dropped)


request_tearing_down.connect(_tearing_down, weak=False)
event.listen(Pool, "checkout", _checkout)
event.listen(Pool, "checkin", _checkin)

app = FastAPI(title="drop-connection")
app.add_api_route("/count", count)


class DropConnection(AirflowPlugin):  # type: ignore[misc]
    """Add the page to the API server."""

    name = "drop_connection"
    fastapi_apps = [{"app": app, "url_prefix": "/drop-connection", "name": "drop-connection"}]
