"""The scenarios, without a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from airflow_auth_patches.demo import scenario as scenario_module
from airflow_auth_patches.demo.load import NO_ANSWER, Answer, Request, Result
from airflow_auth_patches.demo.scenario import Scenario, rounds
from airflow_auth_patches.demo.scenarios import (
    ALL,
    SHORT,
    SHORT_PAIRS,
    choose,
    session_cleanup,
    truncated_page,
)
from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util.errors import Exit, Problem


def test_names_are_unique() -> None:
    assert len({scenario.name for scenario in ALL}) == len(ALL)


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)
def test_pairs_and_bugs_exist(scenario: Scenario, pins: Pins, project: Series) -> None:
    assert {*scenario.pairs} <= {pair.name for pair in pins.pairs}
    assert {*scenario.bugs} <= set(project.bugs)


#: Bugs that only unit tests can show, with the reason.
WITHOUT = {
    "auth-manager-none": "no request purges the app",
    "user-cache-race": "on stock the event loop alone uses the cache",
}


def test_every_default_pair_and_every_bug_has_a_scenario(pins: Pins, project: Series) -> None:
    shown = {bug for scenario in ALL for bug in scenario.bugs}
    assert shown.isdisjoint(WITHOUT)
    assert set(project.bugs) == shown | set(WITHOUT)
    assert {pair.name for pair in pins.default_pairs} == {name for scenario in ALL for name in scenario.pairs}


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)
def test_scenario_shows_only_bugs_that_patches_cure(scenario: Scenario, project: Series) -> None:
    assert {project.bugs[bug].known_open for bug in scenario.bugs} == {None}


def test_everything_chooses_all_scenarios() -> None:
    assert choose([], everything=True) == ALL


def test_short_demonstration_uses_oldest_and_newest_pair(pins: Pins) -> None:
    chosen = choose([])
    assert {scenario.name for scenario in chosen} == {*SHORT}
    assert all(scenario.pairs and {*scenario.pairs} <= {*SHORT_PAIRS} for scenario in chosen)
    assert {pair for scenario in chosen for pair in scenario.pairs} == {*SHORT_PAIRS}
    assert [pins.default_pairs[0].name, pins.newest_pair.name] == [*SHORT_PAIRS]
    assert {database for scenario in chosen for database in scenario.databases} == {"PostgreSQL"}


def test_chosen_scenarios_keep_order_of_demonstration() -> None:
    names = [scenario.name for scenario in choose(["sequence", "session-cleanup"])]
    assert names == ["session-cleanup", "sequence"]


def test_unknown_scenario_is_a_usage_error() -> None:
    with pytest.raises(Problem, match=r"no scenario 'x'.*Choose one of session-cleanup, ") as raised:
        choose(["sequence", "x"])
    assert raised.value.exit_code is Exit.USAGE


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Return a list for the outcomes of rounds. Each round removes its item."""
    planned: list[Sequence[str]] = []

    def send(url: str, requests: Sequence[Request], *, deadline: float) -> Result:
        pairs = zip(requests, planned.pop(0), strict=True)
        return Result([Answer(request, outcome, 1.0) for request, outcome in pairs], 1.0)

    monkeypatch.setattr(scenario_module, "send", send)
    return planned


class Somewhere:
    url = "http://somewhere"


def test_rounds_continue_after_failures(answers: Any) -> None:
    answers += [["500"], ["200"], ["500"]]
    measured = rounds(Somewhere(), "1 at once", [Request("GET", "/")], count=3, deadline=10)  # type: ignore[arg-type]
    assert (measured.rounds, measured.planned, measured.result.wall) == (3, 3, 3.0)
    assert measured.result.outcomes == {"500": 2, "200": 1}


def test_rounds_stop_when_server_hangs(answers: Any) -> None:
    answers += [["500"], [NO_ANSWER], ["never sent"]]
    measured = rounds(Somewhere(), "1 at once", [Request("GET", "/")], count=3, deadline=10)  # type: ignore[arg-type]
    assert (measured.rounds, measured.planned) == (2, 3)
    assert answers == [["never sent"]]


@pytest.mark.parametrize(
    ("module", "slug"), [(session_cleanup, "session-cleanup"), (truncated_page, "flask-teardown-guard")]
)
def test_counted_warning_is_one_that_the_patch_logs(module: Any, slug: str, project: Series) -> None:
    forms = [patch for patch in project.patches if patch.slug == slug]
    assert forms
    assert all(f'warning("{module.WARNING}"' in patch.path.read_text() for patch in forms)
