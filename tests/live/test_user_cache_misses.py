"""The failures of the scenario `user-cache-misses`."""

from __future__ import annotations

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


POOL = "    raise exc.TimeoutError(\n"
RACE = "KeyError: 'x'\n"
GOOD = (loop.LoadTest(measured("200", "200"), "", seen()), READ)


def with_sites(*sites: loop.Site) -> Load:
    return replace(GOOD[0], seen=seen(*sites)), READ


def summary(*loads: Load) -> tuple[bool, str]:
    observation = observe(loads)
    return observation.failed, observation.sees


def test_succeeds_when_all_queries_run_off_the_loop() -> None:
    elsewhere = loop.Site("statements", "airflow/models/dag.py:f (dag)", 3, {})
    nested = loop.Site("nested", FABS, 3, {})
    failed, sees = summary(GOOD, with_sites(elsewhere, nested))
    assert not failed
    assert "load: 0 of 2 fail in 1 s" in sees
    assert f"users read {2 * (USERS + 1)} times; 0 of FAB's {18 * USERS} queries on the loop" in sees


@pytest.mark.parametrize(
    "bad",
    [
        (replace(GOOD[0], measurement=measured("200", "403")), READ),
        (replace(GOOD[0], log=POOL), READ),
        (replace(GOOD[0], log=RACE), READ),
        (GOOD[0], replace(READ, on_loop=1)),
        (GOOD[0], replace(READ, users=USERS)),
        *(with_sites(loop.Site(kind, FABS, 1, {})) for kind in ("waits", "checkouts")),
    ],
    ids=["answer", "pool", "race", "query", "never forgot", "waits", "checkouts"],
)
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_failure_of_one_load_test_is_a_failure(bad: Load, first: bool) -> None:
    assert summary(*((bad, GOOD) if first else (GOOD, bad)))[0]


def test_omits_counts_of_server_that_hangs() -> None:
    hangs = loop.LoadTest(measured("200", NO_ANSWER), POOL * 4 + RACE * 2)
    failed, sees = summary((hangs, None), GOOD)
    assert failed
    assert "load: 1 of 2 fail (1 no answer) in 1 s" in sees
    assert "4 pool time-outs" in sees
    assert "queries" not in sees
