"""Browser sessions that load a small test server."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler

import pytest
from local_server import serving

from airflow_auth_patches.demo import browsers
from airflow_auth_patches.demo.browsers import (
    CONNECTIONS,
    Load,
    available,
    browse,
    skip_requests,
    stages,
)
from airflow_auth_patches.demo.load import NO_ANSWER, VERSION, Answer, Request, Result
from airflow_auth_patches.demo.ports import free_port
from airflow_auth_patches.util.errors import Exit, Problem

Respond = Callable[[BaseHTTPRequestHandler], int]
Serve = Callable[[Respond], str]

#: Seconds; longer than any wait in these tests.
LONG = 60.0


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that serves on a free port. Its argument returns the status of a request."""
    with ExitStack() as stack:
        yield lambda respond: stack.enter_context(serving(respond, LONG))


class RequestLog:
    """
    The requests that a server received.

    :param enough: the number of requests, without those for the version, at which `full` is set.
    """

    def __init__(self, enough: int = 0) -> None:
        self.paths: list[str] = []
        self.cookies: set[str | None] = set()
        self.enough = enough
        self.full = threading.Event()
        self._lock = threading.Lock()

    def add(self, request: BaseHTTPRequestHandler) -> None:
        if request.path == VERSION:
            return
        with self._lock:
            self.paths.append(request.path)
            self.cookies.add(request.headers["Cookie"])
            if len(self.paths) >= self.enough:
                self.full.set()


@pytest.fixture
def until(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """
    Return a function that ends a load test when an event is set, independently of its duration.

    Its second argument is an event that the function sets when no more requests are sent.
    """

    def end(event: threading.Event, over: threading.Event | None = None) -> None:
        async def ended(tasks: object, seconds: float) -> set[asyncio.Task[None]]:
            assert await asyncio.to_thread(event.wait, LONG)
            if over is not None:
                asyncio.get_running_loop().call_soon(over.set)
            return set()

        monkeypatch.setattr(browsers, "_ended", ended)
        monkeypatch.setattr(browsers, "PAUSE", 0)

    return end


def test_fills_in_dags_and_times() -> None:
    found = stages(["one", "two"], datetime(2026, 3, 1, 12, 30, tzinfo=timezone.utc))
    assert found[0] == ["/dags"]
    assert found[-1] == [
        *("/ui/next_run_assets/one", "/ui/next_run_assets/two"),
        *("/api/v2/dags/one/assets/queuedEvents", "/api/v2/dags/two/assets/queuedEvents"),
    ]
    paths = [path for stage in found for path in stage]
    assert not [path for path in paths if "{" in path]
    assert [path for path in paths if "/assets/events?" in path] == [
        "/api/v2/assets/events?limit=6&order_by=-timestamp"
        "&timestamp_gte=2026-02-28T12%3A30%3A00.000%2B00%3A00&timestamp_lte=2026-03-01T12%3A30%3A00.000%2B00%3A00"
    ]


def test_omits_paths_that_release_does_not_support(serve: Serve) -> None:
    seen = RequestLog()

    def respond(request: BaseHTTPRequestHandler) -> int:
        seen.add(request)
        return int(request.path.rsplit("/", 1)[-1])

    url = serve(respond)
    assert available(url, "abc", [["/200"], ["/404", "/a/200", "/422"], ["/404"]]) == [
        ["/200"],
        ["/a/200"],
        [],
    ]
    assert seen.cookies == {"_token=abc"}


@pytest.mark.parametrize("status", [302, 401, 500])
def test_rejects_request_that_fails_without_load(serve: Serve, status: int) -> None:
    url = serve(lambda request: status if request.path == "/bad" else 200)
    with pytest.raises(Problem, match=f"GET /bad returned {status} without load") as raised:
        available(url, "abc", [["/good", "/bad"]])
    assert raised.value.exit_code is Exit.FAILED


def test_skips_first_requests_of_a_page() -> None:
    pages = [["a"], ["b", "c"], ["d"]]
    assert [skip_requests(pages, skipped) for skipped in (0, 1, 2, 4)] == [
        pages,
        [[], ["b", "c"], ["d"]],
        [[], ["c"], ["d"]],
        [[], [], []],
    ]


def test_each_session_sends_its_token_and_reloads_the_page(serve: Serve, until: Callable[..., None]) -> None:
    seen = RequestLog(enough=20)
    url = serve(lambda request: seen.add(request) or 200)  # type: ignore[func-returns-value]
    until(seen.full)
    load = browse(url, [["/a"], ["/b", "/c"]], ["one", "two"], seconds=LONG, patience=LONG)
    assert seen.cookies == {"_token=one", "_token=two"}
    assert load.sessions == 2
    assert load.result.outcomes == {"200": len(seen.paths)}
    assert {answer.request.path for answer in load.result.answers} == {"/a", "/b", "/c"}
    assert {answer.request.path for answer in load.result.versions} == {VERSION}
    assert 0 < load.in_time <= len(seen.paths)


def test_stage_starts_after_previous_stage(serve: Serve, until: Callable[..., None]) -> None:
    done: Counter[str] = Counter()
    early: list[str] = []
    seen = RequestLog(enough=3)

    def respond(request: BaseHTTPRequestHandler) -> int:
        if request.path == "/last" and done["/first"] < 2:
            early.append(request.path)
        seen.add(request)
        done[request.path.split("?")[0]] += 1
        return 200

    url = serve(respond)
    until(seen.full)
    browse(url, [["/first?1", "/first?2"], ["/last"]], ["one"], seconds=LONG, patience=LONG)
    assert early == []


def test_session_opens_as_many_connections_as_a_browser(serve: Serve, until: Callable[..., None]) -> None:
    lock = threading.Lock()
    now = most = 0
    together = threading.Barrier(CONNECTIONS)
    seen = RequestLog(enough=2 * CONNECTIONS)

    def respond(request: BaseHTTPRequestHandler) -> int:
        nonlocal now, most
        if request.path == VERSION:
            return 200
        with lock:
            now += 1
            most = max(most, now)
        together.wait(LONG)  # waits for the maximum number of concurrent requests
        with lock:
            now -= 1
        seen.add(request)
        return 200

    url = serve(respond)
    until(seen.full)
    pages = [[f"/{number}" for number in range(2 * CONNECTIONS)]]
    browse(url, pages, ["one"], seconds=LONG, patience=LONG)
    assert most == CONNECTIONS


def test_tasks_send_heartbeats_during_sessions(serve: Serve, until: Callable[..., None]) -> None:
    seen = RequestLog(enough=6)
    url = serve(lambda request: seen.add(request) or 200)  # type: ignore[func-returns-value]
    until(seen.full)
    beat = Request("GET", "/heartbeat", token="task")
    load = browse(url, [["/a"]], [], seconds=LONG, patience=LONG, tasks=[beat] * 6)
    assert load.result.answers == []
    assert load.heartbeats.outcomes == {"200": 6}
    assert all(answer.request == beat for answer in load.heartbeats.answers)


def test_request_that_exceeds_patience_is_lost(serve: Serve, until: Callable[..., None]) -> None:
    done, seen = threading.Event(), RequestLog(enough=2)

    def respond(request: BaseHTTPRequestHandler) -> int:
        seen.add(request)
        if request.path == "/hang":
            done.wait(LONG)
        return 200

    url = serve(respond)
    until(seen.full)
    load = browse(url, [["/good", "/hang"]], ["one"], seconds=LONG, patience=0.5)
    done.set()
    assert load.result.outcomes == {"200": 1, NO_ANSWER: 1}
    assert load.result.unfinished == 1


def test_waits_for_requests_in_flight_at_end(serve: Serve, until: Callable[..., None]) -> None:
    in_flight, over = RequestLog(enough=CONNECTIONS), threading.Event()

    def respond(request: BaseHTTPRequestHandler) -> int:
        if request.path != VERSION:
            in_flight.add(request)
            over.wait(LONG)
        return 200

    url = serve(respond)
    until(in_flight.full, over)
    pages = [[f"/{number}" for number in range(3 * CONNECTIONS)]]
    load = browse(url, pages, ["one"], seconds=LONG, patience=LONG)
    assert load.result.outcomes == {"200": CONNECTIONS}
    assert len(in_flight.paths) == CONNECTIONS, "no request is sent after the end"
    assert load.in_time == 0


def test_every_request_to_missing_server_is_lost(until: Callable[..., None]) -> None:
    over = threading.Event()
    over.set()
    until(over)
    url = f"http://127.0.0.1:{free_port()}"
    load = browse(url, [["/"]], ["one"], seconds=LONG, patience=LONG)
    assert set(load.result.outcomes) <= {"ConnectError"}
    assert load.rate == 0


def test_error_in_session_ends_load_test(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    async def broken(*_: object) -> None:
        raise ValueError("an error in the test tool")

    monkeypatch.setattr(browsers, "ask", broken)
    with pytest.raises(ValueError, match="an error in the test tool"):
        browse(serve(lambda _: 200), [["/"]], ["one"], seconds=LONG, patience=LONG)


def test_throughput_counts_responses_in_time() -> None:
    result = Result([Answer(Request("GET", "/"), "200", 0.5)] * 6, 2.0)
    assert Load(1, result, in_time=4).rate == 2.0
    assert Load(1, Result([], 0.0), in_time=0).rate == 0.0
