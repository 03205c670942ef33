"""
Count database calls on the event loop of an API server, and measure the event-loop lag.

This plugin adds two pages, which run on the event loop: ``POST /loop-watch/reset`` resets the counts, and
``GET /loop-watch/report`` returns them as JSON.

It also counts the connections that a request takes while it holds another one, in any thread.

A call is on the loop if ``asyncio.get_running_loop()`` succeeds in its thread. Calls of asynchronous engines
are counted separately, because they do not block the loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import re
import sys
import threading
import time
from collections import Counter
from types import CodeType, FrameType
from typing import Any

from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.engine import AdaptedConnection, Engine
from sqlalchemy.pool import Pool, QueuePool

from airflow.plugins_manager import AirflowPlugin

#: Seconds between two wake-ups of the loop, and between two checks whether a wake-up is late.
BEAT = 0.02
#: Seconds of lag after which the position of the loop's thread is recorded.
LATE = 0.1
#: Seconds of the windows for which the highest lag is kept.
WINDOW = 0.1
#: Key in the info of a connection's record for the request that holds it.
KEY = "loop_watch"
KINDS = ("statements", "checkouts", "ends", "waits", "nested")
#: Packages whose frames can be a call site, and modules that only forward a call.
OWNERS = re.compile(r".*/site-packages/((?:airflow|fastapi|pydantic|starlette)/.*)")
PLUMBING = re.compile(
    r"airflow/utils/session\.py|airflow/utils/sqlalchemy\.py|airflow/settings\.py"
    r"|airflow/utils/retries\.py"
)
TABLE = re.compile(r"\b(?:FROM|INTO|UPDATE)\s+\"?([a-z_]+)", re.IGNORECASE)


def on_loop() -> bool:
    """Check whether this thread runs the event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def site(frame: FrameType | None) -> tuple[str, str]:
    """
    Return the innermost call site in Airflow, FastAPI or pydantic, and the route of the request.

    :param frame: the innermost frame.
    :return: ``airflow/models/pool.py:Pool.open_slots``, and ``/api/v2/pools`` or an empty string.
    """
    nearest = route = ""
    while frame is not None:
        found = OWNERS.match(frame.f_code.co_filename)
        if found and not nearest and not PLUMBING.match(found[1]):
            nearest = f"{found[1]}:{_name(frame.f_code)}"
        if found and not route:
            route = _route(frame)
        if nearest and route:
            break
        frame = frame.f_back
    return nearest or "elsewhere", route


def _name(code: CodeType) -> str:
    return str(getattr(code, "co_qualname", code.co_name)).replace(".<locals>", "")


def _route(frame: FrameType) -> str:
    """Return the route of the request in a frame of FastAPI, or its path in a middleware."""
    if frame.f_code.co_name not in ("app", "dispatch", "__call__"):
        return ""
    scope = frame.f_locals.get("scope") or getattr(frame.f_locals.get("request"), "scope", None)
    return _named(scope) if isinstance(scope, dict) and "path" in scope else ""


def _named(scope: dict[str, Any]) -> str:
    path: str = scope["path"]
    template = getattr(scope.get("route"), "path", "")
    # In some releases of FastAPI, the template does not include the prefix of the router.
    if template and template.count("/") < path.count("/"):
        template = "/".join(path.split("/")[: path.count("/") - template.count("/") + 1]) + template
    return f"{scope.get('method', '')} {template or path}".strip()


class Held:
    """
    The number of connections that a request holds, in all threads.

    :param scope: the ASGI scope of the request.
    """

    def __init__(self, scope: dict[str, Any]) -> None:
        self.scope = scope
        self.connections = 0


class PerRequest:
    """
    Middleware that sets the context variable `request` for each request.

    :param app: the ASGI application.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        token = request.set(Held(scope))
        try:
            await self._app(scope, receive, send)
        finally:
            request.reset(token)


request: contextvars.ContextVar[Held | None] = contextvars.ContextVar("request", default=None)


class Watch:
    """
    The counts since the last reset.

    The loop's own thread counts the calls. Calls of other event loops in the process wait for the lock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._beating: asyncio.Task[None] | None = None
        self._looking: threading.Thread | None = None
        self._loop_thread = 0
        self._collecting = 0.0
        self._clear()

    def _clear(self) -> None:
        self.begun = self.beaten = time.monotonic()
        self.calls: Counter[tuple[str, str, str]] = Counter()
        self.exempt: Counter[str] = Counter()
        self.waited = self.longest = self.blocked = self.collected = 0.0
        self.stops: Counter[str] = Counter()
        self.lags: dict[int, tuple[float, float]] = {}
        self.beats = self.late = 0

    def call(self, kind: str, *, exempt: bool, what: str = "") -> None:
        """
        Count a call if it is on the loop.

        :param kind: ``statements``, ``checkouts``, ``waits`` or ``ends`` (of transactions).
        :param exempt: whether the call does not block the loop.
        :param what: the subject of the call, reported with its call site.
        """
        if not on_loop():
            return
        if exempt:
            with self._lock:
                self.exempt[kind] += 1
            return
        nearest, route = site(sys._getframe(1))
        with self._lock:
            self.calls[kind, f"{nearest} ({what})" if what else nearest, route] += 1

    def take(self, held: Held) -> None:
        """Count a connection that a request takes while it holds another one, in any thread."""
        with self._lock:
            held.connections += 1
            second = held.connections > 1
        if second:
            nearest, _ = site(sys._getframe(1))
            with self._lock:
                self.calls["nested", nearest, _named(held.scope)] += 1

    def give_back(self, held: Held) -> None:
        """Record that a request returned a connection."""
        with self._lock:
            held.connections -= 1

    async def beat(self) -> None:
        """Wake up periodically and measure the lag."""
        while True:
            self.beaten = begun = time.monotonic()
            await asyncio.sleep(BEAT)
            stop = time.monotonic() - begun - BEAT
            self.beats += 1
            self.late += stop > LATE
            self.longest = max(self.longest, stop)
            due = begun + BEAT - self.begun
            window = int(due / WINDOW)
            self.lags[window] = max(self.lags.get(window, (0.0, due)), (stop, due))

    def look(self) -> None:
        """
        While a wake-up is late, measure how long this thread runs, and record where the loop's thread is.

        If the process gets no CPU, or another thread holds the interpreter lock, this thread stops too and
        measures little. If the loop waits for a database or a lock, this thread continues.
        """
        counted = noted = went_on = 0.0
        woken = time.monotonic()
        while True:
            time.sleep(BEAT)
            before, woken = woken, time.monotonic()
            beaten = self.beaten
            if beaten != counted:
                counted, went_on = beaten, 0.0
            if woken - beaten < 2 * BEAT:
                continue
            went_on += min(woken - before, 2 * BEAT)
            self.blocked = max(self.blocked, went_on)
            if woken - beaten >= BEAT + LATE and beaten != noted:
                noted = beaten
                self._note()

    def _note(self) -> None:
        frame = sys._current_frames().get(self._loop_thread)
        nearest, route = site(frame)
        innermost = f" in {_name(frame.f_code)}" if frame else ""
        with self._lock:
            self.stops[f"{nearest}{innermost} {route}".strip()] += 1

    def collect(self, phase: str, info: dict[str, int]) -> None:
        """Measure a garbage collection, which stops every thread."""
        if phase == "start":
            self._collecting = time.monotonic()
        else:
            self.collected = max(self.collected, time.monotonic() - self._collecting)

    def reset(self) -> None:
        """Reset the counts. Must run on the event loop."""
        with self._lock:
            self._clear()
        if self._beating is None or self._beating.done():
            self._loop_thread = threading.get_ident()
            self._beating = asyncio.get_running_loop().create_task(self.beat())
        if self._looking is None:
            self._looking = threading.Thread(target=self.look, name="loop-watch", daemon=True)
            self._looking.start()

    def report(self) -> dict[str, Any]:
        """Return the counts as JSON-serializable data."""
        with self._lock:
            calls, exempt, stops = dict(self.calls), dict(self.exempt), dict(self.stops)
        sites: dict[tuple[str, str], dict[str, int]] = {}
        for (kind, nearest, route), count in calls.items():
            sites.setdefault((kind, nearest), {})[route] = count
        standing = time.monotonic() - self.beaten - BEAT
        return {
            "seconds": time.monotonic() - self.begun,
            "totals": {
                kind: sum(count for (each, _, _), count in calls.items() if each == kind) for kind in KINDS
            },
            "exempt": exempt,
            "waited": self.waited,
            "longest_stop": max(self.longest, standing, 0.0),
            "longest_block": self.blocked,
            "longest_collection": self.collected,
            "late_beats": self.late,
            "lags": [[round(due, 3), round(stop, 4)] for stop, due in self.lags.values()],
            "beats": self.beats,
            "sites": [
                {"kind": kind, "site": nearest, "count": sum(routes.values()), "routes": routes}
                for (kind, nearest), routes in sorted(
                    sites.items(), key=lambda item: (item[0][0], -sum(item[1].values()), item[0][1])
                )
            ],
            "stops": stops,
        }


watch = Watch()


async def reset() -> dict[str, Any]:
    """Reset the counts."""
    watch.reset()
    return {}


async def report() -> dict[str, Any]:
    """Return the counts."""
    return watch.report()


def _statement(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
    table = TABLE.search(statement)
    watch.call("statements", exempt=connection.dialect.is_async, what=table[1] if table else "")


def _checkout(connection: Any, record: Any, *_: Any) -> None:
    exempt = isinstance(connection, AdaptedConnection)
    watch.call("checkouts", exempt=exempt)
    held = request.get()
    if held is not None and not exempt:
        record.info[KEY] = held
        watch.take(held)


def _checkin(connection: Any, record: Any) -> None:
    if (held := record.info.pop(KEY, None)) is not None:
        watch.give_back(held)


def _end(connection: Any) -> None:
    watch.call("ends", exempt=connection.dialect.is_async)


def _reset(connection: Any, *_: Any) -> None:
    watch.call("ends", exempt=isinstance(connection, AdaptedConnection))


def _do_get(pool: Any) -> Any:
    full = pool.checkedin() == 0 and -1 < pool._max_overflow <= pool.overflow()
    exempt = bool(pool._dialect.is_async)
    if not full or exempt or not on_loop():
        return _stock_do_get(pool)
    watch.call("waits", exempt=False)
    begun = time.monotonic()
    try:
        return _stock_do_get(pool)
    finally:
        watch.waited += time.monotonic() - begun


_stock_do_get = QueuePool._do_get
QueuePool._do_get = _do_get  # type: ignore[method-assign, assignment]

gc.callbacks.append(watch.collect)
event.listen(Engine, "before_cursor_execute", _statement)
event.listen(Engine, "commit", _end)
event.listen(Engine, "rollback", _end)
event.listen(Pool, "checkout", _checkout)
event.listen(Pool, "checkin", _checkin)
event.listen(Pool, "reset", _reset)

app = FastAPI(title="loop-watch")
app.add_api_route("/reset", reset, methods=["POST"])
app.add_api_route("/report", report)


class LoopWatch(AirflowPlugin):  # type: ignore[misc]
    """Add the middleware and the two pages to the API server."""

    name = "loop_watch"
    fastapi_root_middlewares = [{"middleware": PerRequest, "name": "loop-watch"}]
    fastapi_apps = [{"app": app, "url_prefix": "/loop-watch", "name": "loop-watch"}]
