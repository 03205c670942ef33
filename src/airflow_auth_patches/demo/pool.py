"""What ``probes/pool_watch.py`` counts in a server that was booted with it."""

from __future__ import annotations

import re

from airflow_auth_patches.demo.pages import ask

#: The name of the module, for the settings of a server to watch.
WATCH = "pool_watch"
WAITING = re.compile(r"^pool-watch: (\d+) waiting$", re.MULTILINE)


def reset(url: str) -> None:
    """
    Begin to count.

    :param url: of a server that was booted with ``WATCH``.
    :raises Problem: when it does not answer.
    """
    ask("POST", f"{url}/pool-watch/reset", "The connection pool")


def most_waiting(log: str) -> int:
    """
    Return the largest number of threads that waited for a connection at the same time.

    :param log: what the server logged since the reset.
    """
    return max(map(int, WAITING.findall(log)), default=0)
