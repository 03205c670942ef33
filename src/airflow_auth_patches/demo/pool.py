"""Read the counts of the in-process probe ``probes/pool_watch.py`` from a server."""

from __future__ import annotations

import re

from airflow_auth_patches.demo.pages import ask

#: Name of the probe, for `Settings.probes`.
WATCH = "pool_watch"
WAITING = re.compile(r"^pool-watch: (\d+) waiting$", re.MULTILINE)


def reset(url: str) -> None:
    """
    Reset the counts.

    :param url: the URL of a server booted with ``WATCH``.
    :raises Problem: when the server does not respond.
    """
    ask("POST", f"{url}/pool-watch/reset")


def most_waiting(log: str) -> int:
    """
    Return the largest number of threads that waited for a connection at the same time.

    :param log: the log of the server since the reset.
    """
    return max(map(int, WAITING.findall(log)), default=0)
