"""Observations, and the outcome of a scenario."""

from __future__ import annotations

import pytest

from airflow_auth_patches.demo.load import NO_ANSWER, Answer, Request, Result
from airflow_auth_patches.demo.outcomes import (
    Kind,
    Measurement,
    Observation,
    Outcome,
    outcome_of,
    pool_timeouts,
    race_errors,
)

GET = Request("GET", "/")
#: The end of a traceback in the log of core 3.1 and 3.2: first in an exception group, then separately.
GROUP = """\
  + Exception Group Traceback (most recent call last):
  |   File "sqlalchemy/pool/impl.py", line 166, in _do_get
  |     raise exc.TimeoutError(
  | sqlalchemy.exc.TimeoutError: QueuePool limit of size 3 overflow 2 reached, connection timed out
  +------------------------------------
  File "sqlalchemy/pool/impl.py", line 166, in _do_get
    raise exc.TimeoutError(
sqlalchemy.exc.TimeoutError: QueuePool limit of size 3 overflow 2 reached, connection timed out
"""
#: The same in the log of core 3.3, which omits the message.
HANDLED = """\
2026-11-20T17:42:28.269355Z [error    ] Error with id u40UMJwP, statement: hidden
  File "sqlalchemy/pool/impl.py", line 177, in _do_get
    raise exc.TimeoutError(
2026-11-20T17:42:31.271309Z [info     ] request finished
"""
RACES = """\
  | AttributeError: 'AirflowAppBuilder' object has no attribute 'sm'
AttributeError: 'AirflowAppBuilder' object has no attribute 'sm'
Add Permission on View Error: 'AirflowAppBuilder' object has no attribute 'sm'
  | KeyError: 'AUTH_USER_REGISTRATION'
KeyError: 'AUTH_USER_REGISTRATION'
"""
HARMLESS = """\
    except KeyError:
    raise AttributeError(name)
INFO:     127.0.0.1:36136 - "POST /auth/token HTTP/1.1" 201 Created
"""


def observation(failed: bool) -> Observation:
    return Observation(sees="", failed=failed)


@pytest.mark.parametrize(
    ("kind", "stock", "patched", "outcome"),
    [
        (Kind.BUG, True, False, Outcome.CURED),
        (Kind.BUG, True, True, Outcome.NOT_CURED),
        (Kind.BUG, False, False, Outcome.NOT_SHOWN),
        (Kind.BUG, False, True, Outcome.NOT_SHOWN),
        (Kind.REGRESSION, False, False, Outcome.WORKS),
        (Kind.REGRESSION, False, True, Outcome.BROKEN),
        (Kind.REGRESSION, True, False, Outcome.CURED),
        (Kind.REGRESSION, True, True, Outcome.NOT_CURED),
    ],
)
def test_outcome_of_two_observations(kind: Kind, stock: bool, patched: bool, outcome: Outcome) -> None:
    assert outcome_of(kind, observation(stock), observation(patched)) is outcome


def test_noise_is_inconclusive_and_not_called_not_cured() -> None:
    noisy = Observation(sees="", failed=True, inconclusive=True)
    assert outcome_of(Kind.BUG, observation(True), noisy) is Outcome.INCONCLUSIVE
    assert outcome_of(Kind.BUG, observation(False), noisy) is Outcome.NOT_SHOWN


def test_a_demonstration_succeeds_without_a_finding_against_the_patches() -> None:
    bad = {Outcome.NOT_CURED, Outcome.NOT_SHOWN, Outcome.BROKEN}
    assert {each for each in Outcome if not each.good} == bad


@pytest.mark.parametrize(("log", "count"), [(GROUP, 1), (HANDLED, 1), (GROUP * 3, 3), (HARMLESS, 0), ("", 0)])
def test_counts_each_pool_time_out_once(log: str, count: int) -> None:
    assert pool_timeouts(log) == count


def test_counts_race_errors_outside_of_exception_groups() -> None:
    assert race_errors(RACES) == {"KeyError": 1, "AttributeError": 2}
    assert race_errors(RACES * 2) == {"KeyError": 2, "AttributeError": 4}
    assert race_errors(HARMLESS) == {}


@pytest.mark.parametrize(
    ("outcomes", "text"),
    [
        (["200", "200"], "5 at once: 0 of 2 fail"),
        (["200", "500", "500"], "5 at once: 2 of 3 fail (2 x 500)"),
        (
            [NO_ANSWER, "ReadError", "500", NO_ANSWER, "403", "200"],
            "5 at once: 5 of 6 fail (1 x 403, 1 x 500, 1 x ReadError, 2 no answer)",
        ),
    ],
)
def test_measurement_as_text(outcomes: list[str], text: str) -> None:
    result = Result([Answer(GET, outcome, 1.0) for outcome in outcomes], 1.0)
    assert str(Measurement("5 at once", result, deadline=10)) == text
