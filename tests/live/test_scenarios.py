"""The scenarios, as far as no server is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from airflow_auth_patches.demo import scenario as room
from airflow_auth_patches.demo.load import NO_ANSWER, Answer, Request, Result
from airflow_auth_patches.demo.scenario import Scenario, rounds
from airflow_auth_patches.demo.scenarios import ALL, SHORT, SHORT_PAIRS, choose
from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util.errors import Exit, Problem


def test_names_are_their_own() -> None:
    assert len({scenario.name for scenario in ALL}) == len(ALL)


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)
def test_names_only_what_the_series_knows(scenario: Scenario, pins: Pins, project: Series) -> None:
    assert {*scenario.pairs} <= {pair.name for pair in pins.pairs}
    assert {*scenario.bugs} <= set(project.bugs)


#: Bugs that unit tests show and no running server, and why.
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
def test_a_scenario_shows_bugs_that_patches_cure(scenario: Scenario, project: Series) -> None:
    assert {project.bugs[bug].known_open for bug in scenario.bugs} == {None}


def test_all_are_chosen_with_everything() -> None:
    assert choose([], everything=True) == ALL


def test_short_demonstration_has_its_scenarios_on_the_oldest_and_the_newest_pair(pins: Pins) -> None:
    chosen = choose([])
    assert {scenario.name for scenario in chosen} == {*SHORT}
    assert all(scenario.pairs and {*scenario.pairs} <= {*SHORT_PAIRS} for scenario in chosen)
    assert {pair for scenario in chosen for pair in scenario.pairs} == {*SHORT_PAIRS}
    assert [pins.default_pairs[0].name, pins.newest_pair.name] == [*SHORT_PAIRS]
    assert {database for scenario in chosen for database in scenario.databases} == {"PostgreSQL"}


def test_chosen_ones_keep_their_order() -> None:
    names = [scenario.name for scenario in choose(["sequence", "session-cleanup"])]
    assert names == ["session-cleanup", "sequence"]


def test_an_unknown_one_is_a_usage_error() -> None:
    with pytest.raises(Problem, match=r"no scenario 'x'.*There are: session-cleanup, ") as told:
        choose(["sequence", "x"])
    assert told.value.exit_code is Exit.USAGE


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Return a list of rounds to be answered so, which is used up."""
    planned: list[Sequence[str]] = []

    def send(url: str, requests: Sequence[Request], *, deadline: float) -> Result:
        told = zip(requests, planned.pop(0), strict=True)
        return Result([Answer(request, outcome, 1.0) for request, outcome in told], 1.0)

    monkeypatch.setattr(room, "send", send)
    return planned


class Somewhere:
    url = "http://somewhere"


def test_rounds_go_on_through_failures(answers: Any) -> None:
    answers += [["500"], ["200"], ["500"]]
    measured = rounds(Somewhere(), "1 at once", [Request("GET", "/")], count=3, deadline=10)  # type: ignore[arg-type]
    assert (measured.rounds, measured.planned, measured.result.wall) == (3, 3, 3.0)
    assert measured.result.outcomes == {"500": 2, "200": 1}


def test_rounds_end_when_the_server_stands_still(answers: Any) -> None:
    answers += [["500"], [NO_ANSWER], ["never sent"]]
    measured = rounds(Somewhere(), "1 at once", [Request("GET", "/")], count=3, deadline=10)  # type: ignore[arg-type]
    assert (measured.rounds, measured.planned) == (2, 3)
    assert answers == [["never sent"]]
