"""Users besides the administrator, and what ``probes/user_watch.py`` counted of FAB's reading of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from airflow_auth_patches.demo.pages import ask
from airflow_auth_patches.demo.server import Server

ADD = Path(__file__).with_name("add_users.py")
#: The id of the first; far from those that Airflow gives.
FIRST = 1001
#: What a server's settings name to have FAB's queries watched.
WATCH = "user_watch"


def add(server: Server, count: int) -> list[int]:
    """
    Add users who are what the administrator is, once for each database.

    :param server: one that runs on the database.
    :param count: how many.
    :return: their ids.
    :raises Problem: when the database refuses them.
    """
    ids = list(range(FIRST, FIRST + count))
    server.run(ADD, *map(str, ids))
    return ids


@dataclass(frozen=True)
class Read:
    """
    What was asked of FAB's tables between a reset and the report.

    :param users: how often a user was read.
    :param queries: how many queries, with those for roles and permissions.
    :param on_loop: how many of them the event loop waited for.
    """

    users: int
    queries: int
    on_loop: int


def reset(url: str) -> None:
    """
    Begin to count.

    :param url: of a server that was booted with ``WATCH``.
    :raises Problem: when it does not answer.
    """
    ask("POST", f"{url}/user-watch/reset", "The users")


def report(url: str) -> Read:
    """
    Tell what was counted since the reset.

    :param url: of a server that was booted with ``WATCH``.
    :raises Problem: when it does not answer.
    """
    return Read(**ask("GET", f"{url}/user-watch/report", "The users"))
