"""One load test with browser sessions, and its figures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from airflow_auth_patches.demo import browsers
from airflow_auth_patches.demo.load import Result

#: The in-process probe that counts the threads that wait for a connection, and its lines in the log.
WATCH = "pool_watch"
WAITING = re.compile(r"^pool-watch: (\d+) waiting$", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """
    One load test.

    :param form: the display name of the server: ``stock + plugin``.
    :param load: the results of the sessions.
    :param waiting: the largest number of threads that waited for a connection at the same time.
    :param pool_timeouts: the number of pool time-outs in the log.
    :param round: the number of the comparison of two servers, from 1; 0 for none.
    """

    form: str
    load: browsers.Load
    waiting: int
    pool_timeouts: int
    round: int = 0

    @property
    def lost(self) -> int:
        """The number of requests without the status 200."""
        return len(self.load.result.failures)

    def data(self) -> dict[str, Any]:
        """Return the load test as JSON-serializable data; times are in seconds."""
        result, beats = self.load.result, self.load.heartbeats
        heartbeats = {
            "heartbeats": len(beats.answers),
            "heartbeats_lost": len(beats.failures),
            **{f"heartbeats_p{percent}": seconds_of(beats, percent) for percent in (50, 95)},
        }
        return {
            "form": self.form,
            "sessions": self.load.sessions,
            "round": self.round,
            "requests": len(result.answers),
            "lost": self.lost,
            "outcomes": dict(sorted(result.outcomes.items())),
            "requests_per_second": round(self.load.rate, 1),
            **{f"p{percent}": seconds_of(result, percent) for percent in (50, 95, 99)},
            "slowest_version": round(result.slowest_version, 3),
            "waiting_threads": self.waiting,
            "pool_timeouts": self.pool_timeouts,
            **(heartbeats if beats.answers else {}),
        }


def seconds_of(result: Result, percent: int) -> float:
    """Return a percentile of the times of responses, in seconds; 0 without responses."""
    return round(result.percentile(percent) or 0.0, 3)


def most_waiting(log: str) -> int:
    """
    Return the largest number of threads that waited for a connection at the same time.

    :param log: the log of the server since the reset of ``WATCH``.
    """
    return max(map(int, WAITING.findall(log)), default=0)
