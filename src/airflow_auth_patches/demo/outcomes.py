"""Observations of a scenario, and the outcome from the observations on stock and patched."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from airflow_auth_patches.demo.load import NO_ANSWER, Result

#: A pool time-out in the log. This matches SQLAlchemy's line in the traceback, because some releases do not
#: log the message. It does not match lines of an exception group, which repeat a logged traceback.
POOL_TIMEOUT = re.compile(r"^ *raise exc\.TimeoutError\(", re.MULTILINE)
KEY_ERROR = re.compile(r"^KeyError\b", re.MULTILINE)
#: Flask-AppBuilder logs some of these errors without the name of the exception.
ATTRIBUTE_ERROR = re.compile(r"^(?! *\|).*\bobject has no attribute '", re.MULTILINE)


@dataclass(frozen=True)
class Measurement:
    """
    The requests of one kind in a scenario, all rounds together.

    :param name: the display name: ``5 at once``.
    :param result: the results of the requests.
    :param deadline: seconds for each round.
    :param rounds: the number of rounds that ran.
    :param planned: the number of rounds that run if the server does not hang.
    """

    name: str
    result: Result
    deadline: float
    rounds: int = 1
    planned: int = 1

    def __str__(self) -> str:
        """Return a short summary of the failures that a user sees."""
        total, failed = len(self.result.answers), len(self.result.failures)
        if not failed:
            return f"{self.name}: 0 of {total} fail"
        ways = Counter(answer.outcome for answer in self.result.failures)
        # Statuses first, then network errors, then requests without a response.
        order = sorted(ways, key=lambda way: (way == NO_ANSWER, not way.isdigit(), way))
        details = ", ".join(
            f"{ways[way]} {way}" if way == NO_ANSWER else f"{ways[way]} x {way}" for way in order
        )
        return f"{self.name}: {failed} of {total} fail ({details})"


@dataclass(frozen=True)
class Observation:
    """
    The observation of one scenario on one server.

    :param sees: what a user sees, in one or two sentences.
    :param failed: whether the bug occurred: an unexpected response, or an error in the log.
    :param measurements: the measurements.
    :param pool_timeouts: the number of pool time-outs in the log.
    :param warnings: the number of warnings that the patch logged instead of failing.
    :param log_errors: the number of log lines by error, for the errors that the scenario looks for.
    :param details: more results of the scenario, as JSON-serializable data.
    :param inconclusive: whether it failed only by a ratio whose noise exceeds the difference to its limit.
    """

    sees: str
    failed: bool
    measurements: Sequence[Measurement] = ()
    pool_timeouts: int = 0
    warnings: int = 0
    log_errors: dict[str, int] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    inconclusive: bool = False

    @classmethod
    def of(
        cls, measurements: Sequence[Measurement], *notes: str, failed: bool = False, **more: Any
    ) -> Observation:
        """
        Return the observation of measurements. It failed if a request failed.

        :param measurements: the measurements.
        :param notes: more sentences on what a user sees.
        :param failed: whether it failed for another reason.
        :param more: more fields.
        """
        lost = any(each.result.failures for each in measurements)
        sees = "; ".join((*map(str, measurements), *notes))
        return cls(sees, lost or failed, measurements, **more)


class Kind(str, Enum):
    """The purpose of a scenario."""

    BUG = "bug"  #: shows a bug: stock must fail
    REGRESSION = "regression"  #: works on stock, and must still work when patched


class Outcome(str, Enum):
    """The outcome of a scenario on a pair of releases."""

    CURED = "cured"  #: stock failed, patched did not
    NOT_CURED = "not cured"  #: both failed
    NOT_SHOWN = "not shown"  #: stock did not fail, so the bug was not reproduced
    WORKS = "works"  #: a regression scenario that passed on both
    BROKEN = "broken"  #: a regression scenario that passed on stock and failed when patched
    INCONCLUSIVE = "inconclusive"  #: the machine is too busy to say whether patched failed
    NOT_RUN = "not run"  #: the database is not installed

    @property
    def good(self) -> bool:
        """Whether the demonstration can succeed with this outcome."""
        return self in (Outcome.CURED, Outcome.WORKS, Outcome.INCONCLUSIVE, Outcome.NOT_RUN)


def outcome_of(kind: Kind, stock: Observation, patched: Observation) -> Outcome:
    """
    Return the outcome of a scenario.

    :param kind: the purpose of the scenario.
    :param stock: the observation on the stock releases.
    :param patched: the observation on the patched releases.
    """
    if stock.failed and patched.inconclusive:
        return Outcome.INCONCLUSIVE
    if stock.failed and not patched.failed:
        return Outcome.CURED
    if stock.failed:
        return Outcome.NOT_CURED
    if kind is Kind.REGRESSION:
        return Outcome.BROKEN if patched.failed else Outcome.WORKS
    return Outcome.NOT_SHOWN


def pool_timeouts(log: str) -> int:
    """
    Return the number of pool time-outs in a log.

    :param log: the log of a server.
    """
    return len(POOL_TIMEOUT.findall(log))


def race_errors(log: str) -> dict[str, int]:
    """
    Return the number of errors in a log that race conditions at the auth manager cause.

    :param log: the log of a server.
    :return: ``{"KeyError": lines, "AttributeError": lines}``, without zero counts.
    """
    counts = {
        "KeyError": len(KEY_ERROR.findall(log)),
        "AttributeError": len(ATTRIBUTE_ERROR.findall(log)),
    }
    return {name: count for name, count in counts.items() if count}
