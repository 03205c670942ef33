"""What was observed on a server, and what the stock and the patched observation say together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from airflow_auth_patches.demo.load import NO_ANSWER, Result

#: A connection was waited for in vain. SQLAlchemy's own line in the traceback, as releases differ in whether
#: they log the message; a line of an exception group repeats one that is logged already.
POOL_TIMEOUT = re.compile(r"^ *raise exc\.TimeoutError\(", re.MULTILINE)
KEY_ERROR = re.compile(r"^KeyError\b", re.MULTILINE)
#: Flask-AppBuilder logs the message of some without the name.
ATTRIBUTE_ERROR = re.compile(r"^(?! *\|).*\bobject has no attribute '", re.MULTILINE)


@dataclass(frozen=True)
class Measurement:
    """
    The requests of one kind in a scenario, all rounds together.

    :param name: what was sent, for people: ``5 at once``.
    :param result: what became of the requests.
    :param deadline: seconds that each round had.
    :param rounds: how many rounds were run.
    :param planned: how many rounds there would have been, had the server gone on answering.
    """

    name: str
    result: Result
    deadline: float
    rounds: int = 1
    planned: int = 1

    def __str__(self) -> str:
        """Say in a few words what a user sees."""
        total, failed = len(self.result.answers), len(self.result.failures)
        if not failed:
            return f"{self.name}: 0 of {total} fail"
        ways = Counter(answer.outcome for answer in self.result.failures)
        # Statuses first, then errors, then those that were never answered.
        order = sorted(ways, key=lambda way: (way == NO_ANSWER, not way.isdigit(), way))
        told = ", ".join(
            f"{ways[way]} {way}" if way == NO_ANSWER else f"{ways[way]} x {way}" for way in order
        )
        return f"{self.name}: {failed} of {total} fail ({told})"


@dataclass(frozen=True)
class Observation:
    """
    What one server did in one scenario.

    :param sees: what a user sees, in a sentence or two.
    :param failed: whether the bug showed: any answer but the expected ones, or an error in the log that must
        not be there.
    :param measurements: the figures behind it.
    :param pool_timeouts: how often the log says that a connection was waited for in vain.
    :param warnings: how many of the warnings that the patch logs in place of failing.
    :param log_errors: how many lines of the log show which error, of those that the scenario looks for.
    :param details: what else was seen, as plain data for JSON.
    """

    sees: str
    failed: bool
    measurements: Sequence[Measurement] = ()
    pool_timeouts: int = 0
    warnings: int = 0
    log_errors: dict[str, int] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


class Kind(str, Enum):
    """What a scenario is for."""

    BUG = "bug"  #: stock must fail, or there is nothing to cure
    REGRESSION = "regression"  #: works on stock and must go on working


class Outcome(str, Enum):
    """What became of a scenario on a pair of releases."""

    CURED = "cured"  #: stock failed, patched did not
    NOT_CURED = "not cured"  #: both failed
    NOT_SHOWN = "not shown"  #: stock did not fail, so nothing is proven
    WORKS = "works"  #: a regression test that passed on both
    BROKEN = "broken"  #: a regression test that passed on stock and failed patched
    NOT_RUN = "not run"  #: its database is not installed

    @property
    def good(self) -> bool:
        """Whether the demonstration may end well with it."""
        return self in (Outcome.CURED, Outcome.WORKS, Outcome.NOT_RUN)


def judge(kind: Kind, stock: Observation, patched: Observation) -> Outcome:
    """
    Tell what two observations of a scenario say together.

    :param kind: what the scenario is for.
    :param stock: the observation on the stock releases.
    :param patched: the observation on the patched ones.
    """
    if stock.failed and not patched.failed:
        return Outcome.CURED
    if stock.failed:
        return Outcome.NOT_CURED
    if kind is Kind.REGRESSION:
        return Outcome.BROKEN if patched.failed else Outcome.WORKS
    return Outcome.NOT_SHOWN


def pool_timeouts(log: str) -> int:
    """
    Count the waits for a connection that were given up.

    :param log: what a server logged.
    """
    return len(POOL_TIMEOUT.findall(log))


def race_errors(log: str) -> dict[str, int]:
    """
    Count the errors that threads raise when they disturb each other at the auth manager.

    :param log: what a server logged.
    :return: ``{"KeyError": lines, "AttributeError": lines}``, without those that are nowhere.
    """
    counts = {
        "KeyError": len(KEY_ERROR.findall(log)),
        "AttributeError": len(ATTRIBUTE_ERROR.findall(log)),
    }
    return {name: count for name, count in counts.items() if count}
