"""What ``probes/loop_watch.py`` counted in a server that was booted with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_auth_patches.demo.pages import ask

#: What a server's settings name to have it watched.
WATCH = "loop_watch"


@dataclass(frozen=True)
class Site:
    """
    A place that asked something of a database while the event loop waited for it.

    :param kind: ``statements``, ``checkouts``, ``ends`` (of transactions), ``waits`` (for a connection),
        or ``nested``: a connection that a request took while it held another, in whatever thread.
    :param site: file and function, with the table of a statement.
    :param count: how often.
    :param routes: how often for which route.
    """

    kind: str
    site: str
    count: int
    routes: Mapping[str, int]


@dataclass(frozen=True)
class Report:
    """
    What happened on a server's event loop between a reset and the report.

    :param seconds: how long that was.
    :param statements: SQL statements that the loop waited for.
    :param checkouts: connections that were taken from a pool on the loop.
    :param ends: commits, rollbacks and resets of connections that the loop waited for.
    :param waits: how often the loop waited for a connection, and ``waited`` for how many seconds in all.
    :param nested: how often a request took a connection while it held another, in whatever thread.
    :param longest_stop: the longest time that the loop stood still, in seconds, whatever for.
    :param longest_block: the longest time of a stop during which another thread of the process went on, in
        seconds: without what is due to a process that got no processor.
    :param longest_collection: the longest garbage collection, in seconds: it stops every thread.
    :param late: how many stops were longer than 0.1 s.
    :param exempt: what asynchronous engines did, by kind: the loop goes on meanwhile.
    :param sites: where the calls came from, the most frequent first for each kind.
    :param stops: where the loop's thread was during the stops longer than 0.1 s, and how many there.
    """

    seconds: float
    statements: int
    checkouts: int
    ends: int
    waits: int
    nested: int
    waited: float
    longest_stop: float
    longest_block: float
    longest_collection: float
    late: int
    exempt: Mapping[str, int]
    sites: tuple[Site, ...]
    stops: Mapping[str, int]

    @property
    def clean(self) -> bool:
        """Whether the loop waited for no database."""
        return not (self.statements or self.checkouts or self.ends or self.waits)

    def data(self) -> dict[str, Any]:
        """Give it as plain data, for JSON."""
        return {**vars(self), "sites": [vars(each) for each in self.sites]}


def reset(url: str) -> None:
    """
    Begin to count.

    :param url: of a server that was booted with ``WATCH``.
    :raises Problem: when it does not answer.
    """
    ask("POST", f"{url}/loop-watch/reset", "The event loop")


def report(url: str) -> Report:
    """
    Tell what was counted since the reset.

    :param url: of a server that was booted with ``WATCH``.
    :raises Problem: when it does not answer.
    """
    told = ask("GET", f"{url}/loop-watch/report", "The event loop")
    return Report(
        **told["totals"],
        seconds=told["seconds"],
        waited=told["waited"],
        longest_stop=told["longest_stop"],
        longest_block=told["longest_block"],
        longest_collection=told["longest_collection"],
        late=told["late_beats"],
        exempt=told["exempt"],
        sites=tuple(Site(**each) for each in told["sites"]),
        stops=told["stops"],
    )
