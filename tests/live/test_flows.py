"""Request flows to a small test server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from local_server import running

from airflow_auth_patches.demo.flows import VERSION_PATH, Done, Step, run_flows
from airflow_auth_patches.demo.load import NO_ANSWER

Respond = Callable[[BaseHTTPRequestHandler], tuple[int, Any]]


@contextmanager
def serving(
    respond: Respond, version: Callable[[BaseHTTPRequestHandler], object] = lambda _: None
) -> Iterator[str]:
    """Serve on a free port. `respond` returns status and JSON of each request, except for the version."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = (200, version(self)) if self.path == VERSION_PATH else respond(self)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, *_: object) -> None:
            pass

    with running(Handler) as url:
        yield url


def get(path: str, **more: Any) -> Step:
    return Step("GET", path, path, **more)


def test_later_step_uses_value_of_earlier_response() -> None:
    requests = []

    def respond(request: BaseHTTPRequestHandler) -> tuple[int, Any]:
        requests.append(f"{request.command} {request.path}")
        return 200, {"id": 7}

    flow = [Step("POST", "/things", "/things", json={}, keep={"thing": "id"}), get("/things/{thing}")]
    with serving(respond) as url:
        sent = run_flows(url, [flow], lambda: "t", concurrency=2, deadline=30)
    assert requests == ["POST /things", "GET /things/7"]
    assert [str(each.step) for each in sent.done] == ["POST /things", "GET /things/{thing}"]
    assert sent.left == 0


def test_flow_stops_at_first_failure_and_others_continue() -> None:
    with serving(lambda request: (int(request.path[1:4]), "why")) as url:
        sent = run_flows(
            url, [[get("/500"), get("/200")], [get("/200")]], lambda: "t", concurrency=1, deadline=30
        )
    assert [(each.outcome, each.expected) for each in sent.done] == [("500", False), ("200", True)]
    assert sent.done[0].body == '"why"'
    assert (sent.left, sent.outcomes) == (1, {"500": 1, "200": 1})
    assert [answer.failed for answer in sent.result.answers] == [True, False]


def test_accepts_any_expected_status() -> None:
    with serving(lambda request: (404, {})) as url:
        sent = run_flows(
            url, [[get("/a", expect=(200, 404)), get("/b")]], lambda: "t", concurrency=1, deadline=30
        )
    assert [each.expected for each in sent.done] == [True, False]
    assert [answer.failed for answer in sent.result.answers] == [False, True]


def test_each_request_has_a_new_token_in_header_or_cookie() -> None:
    seen = []

    def respond(request: BaseHTTPRequestHandler) -> tuple[int, Any]:
        seen.append((request.headers["Authorization"], request.headers["Cookie"], request.headers["X-More"]))
        return 200, {}

    tokens = iter("ab")
    steps = [get("/1", headers={"X-More": "1"}), get("/2", cookie=True)]
    with serving(respond) as url:
        run_flows(url, [steps], lambda: next(tokens), concurrency=1, deadline=30)
    assert seen == [("Bearer a", None, "1"), (None, "_token=b", None)]


def test_does_not_exceed_concurrency() -> None:
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


def test_requests_version_during_flows() -> None:
    third = threading.Event()
    versions: list[None] = []

    def version(request: BaseHTTPRequestHandler) -> None:
        versions.append(None)
        if len(versions) == 3:
            third.set()

    with serving(lambda request: (200 if third.wait(30) else 500, {}), version) as url:
        sent = run_flows(url, [[get("/")]], lambda: "t", concurrency=1, deadline=60)
    assert sent.outcomes == {"200": 1}
    assert len(sent.versions.answers) >= 3
    assert sent.slowest_version == max(answer.seconds or 0 for answer in sent.versions.answers)


def test_request_in_flight_at_deadline_has_no_answer() -> None:
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
    assert [(str(each.step), each.outcome, each.expected) for each in sent.done] == [
        ("GET /1", NO_ANSWER, False)
    ]
    assert sent.left == 2


def test_sends_version_headers_and_requests_without_token() -> None:
    seen: list[Any] = []
    versions: list[Any] = []
    requested = threading.Event()

    def respond(request: BaseHTTPRequestHandler) -> tuple[int, Any]:
        seen.append((request.headers.get("Authorization"), request.headers.get("Cookie")))
        return (200 if requested.wait(30) else 500), {}

    def version(request: BaseHTTPRequestHandler) -> None:
        versions.append(request.headers.get("Authorization"))
        requested.set()

    with serving(respond, version) as url:
        run_flows(
            url,
            [[get("/one"), get("/two", cookie=True)]],
            lambda: None,
            concurrency=1,
            deadline=30,
            version_headers={"Authorization": "Bearer t"},
        )
    assert seen == [(None, None)] * 2
    assert set(versions) == {"Bearer t"}


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
def test_request_is_lost_only_if_server_failed(outcome: str, lost: bool) -> None:
    assert Done(Step("GET", "/a", "/a"), outcome, 1.0).lost is lost
