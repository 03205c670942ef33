"""Load test with browser sessions that reload the Dags page while tasks send heartbeats."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import quote

import httpx

from airflow_auth_patches.demo.load import VERSION, Answer, Request, Result, ask, client, repeat
from airflow_auth_patches.util import signals
from airflow_auth_patches.util.errors import Exit, Problem

#: The requests of one page load, recorded from a browser.
RECORD = Path(__file__).with_name("ui_requests.json")
#: Number of connections that a browser opens to one server (HTTP/1.1).
CONNECTIONS = 6
#: Seconds between two page loads of a session.
PAUSE = 1.0
#: Seconds between a response to `VERSION` and the next request for it.
VERSION_PAUSE = 0.1
#: Seconds between the response to a heartbeat and the next heartbeat of the same task.
HEARTBEAT_PAUSE = 1.0


@dataclass(frozen=True)
class Load:
    """
    The result of a load test with browser sessions.

    :param sessions: the number of sessions.
    :param result: the responses to all requests; a request that exceeded the patience is `NO_ANSWER`. Its
        `wall` is the time during which requests were sent.
    :param in_time: the number of successful responses within that time.
    :param heartbeats: the responses to the heartbeats of running tasks during the load.
    """

    sessions: int
    result: Result
    in_time: int
    heartbeats: Result = field(default_factory=lambda: Result([], 0.0))

    @property
    def rate(self) -> float:
        """Successful requests per second."""
        return self.in_time / self.result.wall if self.result.wall else 0.0


def stages(dags: Iterable[str], now: datetime | None = None) -> list[list[str]]:
    """
    Return the paths of one page load, in the stages in which a browser requests them.

    :param dags: the Dags on the page.
    :param now: the time of the page load; the current time by default.
    """
    now = now or datetime.now(timezone.utc)
    times = {
        "{now}": quote(now.isoformat(timespec="milliseconds")),
        "{yesterday}": quote((now - timedelta(days=1)).isoformat(timespec="milliseconds")),
    }
    found = []
    for recorded in json.loads(RECORD.read_text(encoding="utf-8"))["stages"]:
        stage = []
        for path in recorded:
            for name, value in times.items():
                path = path.replace(name, value)
            stage += [path.replace("{dag}", dag) for dag in dags] if "{dag}" in path else [path]
        found.append(stage)
    return found


def available(url: str, token: str, found: Sequence[Sequence[str]]) -> list[list[str]]:
    """
    Return the paths without those that the release does not support.

    :param url: a server without load.
    :param found: the paths, in stages.
    :raises Problem: when a request fails for another reason than 404 or 422.
    """
    kept = []
    with httpx.Client(base_url=url, cookies={"_token": token}, timeout=60, trust_env=False) as client:
        for stage in found:
            statuses = {path: client.get(path).status_code for path in stage}
            if wrong := {path: code for path, code in statuses.items() if code not in (200, 404, 422)}:
                path, code = next(iter(wrong.items()))
                raise Problem(
                    f"GET {path} returned {code} without load.", "See the log of the server.", Exit.FAILED
                )
            kept.append([path for path, code in statuses.items() if code == 200])
    return kept


def skip_requests(pages: Sequence[Sequence[str]], skipped: int) -> list[list[str]]:
    """
    Return a page load without its first requests.

    :param pages: the paths of the page, in stages.
    :param skipped: the number of requests to skip.
    """
    left = []
    for stage in pages:
        left.append(list(stage[skipped:]))
        skipped = max(0, skipped - len(stage))
    return left


async def _ended(tasks: Sequence[asyncio.Task[None]], seconds: float) -> set[asyncio.Task[None]]:
    """Wait for the given time or until a task ends, and return the tasks that ended."""
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    return done


def browse(
    url: str,
    pages: Sequence[Sequence[str]],
    tokens: Sequence[str],
    *,
    seconds: float,
    patience: float,
    tasks: Sequence[Request] = (),
) -> Load:
    """
    Reload the page repeatedly in one session per token, and return the responses.

    Requests in flight at the end are awaited, so that a server that hangs loses them even in a short load.

    :param url: the server.
    :param pages: the paths of the page, in stages, see :func:`stages`.
    :param tokens: the token of each session, sent as a cookie.
    :param seconds: how long to send requests.
    :param patience: seconds after which a session or a task gives up a request.
    :param tasks: the heartbeat request of each running task, see
        :func:`airflow_auth_patches.demo.tasks.start`.
    """
    answers: list[Answer] = []
    versions: list[Answer] = []
    heartbeats: list[Answer] = []
    sending = True

    async def session(token: str, first: Sequence[Sequence[str]]) -> None:
        # A browser queues its own requests, so the patience starts when a request is sent.
        free = asyncio.Semaphore(CONNECTIONS)

        async def one(path: str) -> None:
            async with free:
                if sending:
                    await ask(browser, Request("GET", path), answers, patience)

        async with client(url, CONNECTIONS, keep_alive=True, token=token) as browser:
            page = first
            while sending:
                for stage in page:
                    await asyncio.gather(*map(one, stage))
                page = pages
                await asyncio.sleep(PAUSE if sending else 0)

    async def alone(request: Request, pause: float, given: list[Answer]) -> None:
        async with client(url, 1, keep_alive=True) as sender:
            await repeat(sender, request, pause, given, patience, lambda: sending)

    async def everything() -> Load:
        nonlocal sending
        begun = time.monotonic()
        paths = sum(map(len, pages))
        # Sessions start at different requests of the page, so that a short load covers all kinds of requests.
        running = [
            asyncio.create_task(session(token, skip_requests(pages, number * paths // len(tokens))))
            for number, token in enumerate(tokens)
        ]
        running.append(asyncio.create_task(alone(Request("GET", VERSION), VERSION_PAUSE, versions)))
        running += [asyncio.create_task(alone(each, HEARTBEAT_PAUSE, heartbeats)) for each in tasks]
        try:
            done = await _ended(running, seconds)
            sending = False
            wall = time.monotonic() - begun
            in_time = sum(not answer.failed for answer in answers)
            for task in done:
                task.result()  # a task ends early only by an error; this raises it
            await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        result = Result(answers, wall, versions=versions)
        return Load(len(tokens), result, in_time, Result(heartbeats, wall))

    return signals.run(everything())
