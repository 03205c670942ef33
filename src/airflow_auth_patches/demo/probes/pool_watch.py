"""
Count the threads of an API server that wait for a database connection.

This plugin adds the page ``POST /pool-watch/reset``, which resets the count. The largest number of threads
that waited at the same time is written to the server's log, because a server that hangs does not respond.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from fastapi import FastAPI
from sqlalchemy.pool import QueuePool

from airflow.plugins_manager import AirflowPlugin

STDERR = 2

lock = threading.Lock()
counted = {"waiting": 0, "most": 0}


def _do_get(pool: Any) -> Any:
    """Take a connection, and count this thread while it waits for one."""
    if pool._dialect.is_async or pool.checkedin() or not -1 < pool._max_overflow <= pool.overflow():
        return _stock_do_get(pool)
    with lock:
        counted["waiting"] += 1
        if counted["waiting"] > counted["most"]:
            counted["most"] = counted["waiting"]
            # One write, so that other log lines do not split it; Airflow redirects sys.stderr.
            os.write(STDERR, f"\npool-watch: {counted['most']} waiting\n".encode())
    try:
        return _stock_do_get(pool)
    finally:
        with lock:
            counted["waiting"] -= 1


async def reset() -> dict[str, int]:
    """Reset the count."""
    with lock:
        counted.update(most=0)
    return {}


_stock_do_get = QueuePool._do_get
QueuePool._do_get = _do_get  # type: ignore[method-assign, assignment]

app = FastAPI(title="pool-watch")
app.add_api_route("/reset", reset, methods=["POST"])


class PoolWatch(AirflowPlugin):  # type: ignore[misc]
    """Add the page to the API server."""

    name = "pool_watch"
    fastapi_apps = [{"app": app, "url_prefix": "/pool-watch", "name": "pool-watch"}]
