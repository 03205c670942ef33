"""The outcome of load tests with browser sessions, from made-up load tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from airflow_auth_patches.demo import browsers
from airflow_auth_patches.demo.load import NO_ANSWER, Answer, Request, Result
from airflow_auth_patches.demo.outcomes import Observation
from airflow_auth_patches.demo.scenarios import ui_load
from airflow_auth_patches.demo.scenarios.ui_load import (
    LARGE_POOL,
    NO_LIMIT,
    PATCHED,
    PLUGIN,
    SESSIONS,
    STOCK,
    LoadTests,
    observe_patched,
    observe_stock,
)
from airflow_auth_patches.demo.ui_load_runs import Run, most_waiting

GET = Request("GET", "/")


def run(form: str, rate: float = 100.0, sessions: int = 30, lost: Sequence[str] = ()) -> Run:
    outcomes = [*["200"] * 6, *lost]
    answers = [Answer(GET, each, number / 10) for number, each in enumerate(outcomes)]
    result = Result(answers, 2.0, versions=[Answer(GET, "200", 0.25)])
    load = browsers.Load(sessions, result, in_time=round(2 * rate))
    return Run(form, load, waiting=41, pool_timeouts=3)


def patched(limited: Sequence[Run] | None = None, large: Sequence[Run] | None = None) -> Observation:
    """Return the observation of three rounds and of further load tests with other rates."""
    rounds = [*enumerate(limited or [run(PATCHED)] * 3, 1), *enumerate(large or [run(LARGE_POOL)] * 3, 1)]
    return observe_patched(
        [
            *(replace(each, round=number) for number, each in rounds),
            *(run(PATCHED, 1), run(LARGE_POOL, 1000), run(NO_LIMIT, 10, lost=["500"])),
        ]
    )


def test_lost_requests_at_30_sessions_are_a_failure() -> None:
    seen = observe_stock([run(STOCK, 40, 5), run(STOCK, 6, lost=["500", NO_ANSWER])])
    assert seen.failed
    assert seen.sees == "stock: 6 requests/s, 2 of 8 lost"


def test_lost_requests_at_other_session_counts_are_no_failure() -> None:
    seen = observe_stock([run(PLUGIN, lost=["503"], sessions=60), run(PLUGIN)])
    assert not seen.failed
    assert seen.sees == "stock + plugin: 100 requests/s, 0 of 6 lost"


def test_limit_without_lost_requests_is_no_failure() -> None:
    seen = patched()
    assert not seen.failed
    assert seen.sees.split("; ") == [
        "all patches, no limit: 10 requests/s, 1 of 7 lost",
        "all patches: 100 requests/s, 0 of 24 lost",
        "all patches, pool 40+160, no limit: 100 requests/s, 0 of 24 lost",
        "1.00 times the throughput of pool 40+160 (median of 3 rounds, 95 % interval 1.00 to 1.00)",
    ]
    assert (seen.details["ratio"], seen.details["ratios"]) == (1.0, [1.0, 1.0, 1.0])


@pytest.mark.parametrize("form", [PATCHED, LARGE_POOL])
def test_lost_request_of_compared_server_is_a_failure(form: str) -> None:
    runs = [run(form), run(form), run(form, lost=["503"])]
    seen = patched(limited=runs) if form == PATCHED else patched(large=runs)
    assert seen.failed
    assert f"{form}: 100 requests/s, 1 of 25 lost" in seen.sees


@pytest.mark.parametrize(
    ("rates", "failed"), [((90, 90, 20), False), ((89, 89, 200), True), ((20, 90, 200), False)]
)
def test_outcome_depends_on_median_ratio(rates: Sequence[float], failed: bool) -> None:
    assert patched(limited=[run(PATCHED, rate) for rate in rates]).failed is failed


def test_compares_only_load_tests_of_the_same_round() -> None:
    limited, large = ([run(form, rate) for rate in (100, 40, 20)] for form in (PATCHED, LARGE_POOL))
    seen = patched(limited, large)
    assert not seen.failed
    assert seen.details["ratios"] == [1.0, 1.0, 1.0]


def test_ratio_to_server_without_responses_is_a_failure() -> None:
    assert patched(large=[run(LARGE_POOL, 0)] * 3).failed


def test_details_are_json_serializable_and_complete() -> None:
    details = json.loads(json.dumps(observe_stock([run(STOCK, 6, lost=["500", NO_ANSWER])]).details))
    (load,) = details.pop("loads")
    assert details == {"seconds": ui_load.SECONDS, "patience": ui_load.PATIENCE}
    assert load == {
        "form": "stock",
        "sessions": 30,
        "round": 0,
        "requests": 8,
        "lost": 2,
        "outcomes": {"200": 6, "500": 1, "no answer": 1},
        "requests_per_second": 6.0,
        "p50": 0.35,
        "p95": 0.665,
        "p99": 0.693,
        "slowest_version": 0.25,
        "waiting_threads": 41,
        "pool_timeouts": 3,
    }


class Somewhere:
    """A server that records its calls."""

    url = "http://somewhere"

    def __init__(self) -> None:
        self.done: list[str] = []

    def token(self) -> str:
        return "token"

    def tokens(self, count: int) -> list[str]:
        return ["token"] * count

    def log_size(self) -> int:
        return len(self.done)

    def log_since(self, mark: int) -> str:
        lines = "\n".join(self.done[mark:])
        return f"{lines}\npool-watch: 1 waiting\npool-watch: 12 waiting\n    raise exc.TimeoutError(\n"

    def reset(self, *probes: str) -> None:
        self.done.append("reset")

    def restart(self) -> None:
        self.done.append("restart")


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Somewhere]:
    """Return a function that creates a server. Its arguments are the session counts that lose requests."""

    def make(*losing: int) -> Somewhere:
        server = Somewhere()

        def browse(
            url: str,
            pages: Any,
            tokens: Sequence[str],
            *,
            seconds: float,
            patience: float,
            tasks: Sequence[Request] = (),
        ) -> browsers.Load:
            server.done.append(f"{len(tokens)} sessions on {pages}")
            load = run("", sessions=len(tokens), lost=["500"] if len(tokens) in losing else ()).load
            return replace(load, heartbeats=Result([Answer(each, "204", 0.1) for each in tasks], 1.0))

        def available(url: str, token: str, pages: Any) -> list[list[str]]:
            server.done.append("warm up")
            return [["/"]]

        monkeypatch.setattr(browsers, "browse", browse)
        monkeypatch.setattr(browsers, "available", available)
        return server

    return make


def test_server_without_lost_requests_is_not_restarted(loads: Callable[..., Somewhere]) -> None:
    server, tests = loads(), LoadTests()
    tests.sweep(STOCK, server)  # type: ignore[arg-type]
    assert server.done == [
        "warm up",
        *[word for sessions in SESSIONS for word in ("reset", f"{sessions} sessions on [['/']]")],
    ]
    assert [each.load.sessions for each in tests.runs] == list(SESSIONS)
    assert {(each.waiting, each.pool_timeouts) for each in tests.runs} == {(12, 1)}


def test_server_that_lost_requests_is_restarted_before_next_load(loads: Callable[..., Somewhere]) -> None:
    server, tests = loads(15, 60), LoadTests()
    tests.sweep(STOCK, server)  # type: ignore[arg-type]
    assert server.done.count("restart") == 1
    at = server.done.index("restart")
    assert server.done[at - 1] == "15 sessions on [['/']]"
    assert server.done[at + 1 : at + 4] == ["warm up", "reset", "30 sessions on [['/']]"]
    tests.measure(PATCHED, server, 30)  # type: ignore[arg-type]
    assert server.done.count("restart") == 1, "another server"
    tests.measure(STOCK, server, 30)  # type: ignore[arg-type]
    assert server.done.count("restart") == 2


@pytest.mark.parametrize(("losing", "restarts"), [((), 0), ((60,), 1)])
def test_measures_heartbeats_on_a_running_server(
    loads: Callable[..., Somewhere], monkeypatch: pytest.MonkeyPatch, losing: Sequence[int], restarts: int
) -> None:
    server, tests = loads(*losing), LoadTests()
    beat = Request("PUT", "/heartbeat", expect=204)
    monkeypatch.setattr(ui_load.tasks, "start", lambda server, count: [beat] * count)
    monkeypatch.setattr(ui_load, "send", lambda url, sent, deadline: server.done.append("first heartbeat"))
    tests.sweep(STOCK, server)  # type: ignore[arg-type]
    tests.run_tasks(STOCK, server)  # type: ignore[arg-type]
    assert server.done.count("restart") == restarts
    assert server.done.index("first heartbeat") < server.done.index("0 sessions on [['/']]")
    assert [each.load.sessions for each in tests.runs] == [*SESSIONS, 0, 30]
    assert [len(each.load.heartbeats.answers) for each in tests.runs[-2:]] == [20, 20]
    seen = observe_stock(tests.runs)
    assert seen.sees.split("; ")[1:] == [
        "20 tasks next to 0 sessions: 0 of 20 heartbeats lost, p95 100 ms",
        "20 tasks next to 30 sessions: 0 of 20 heartbeats lost, p95 100 ms",
    ]
    assert seen.details["loads"][-1]["heartbeats_p95"] == 0.1


def test_limit_that_costs_throughput_is_a_failure_unless_the_rounds_are_too_noisy() -> None:
    slow = patched(limited=[run(PATCHED, 80), run(PATCHED, 81), run(PATCHED, 79)])
    assert (slow.failed, slow.inconclusive) == (True, False)
    noisy = patched(limited=[run(PATCHED, 80), run(PATCHED, 120), run(PATCHED, 60)])
    assert (noisy.failed, noisy.inconclusive) == (True, True)
    lost = patched(limited=[run(PATCHED, 80), run(PATCHED, 120), run(PATCHED, 60, lost=["503"])])
    assert (lost.failed, lost.inconclusive) == (True, False)


def test_lost_heartbeat_is_a_failure() -> None:
    beaten = [Answer(Request("PUT", "/heartbeat", expect=204), outcome, 0.1) for outcome in ("204", "503")]
    compared = [replace(run(form), round=1) for form in (PATCHED, LARGE_POOL)]
    tasks = run(ui_load.with_tasks(PATCHED))
    for heartbeats, failed in ((beaten[:1], False), (beaten, True)):
        each = replace(tasks, load=replace(tasks.load, heartbeats=Result(heartbeats, 1.0)))
        assert observe_patched([*compared, each, run(NO_LIMIT)]).failed is failed


def test_reads_waiting_threads_from_log() -> None:
    log = "INFO: started\npool-watch: 1 waiting\nINFO: pool-watch: 50 waiting\npool-watch: 10 waiting\n"
    assert most_waiting(log) == 10
    assert most_waiting("INFO: started\n") == 0
