"""Concurrent requests and flows to a small test server."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from local_server import serving

from airflow_auth_patches.demo.load import (
    NO_ANSWER,
    VERSION,
    Answer,
    Request,
    Result,
    run_flows,
    send,
)
from airflow_auth_patches.demo.ports import free_port

GET = Request("GET", "/")


def test_counts_outcomes_by_status() -> None:
    with serving(lambda request: int(request.path[1:])) as url:
        requests = [Request("GET", "/200"), Request("GET", "/500"), Request("POST", "/201", 201, json={})]
        result = send(url, requests, deadline=30)
    assert result.outcomes == {"200": 1, "500": 1, "201": 1}
    assert [(answer.request.path, answer.outcome) for answer in result.failures] == [("/500", "500")]
    assert result.unfinished == 0


@pytest.mark.parametrize(
    ("request_", "headers"),
    [
        (GET, {}),
        (
            Request("POST", "/", token="a", json={}),
            {"Authorization": "Bearer a", "Content-Type": "application/json"},
        ),
        (Request("GET", "/", cookie="a", session="b"), {"Cookie": "_token=a; session=b"}),
        (Request("GET", "/", cookie="a"), {"Cookie": "_token=a"}),
        (Request("GET", "/", session="b"), {"Cookie": "session=b"}),
        (Request("GET", "/", more_headers={"X-More": "1"}), {"X-More": "1"}),
    ],
)
def test_sends_tokens_cookies_and_body(request_: Request, headers: dict[str, str]) -> None:
    seen: list[dict[str, str]] = []
    names = ("Authorization", "Content-Type", "Cookie", "X-More")

    def respond(request: BaseHTTPRequestHandler) -> int:
        seen.append({name: value for name in names if (value := request.headers[name])})
        return 200

    with serving(respond) as url:
        send(url, [request_], deadline=30)
    assert seen == [headers]


@pytest.mark.parametrize("status", [200, 404])
def test_incomplete_body_is_a_failure(status: int) -> None:
    with serving(lambda _: (status, b"half")) as url:
        result = send(url, [Request("GET", "/", status)], deadline=30)
    assert result.outcomes == {f"{status} cut short": 1}
    assert len(result.failures) == 1


def test_body_without_expected_text_is_a_failure() -> None:
    with serving(lambda _: (200, "half")) as url:
        result = send(url, [Request("GET", "/", contains="</html>"), GET], deadline=30)
    assert result.outcomes == {"200 cut short": 1, "200": 1}


@pytest.mark.parametrize(("count", "concurrency"), [(20, None), (9, 3)])
def test_sends_requests_concurrently_up_to_the_limit(count: int, concurrency: int | None) -> None:
    most = concurrency or count
    free, together = threading.Semaphore(most), threading.Barrier(most)

    def respond(_: BaseHTTPRequestHandler) -> int:
        if not free.acquire(blocking=False):
            return 500
        together.wait(30)  # waits for the maximum number of concurrent requests
        free.release()
        return 200

    with serving(respond) as url:
        result = send(url, [GET] * count, deadline=30, concurrency=concurrency)
    assert result.outcomes == {"200": count}


def test_request_without_response_at_deadline_is_a_failure() -> None:
    done = threading.Event()
    with serving(lambda _: 200 if done.wait(60) else 500) as url:
        result = send(url, [GET] * 3, deadline=0.5, concurrency=2)
        done.set()
    assert result.outcomes == {NO_ANSWER: 3}
    assert len(result.failures) == result.unfinished == 3
    assert [answer.seconds is None for answer in result.answers] == [False, False, True], "not sent"
    assert all(0.4 < (seconds or 0) < 60 for seconds in (result.wall, result.percentile(99)))


def test_network_error_is_an_outcome() -> None:
    result = send(f"http://127.0.0.1:{free_port()}", [GET], deadline=30)
    assert result.outcomes == {"ConnectError": 1}


def test_percentiles_of_durations() -> None:
    result = Result([Answer(GET, "200", second / 100) for second in range(101)], 1.0)
    assert [result.percentile(percent) for percent in (50, 95, 99)] == pytest.approx([0.5, 0.95, 0.99])
    assert Result([], 0).percentile(50) is None
    assert Result([Answer(GET, "200", 0.25)], 1.0).percentile(95) == 0.25


def test_adds_consecutive_runs() -> None:
    both = Result([Answer(GET, "200", 1.0)], 1.5) + Result([Answer(GET, "500", 2.0)], 2.5)
    assert (both.outcomes, both.wall) == ({"200": 1, "500": 1}, 4.0)


@pytest.mark.parametrize(
    ("outcome", "lost"),
    [("200", False), ("409", False), ("500", True), ("503", True), (NO_ANSWER, True), ("ReadError", True)],
)
def test_request_is_lost_only_if_server_failed(outcome: str, lost: bool) -> None:
    assert Answer(GET, outcome, 1.0).lost is lost


def test_later_request_of_a_flow_uses_value_of_earlier_response() -> None:
    requests = []

    def respond(request: BaseHTTPRequestHandler) -> tuple[int, Any]:
        requests.append(f"{request.command} {request.path}")
        return 200, {"id": 7}

    flow = [
        Request("POST", "/things", json={}, keep={"thing": "id"}),
        Request("GET", "/things/{thing}", route="/things/{name}"),
    ]
    with serving(respond) as url:
        sent = run_flows(url, [flow], concurrency=2, deadline=30, versions=False)
    assert requests == ["POST /things", "GET /things/7"]
    assert [str(answer.request) for answer in sent.answers] == ["POST /things", "GET /things/{name}"]
    assert sent.left == 0


def test_flow_stops_at_first_unexpected_status_and_others_continue() -> None:
    flows = [
        [Request("GET", "/404", (200, 404)), Request("GET", "/500"), GET],
        [Request("GET", "/200")],
    ]
    with serving(lambda request: (int(request.path[1:4]), "why")) as url:
        sent = run_flows(url, flows, concurrency=1, deadline=30, versions=False)
    assert [(answer.outcome, answer.failed, answer.body) for answer in sent.answers] == [
        ("404", False, ""),
        ("500", True, '"why"'),
        ("200", False, ""),
    ]
    assert sent.left == 1


def test_each_request_of_a_flow_has_a_new_token_in_header_or_cookie() -> None:
    seen = []

    def respond(request: BaseHTTPRequestHandler) -> int:
        seen.append((request.headers["Authorization"], request.headers["Cookie"]))
        return 200

    tokens = iter(["a", "b", None])
    flow = [GET, Request("GET", "/", by_cookie=True), GET]
    with serving(respond) as url:
        run_flows(url, [flow], lambda: next(tokens), concurrency=1, deadline=30, versions=False)
    assert seen == [("Bearer a", None), (None, "_token=b"), (None, None)]


def test_requests_version_during_flows() -> None:
    third = threading.Event()
    versions: list[None] = []

    def respond(request: BaseHTTPRequestHandler) -> int:
        if request.path != VERSION:
            return 200 if third.wait(30) else 500
        versions.append(None)
        if len(versions) == 3:
            third.set()
        return 200

    with serving(respond) as url:
        sent = run_flows(url, [[GET]], concurrency=1, deadline=60)
    assert sent.outcomes == {"200": 1}
    assert len(sent.versions) >= 3
    assert sent.slowest_version == max(answer.seconds or 0 for answer in sent.versions)


def test_flow_in_flight_at_deadline_has_no_answer_and_leaves_the_rest() -> None:
    release = threading.Event()
    with serving(lambda _: 200 if release.wait(30) else 500) as url:
        sent = run_flows(url, [[GET, GET], [GET]], concurrency=1, deadline=0.2)
        release.set()
    assert [answer.outcome for answer in (*sent.answers, *sent.versions)] == [NO_ANSWER] * 2
    assert sent.left == 2
