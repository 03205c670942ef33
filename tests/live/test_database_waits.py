"""The scenarios with a locked table or a silent database, as far as no server is needed."""

from __future__ import annotations

import pytest

from airflow_auth_patches.demo import plot_data
from airflow_auth_patches.demo.load import NO_ANSWER, VERSION, Answer, Request, Result
from airflow_auth_patches.demo.scenarios.database_waits import MORE, Disturbed, compare

HELD = (0.1, 8.1)


def sent(*outcomes: str, version: float, left: int = 0) -> Result:
    answers = [Answer(Request("GET", "/"), outcome, 1.0) for outcome in outcomes]
    return Result(answers, 1.0, left, [Answer(Request("GET", VERSION), "200", version)])


BEFORE = sent("200", version=0.1)


@pytest.mark.parametrize(
    ("during", "failed"),
    [
        (sent("200", "503", version=0.1 + MORE), False),
        (sent("200", version=0.2 + MORE), True),
        (sent("200", NO_ANSWER, version=0.1), True),
        (sent("200", version=0.1, left=1), True),
    ],
    ids=["continues", "slow version", "no answer", "not sent"],
)
def test_fails_only_if_requests_wait_for_the_database(during: Result, failed: bool) -> None:
    assert compare(BEFORE, {"dag_tag locked": Disturbed(during, HELD, [])}).failed is failed


def test_plots_lag_and_time_of_each_disturbance() -> None:
    lags = {"revoked_token locked": [(0.2, 7.9)], "dag_tag locked": [(0.2, 0.01)]}
    during = {name: Disturbed(BEFORE, HELD, points) for name, points in lags.items()}
    assert compare(BEFORE, during).details == {"plots": [plot_data.lag(lags, dict.fromkeys(lags, HELD))]}


def test_server_that_hangs_has_no_plot() -> None:
    hangs = Disturbed(sent(NO_ANSWER, version=9.0), HELD, [])
    assert compare(BEFORE, {"database silent": hangs}).details == {"plots": []}
