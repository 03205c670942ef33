"""
Count the queries of an API server on FAB's tables of users, roles and permissions.

This plugin adds two pages: ``POST /user-watch/reset`` resets the counts, and ``GET /user-watch/report``
returns them as JSON.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from typing import Any

from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.engine import Engine

from airflow.plugins_manager import AirflowPlugin

TABLE = re.compile(r"\bFROM\s+[\"`]?ab_", re.IGNORECASE)
#: The first query of each user look-up. Other queries can use the same table with an alias.
USER = re.compile(r"\bFROM\s+[\"`]?ab_user\b[\"`]?(?!\s+AS\b)", re.IGNORECASE)

lock = threading.Lock()
counted: Counter[str] = Counter()


def _on_loop() -> bool:
    """Check whether this thread runs the event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _statement(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
    if TABLE.search(statement):
        with lock:
            counted["queries"] += 1
            counted["users"] += bool(USER.search(statement))
            counted["on_loop"] += _on_loop() and not connection.dialect.is_async


async def reset() -> dict[str, int]:
    """Reset the counts."""
    with lock:
        counted.clear()
    return {}


async def report() -> dict[str, int]:
    """Return the counts."""
    with lock:
        return {name: counted[name] for name in ("users", "queries", "on_loop")}


event.listen(Engine, "before_cursor_execute", _statement)

app = FastAPI(title="user-watch")
app.add_api_route("/reset", reset, methods=["POST"])
app.add_api_route("/report", report)


class UserWatch(AirflowPlugin):  # type: ignore[misc]
    """Add the two pages to the API server."""

    name = "user_watch"
    fastapi_apps = [{"app": app, "url_prefix": "/user-watch", "name": "user-watch"}]
