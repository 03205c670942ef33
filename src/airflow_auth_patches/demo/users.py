"""Add users, and read the counts of the in-process probe ``probes/user_watch.py`` from a server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from airflow_auth_patches.demo import pages
from airflow_auth_patches.demo.server import Server

ADD = Path(__file__).with_name("add_users.py")
#: The id of the first added user; far from the ids that Airflow assigns.
FIRST = 1001
#: Name of the probe, for `Settings.probes`.
WATCH = "user_watch"


def add(server: Server, count: int) -> list[int]:
    """
    Add users with the roles of the administrator. Call it once per database.

    :param server: a server on the database.
    :param count: the number of users.
    :return: the ids of the users.
    :raises Problem: when the users cannot be added.
    """
    ids = list(range(FIRST, FIRST + count))
    server.run(ADD, *map(str, ids))
    return ids


@dataclass(frozen=True)
class Read:
    """
    Counts of the queries on FAB's tables between a reset and the report.

    :param users: how often a user was read.
    :param queries: the number of queries, including those for roles and permissions.
    :param on_loop: the number of queries that blocked the event loop.
    """

    users: int
    queries: int
    on_loop: int


def report(url: str) -> Read:
    """
    Return the counts since the reset.

    :param url: the URL of a server booted with ``WATCH``.
    :raises Problem: when the server does not respond.
    """
    return Read(**pages.report(url, WATCH))
