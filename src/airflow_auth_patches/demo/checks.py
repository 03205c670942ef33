"""Read the counts of the in-process probe ``probes/check_watch.py`` from a server."""

from __future__ import annotations

import time
from dataclasses import dataclass

from airflow_auth_patches.demo import pages

#: Name of the probe, for `Settings.probes`.
WATCH = "check_watch"
#: Seconds for which a revocation check can hold its connection after the response.
SETTLE = 1.0


@dataclass(frozen=True)
class Used:
    """
    The connections that the revocation check used between a reset and the report.

    :param most: the maximum number at the same time.
    :param held: the number that it still held at the report.
    :param taken: the number of checkouts from the pool.
    :param queries: the number of queries.
    """

    most: int
    held: int
    taken: int
    queries: int


def report(url: str) -> Used:
    """
    Return the counts since the reset, once the check holds no connection or after ``SETTLE``.

    :param url: the URL of a server booted with ``WATCH``, without other requests.
    :raises Problem: when the server does not respond.
    """
    end = time.monotonic() + SETTLE
    while True:
        used = Used(**pages.report(url, WATCH))
        if not used.held or time.monotonic() > end:
            return used
        time.sleep(0.02)
