"""What ``probes/check_watch.py`` counted in a server that was booted with it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from airflow_auth_patches.demo.pages import ask

#: What a server's settings name to have its revocation check watched.
WATCH = "check_watch"
#: Seconds that a check may still hold its connection after the answers that it was for.
SETTLE = 1.0


@dataclass(frozen=True)
class Used:
    """
    The connections that the revocation check used between a reset and the report.

    :param most: the most at once.
    :param held: how many it had still at the report.
    :param taken: how often it took one.
    :param queries: how many queries it made.
    """

    most: int
    held: int
    taken: int
    queries: int


def reset(url: str) -> None:
    """
    Begin to count.

    :param url: of a server that was booted with ``WATCH``.
    :raises Problem: when it does not answer.
    """
    ask("POST", f"{url}/check-watch/reset", "The check")


def report(url: str) -> Used:
    """
    Tell what was counted since the reset, once no connection is held, or after ``SETTLE``.

    :param url: of a server that was booted with ``WATCH``, and is asked nothing else.
    :raises Problem: when it does not answer.
    """
    end = time.monotonic() + SETTLE
    while True:
        used = Used(**ask("GET", f"{url}/check-watch/report", "The check"))
        if not used.held or time.monotonic() > end:
            return used
        time.sleep(0.02)
