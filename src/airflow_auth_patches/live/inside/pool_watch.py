"""
Counts the threads of an API server that wait for a database connection.

A plugin with two pages: ``POST /pool-watch/reset`` begins to count, ``GET /pool-watch/report`` returns the
largest number of threads that waited at the same time since, and how many waits ended in a time-out.
"""

from __future__ import annotations

import threading
from typing import Any

from fastapi import FastAPI
from sqlalchemy import exc
from sqlalchemy.pool import QueuePool

from airflow.plugins_manager import AirflowPlugin

lock = threading.Lock()
counted = {"waiting": 0, "most": 0, "timeouts": 0}


def _do_get(pool: Any) -> Any:
    """Take a connection, and count this thread while it waits for one."""
    if pool._dialect.is_async or pool.checkedin() or not -1 < pool._max_overflow <= pool.overflow():
        return _stock_do_get(pool)
    with lock:
        counted["waiting"] += 1
        counted["most"] = max(counted["most"], counted["waiting"])
    try:
        return _stock_do_get(pool)
    except exc.TimeoutError:
        with lock:
            counted["timeouts"] += 1
        raise
    finally:
        with lock:
            counted["waiting"] -= 1


async def reset() -> dict[str, int]:
    """Begin to count."""
    with lock:
        counted.update(most=0, timeouts=0)
    return {}


async def report() -> dict[str, int]:
    """Return what was counted."""
    with lock:
        return {"most": counted["most"], "timeouts": counted["timeouts"]}


_stock_do_get = QueuePool._do_get
QueuePool._do_get = _do_get

app = FastAPI(title="pool-watch")
app.add_api_route("/reset", reset, methods=["POST"])
app.add_api_route("/report", report)


class PoolWatch(AirflowPlugin):  # type: ignore[misc]
    """Adds the two pages to the API server."""

    name = "pool_watch"
    fastapi_apps = [{"app": app, "url_prefix": "/pool-watch", "name": "pool-watch"}]
