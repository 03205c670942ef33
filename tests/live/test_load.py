"""Concurrent requests to a small test server."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest
from local_server import running

from airflow_auth_patches.demo.load import NO_ANSWER, Answer, Request, Result, run, send
from airflow_auth_patches.demo.ports import free_port
from airflow_auth_patches.util.signals import Interrupted, interruptible

Respond = Callable[[BaseHTTPRequestHandler], int]


@contextmanager
def serving(respond: Respond, length: int = 0) -> Iterator[str]:
    """Serve empty bodies on a free port. `respond` returns the status, `length` is the Content-Length."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status = respond(self)
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()

        do_GET = do_POST = _answer

        def log_message(self, *_: object) -> None:
            pass

    with running(Handler) as url:
        yield url


def test_counts_outcomes_by_status() -> None:
    with serving(lambda request: int(request.path[1:])) as url:
        requests = [Request("GET", "/200"), Request("GET", "/500"), Request("POST", "/201", 201, json={})]
        result = send(url, requests, deadline=30)
    assert result.outcomes == {"200": 1, "500": 1, "201": 1}
    assert [answer.request.path for answer in result.answers] == ["/200", "/500", "/201"]
    assert [answer.outcome for answer in result.failures] == ["500"]
    assert result.unfinished == 0


def test_sends_token_and_body() -> None:
    seen: list[tuple[str | None, str | None]] = []

    def respond(request: BaseHTTPRequestHandler) -> int:
        seen.append((request.headers["Authorization"], request.headers["Content-Type"]))
        return 200

    with serving(respond) as url:
        send(url, [Request("POST", "/", token="abc", json={"a": 1})], deadline=30)
    assert seen == [("Bearer abc", "application/json")]


def test_sends_both_cookies() -> None:
    seen: list[str | None] = []

    def respond(request: BaseHTTPRequestHandler) -> int:
        seen.append(request.headers["Cookie"])
        return 200

    with serving(respond) as url:
        for request in (
            Request("GET", "/", cookie="abc", session="def"),
            Request("GET", "/", cookie="abc"),
            Request("GET", "/", session="def"),
            Request("GET", "/"),
        ):
            send(url, [request], deadline=30)
    assert seen == ["_token=abc; session=def", "_token=abc", "session=def", None]


@pytest.mark.parametrize("status", [200, 404])
def test_incomplete_body_is_a_failure(status: int) -> None:
    with serving(lambda _: status, length=1) as url:
        result = send(url, [Request("GET", "/", status)], deadline=30)
    assert result.outcomes == {f"{status} cut short": 1}
    assert len(result.failures) == 1


def test_body_without_expected_text_is_a_failure() -> None:
    with serving(lambda _: 200) as url:
        result = send(url, [Request("GET", "/", contains="</html>"), Request("GET", "/")], deadline=30)
    assert [answer.outcome for answer in result.answers] == ["200 cut short", "200"]


def test_sends_all_requests_concurrently() -> None:
    together = threading.Barrier(20)

    def respond(request: BaseHTTPRequestHandler) -> int:
        together.wait(30)  # no response before all requests arrived
        return 200

    with serving(respond) as url:
        result = send(url, [Request("GET", "/")] * 20, deadline=30)
    assert result.outcomes == {"200": 20}


def test_does_not_exceed_concurrency() -> None:
    lock = threading.Lock()
    now = most = 0
    full = threading.Barrier(3)

    def respond(request: BaseHTTPRequestHandler) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        full.wait(30)  # waits for the maximum number of concurrent requests
        with lock:
            now -= 1
        return 200

    with serving(respond) as url:
        result = send(url, [Request("GET", "/")] * 9, deadline=30, concurrency=3)
    assert result.outcomes == {"200": 9}
    assert most == 3


def test_request_without_response_at_deadline_is_a_failure() -> None:
    done = threading.Event()

    def respond(request: BaseHTTPRequestHandler) -> int:
        if request.path == "/hang":
            done.wait(30)
        return 200

    with serving(respond) as url:
        requests = [Request("GET", "/"), *[Request("GET", "/hang")] * 3]
        result = send(url, requests, deadline=0.5, concurrency=2)
        done.set()
    assert result.outcomes == {"200": 1, NO_ANSWER: 3}
    assert len(result.failures) == 3
    assert result.unfinished == 3
    assert result.wall == pytest.approx(0.5, abs=0.4)
    never = result.answers[-1]
    assert never.seconds is None, "it was not sent"
    assert result.percentile(99) == pytest.approx(0.5, abs=0.4)


def test_network_error_is_an_outcome() -> None:
    result = send(f"http://127.0.0.1:{free_port()}", [Request("GET", "/")], deadline=30)
    assert result.outcomes == {"ConnectError": 1}


def test_percentiles_of_durations() -> None:
    request = Request("GET", "/")
    result = Result([Answer(request, "200", second / 100) for second in range(101)], 1.0)
    assert [result.percentile(percent) for percent in (50, 95, 99)] == pytest.approx([0.5, 0.95, 0.99])
    assert Result([], 0).percentile(50) is None
    assert Result([Answer(request, "200", 0.25)], 1.0).percentile(95) == 0.25


def test_adds_consecutive_runs() -> None:
    request = Request("GET", "/")
    one = Result([Answer(request, "200", 1.0)], 1.5)
    both = one + Result([Answer(request, "500", 2.0)], 2.5)
    assert both.outcomes == {"200": 1, "500": 1}
    assert both.wall == 4.0


def test_signal_ends_run_and_is_not_logged_for_each_task(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(error: Exception | None = None) -> None:
        if error:
            raise error
        signal.raise_signal(signal.SIGTERM)

    async def work(error: Exception | None = None) -> None:
        await asyncio.wait([asyncio.create_task(fail(error))])

    with interruptible(), pytest.raises(Interrupted):
        run(work())
    gc.collect()
    assert caplog.messages == []
    with interruptible():
        run(work(ValueError("logged")))
    gc.collect()
    assert "Task exception was never retrieved" in caplog.text
