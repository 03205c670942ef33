"""The failures of the scenario `user-cache-misses`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from airflow_auth_patches.demo import loop
from airflow_auth_patches.demo.load import NO_ANSWER, Answer, Request, Result
from airflow_auth_patches.demo.outcomes import Measurement
from airflow_auth_patches.demo.scenarios.user_cache_misses import USERS, Load, observe
from airflow_auth_patches.demo.users import Read

FABS = "airflow/providers/fab/auth_manager/fab_auth_manager.py:FabAuthManager.deserialize_user"
READ = Read(users=USERS + 1, queries=9 * USERS, on_loop=0)


def measured(*outcomes: str) -> Measurement:
    request = Request("GET", "/")
    return Measurement("load", Result([Answer(request, outcome, 1.0) for outcome in outcomes], 1.0), 9.0)


def seen(*sites: loop.Site) -> loop.Report:
    return loop.Report(1.0, 0, 0, 0, 0, 0, 0.0, 0.1, 0.0, 0.0, 0, {}, sites, {})


GOOD = Load(measured("200", "200"), 0, {}, seen(), READ)


def summary(*loads: Load) -> tuple[bool, str]:
    observation = observe(loads)
    return observation.failed, observation.sees


def test_succeeds_when_all_queries_run_off_the_loop() -> None:
    elsewhere = loop.Site("statements", "airflow/models/dag.py:f (dag)", 3, {})
    nested = loop.Site("nested", FABS, 3, {})
    failed, sees = summary(GOOD, replace(GOOD, seen=seen(elsewhere, nested)))
    assert not failed
    assert "load: 0 of 2 fail in 1 s" in sees
    assert f"users read {2 * (USERS + 1)} times; 0 of FAB's {18 * USERS} queries on the loop" in sees


@pytest.mark.parametrize(
    "bad",
    [
        replace(GOOD, measurement=measured("200", "403")),
        replace(GOOD, pool_timeouts=1),
        replace(GOOD, errors={"KeyError": 1}),
        replace(GOOD, read=replace(READ, on_loop=1)),
        replace(GOOD, read=replace(READ, users=USERS)),
        *(replace(GOOD, seen=seen(loop.Site(kind, FABS, 1, {}))) for kind in ("waits", "checkouts")),
    ],
    ids=["answer", "pool", "race", "query", "never forgot", "waits", "checkouts"],
)
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_failure_of_one_load_test_is_a_failure(bad: Load, first: bool) -> None:
    loads: Sequence[Load] = (bad, GOOD) if first else (GOOD, bad)
    assert summary(*loads)[0]


def test_omits_counts_of_server_that_hangs() -> None:
    failed, sees = summary(Load(measured("200", NO_ANSWER), 4, {"KeyError": 2}), GOOD)
    assert failed
    assert "load: 1 of 2 fail (1 no answer) in 1 s" in sees
    assert "4 pool time-outs" in sees
    assert "queries" not in sees
