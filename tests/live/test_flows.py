"""Request flows, to a small server of the test's own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from airflow_auth_patches.demo.flows import PULSE_PATH, Done, Step, run_flows
from airflow_auth_patches.demo.load import NO_ANSWER

Respond = Callable[[BaseHTTPRequestHandler], tuple[int, Any]]


@contextmanager
def serving(
    respond: Respond, pulse: Callable[[BaseHTTPRequestHandler], object] = lambda _: None
) -> Iterator[str]:
    """Serve on a free port; `respond` gives the status and the JSON of each request but a pulse's."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = (200, pulse(self)) if self.path == PULSE_PATH else respond(self)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()
        assert not thread.is_alive()


def get(path: str, **more: Any) -> Step:
    return Step("GET", path, path, **more)


def test_a_later_step_has_what_an_earlier_one_was_told() -> None:
    asked = []

    def respond(request: BaseHTTPRequestHandler) -> tuple[int, Any]:
        asked.append(f"{request.command} {request.path}")
        return 200, {"id": 7}

    flow = [Step("POST", "/things", "/things", json={}, keep={"thing": "id"}), get("/things/{thing}")]
    with serving(respond) as url:
        sent = run_flows(url, [flow], lambda: "t", concurrency=2, deadline=30)
    assert asked == ["POST /things", "GET /things/7"]
    assert [str(each.step) for each in sent.done] == ["POST /things", "GET /things/{thing}"]
    assert sent.left == 0


def test_flow_ends_at_its_first_failure_and_the_others_go_on() -> None:
    with serving(lambda request: (int(request.path[1:4]), "why")) as url:
        sent = run_flows(
            url, [[get("/500"), get("/200")], [get("/200")]], lambda: "t", concurrency=1, deadline=30
        )
    assert [(each.outcome, each.well) for each in sent.done] == [("500", False), ("200", True)]
    assert sent.done[0].told == '"why"'
    assert (sent.left, sent.outcomes) == (1, {"500": 1, "200": 1})
    assert [answer.failed for answer in sent.result.answers] == [True, False]


def test_what_is_expected_is_well() -> None:
    with serving(lambda request: (404, {})) as url:
        sent = run_flows(
            url, [[get("/a", expect=(200, 404)), get("/b")]], lambda: "t", concurrency=1, deadline=30
        )
    assert [each.well for each in sent.done] == [True, False]
    assert [answer.failed for answer in sent.result.answers] == [False, True]


def test_every_request_has_a_token_of_its_own_in_a_header_or_a_cookie() -> None:
    seen = []

    def respond(request: BaseHTTPRequestHandler) -> tuple[int, Any]:
        seen.append((request.headers["Authorization"], request.headers["Cookie"], request.headers["X-More"]))
        return 200, {}

    tokens = iter("ab")
    steps = [get("/1", headers={"X-More": "1"}), get("/2", cookie=True)]
    with serving(respond) as url:
        run_flows(url, [steps], lambda: next(tokens), concurrency=1, deadline=30)
    assert seen == [("Bearer a", None, "1"), (None, "_token=b", None)]


def test_no_more_than_so_many_at_once() -> None:
    meet = threading.Barrier(3, timeout=30)
    most = threading.Semaphore(3)

    def respond(request: BaseHTTPRequestHandler) -> tuple[int, Any]:
        if not most.acquire(blocking=False):
            return 500, {}
        meet.wait()
        most.release()
        return 200, {}

    with serving(respond) as url:
        sent = run_flows(url, [[get("/")]] * 6, lambda: "t", concurrency=3, deadline=60)
    assert sent.outcomes == {"200": 6}


def test_the_version_is_asked_for_all_along() -> None:
    third = threading.Event()
    pulses: list[None] = []

    def pulse(request: BaseHTTPRequestHandler) -> None:
        pulses.append(None)
        if len(pulses) == 3:
            third.set()

    with serving(lambda request: (200 if third.wait(30) else 500, {}), pulse) as url:
        sent = run_flows(url, [[get("/")]], lambda: "t", concurrency=1, deadline=60)
    assert sent.outcomes == {"200": 1}
    assert len(sent.pulse.answers) >= 3
    assert sent.slowest_pulse == max(answer.seconds or 0 for answer in sent.pulse.answers)


def test_what_is_under_way_at_the_deadline_has_no_answer() -> None:
    release = threading.Event()

    def respond(request: BaseHTTPRequestHandler) -> tuple[int, Any]:
        release.wait(30)
        return 200, {}

    with serving(respond) as url:
        try:
            sent = run_flows(
                url, [[get("/1"), get("/2")], [get("/3")]], lambda: "t", concurrency=1, deadline=0.2
            )
        finally:
            release.set()
    assert [(str(each.step), each.outcome, each.well) for each in sent.done] == [("GET /1", NO_ANSWER, False)]
    assert sent.left == 2


def test_requests_go_without_a_token_and_the_pulse_with_what_it_is_given() -> None:
    seen: list[Any] = []
    pulses: list[Any] = []
    asked = threading.Event()

    def respond(request: BaseHTTPRequestHandler) -> tuple[int, Any]:
        seen.append((request.headers.get("Authorization"), request.headers.get("Cookie")))
        return (200 if asked.wait(30) else 500), {}

    def pulse(request: BaseHTTPRequestHandler) -> None:
        pulses.append(request.headers.get("Authorization"))
        asked.set()

    with serving(respond, pulse) as url:
        run_flows(
            url,
            [[get("/one"), get("/two", cookie=True)]],
            lambda: None,
            concurrency=1,
            deadline=30,
            pulse_headers={"Authorization": "Bearer t"},
        )
    assert seen == [(None, None)] * 2
    assert set(pulses) == {"Bearer t"}


@pytest.mark.parametrize(
    ("outcome", "lost"),
    [
        ("200", False),
        ("404", False),
        ("409", False),
        ("500", True),
        ("503", True),
        (NO_ANSWER, True),
        ("ReadError", True),
    ],
)
def test_a_request_is_lost_where_the_server_failed(outcome: str, lost: bool) -> None:
    assert Done(Step("GET", "/a", "/a"), outcome, 1.0).lost is lost
