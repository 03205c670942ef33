"""Read the counts of the in-process probe ``probes/loop_watch.py`` from a server, also of a load test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_auth_patches.demo import pages, plot_data
from airflow_auth_patches.demo.load import Request, send
from airflow_auth_patches.demo.outcomes import Measurement
from airflow_auth_patches.demo.server import Server

#: Name of the probe, for `Settings.probes`.
WATCH = "loop_watch"


@dataclass(frozen=True)
class Site:
    """
    A call site that used a database and blocked the event loop.

    :param kind: ``statements``, ``checkouts``, ``ends`` (of transactions), ``waits`` (for a connection),
        or ``nested``: a connection that a request took while it held another one, in any thread.
    :param site: file and function, with the table of a statement.
    :param count: the number of calls.
    :param routes: the number of calls by route.
    """

    kind: str
    site: str
    count: int
    routes: Mapping[str, int]


@dataclass(frozen=True)
class Report:
    """
    Event-loop counts of a server between a reset and the report.

    :param seconds: the time between the reset and the report.
    :param statements: the number of SQL statements that blocked the loop.
    :param checkouts: the number of connections taken from a pool on the loop.
    :param ends: the number of commits, rollbacks and connection resets that blocked the loop.
    :param waits: how often the loop waited for a connection.
    :param nested: how often a request took a connection while it held another one, in any thread.
    :param waited: the total seconds for which the loop waited for a connection.
    :param longest_stop: the highest event-loop lag, in seconds, for any reason.
    :param longest_block: the highest lag during which another thread of the process ran, in seconds. This
        excludes the time in which the process got no CPU.
    :param longest_collection: the longest garbage collection, in seconds; it stops every thread.
    :param late: the number of lags longer than 0.1 s.
    :param exempt: calls of asynchronous engines, by kind; they do not block the loop.
    :param sites: the call sites, the most frequent first for each kind.
    :param stops: the position of the loop's thread during lags longer than 0.1 s, with their number.
    :param lags: the highest lag of each 0.1 s: the seconds from the reset to the time when the loop was due
        to wake up, and the lag in seconds.
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
    lags: Sequence[Sequence[float]] = ()

    @property
    def clean(self) -> bool:
        """Whether no database call blocked the loop."""
        return not (self.statements or self.checkouts or self.ends or self.waits)

    def plot(self) -> plot_data.Plot:
        """Return a plot of the database calls that blocked the loop."""
        calls = {
            "SQL statements": self.statements,
            "connections taken": self.checkouts,
            "transactions ended": self.ends,
            "waits for a connection": self.waits,
        }
        return plot_data.bars("Database calls on the event loop", calls)

    def data(self) -> dict[str, Any]:
        """Return the counts as JSON-serializable data, without the lags."""
        data = {**vars(self), "sites": [vars(each) for each in self.sites]}
        del data["lags"]
        return data


def report(url: str) -> Report:
    """
    Return the counts since the reset.

    :param url: the URL of a server booted with ``WATCH``.
    :raises Problem: when the server does not respond.
    """
    found = pages.report(url, WATCH)
    sites = tuple(Site(**each) for each in found.pop("sites"))
    late, _ = found.pop("late_beats"), found.pop("beats")
    return Report(**found.pop("totals"), **found, late=late, sites=sites)


@dataclass(frozen=True)
class LoadTest:
    """
    The result of a load test.

    :param measurement: the results of the requests.
    :param log: the log of the server meanwhile.
    :param seen: the counts of the event loop; ``None`` if the server hangs.
    """

    measurement: Measurement
    log: str
    seen: Report | None = None


def lag_plot(tests: Sequence[LoadTest]) -> list[plot_data.Plot]:
    """Return the plot of the lag during load tests; none if the server hangs in all of them."""
    runs = {test.measurement.name: test.seen.lags for test in tests if test.seen is not None}
    return [plot_data.lag(runs)] if runs else []


def load_test(
    server: Server, name: str, requests: Sequence[Request], *, deadline: float, concurrency: int
) -> LoadTest:
    """
    Send requests concurrently, after the first of them alone, and read the counts.

    :param server: a running server, with ``WATCH`` and other probes.
    :param name: the name of the measurement.
    :param requests: the requests.
    :param deadline: seconds for all of them.
    :param concurrency: the number of requests in flight at the same time.
    """
    send(server.url, requests[:1], deadline=deadline)
    # The other probes, such as `no_check`, count nothing.
    watches = [probe for probe in server.settings.probes if probe.endswith("_watch")]
    pages.reset(server.url, *watches)
    mark = server.log_size()
    result = send(server.url, requests[1:], deadline=deadline, concurrency=concurrency)
    seen = None if result.unfinished else report(server.url)
    return LoadTest(Measurement(name, result, deadline), server.log_since(mark), seen)
