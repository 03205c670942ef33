"""Load tests with browser sessions on the Dags page, with Airflow's default pool and with a large pool."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from airflow_auth_patches.demo import browsers, tasks
from airflow_auth_patches.demo.load import Request, send
from airflow_auth_patches.demo.outcomes import Observation, pool_timeouts
from airflow_auth_patches.demo.preparation import UI_DAGS, Settings
from airflow_auth_patches.demo.ratios import Ratios
from airflow_auth_patches.demo.reached import Reached
from airflow_auth_patches.demo.scenario import Scenario
from airflow_auth_patches.demo.server import Server
from airflow_auth_patches.demo.ui_load_runs import WATCH, Run, most_waiting, seconds_of

PAIRS = ("3.2.2+3.6.5", "3.3.2+3.10.2")
SESSIONS = (5, 15, 30, 60)
#: The number of sessions whose load tests decide the outcome.
REFERENCE = 30
#: Seconds for which each load test sends requests.
SECONDS = 10.0
#: Seconds after which a session gives up a request.
PATIENCE = 15.0
#: Number of running tasks that send heartbeats, on a server without sessions and on one with `REFERENCE`.
TASKS = 20
#: Seconds for the first heartbeat.
FIRST_HEARTBEAT = 60.0
#: Number of throughput comparisons of two servers with `REFERENCE` sessions.
ROUNDS = 5
#: The minimum throughput with the limit, as a ratio to that with the large pool.
LEAST = 0.9

STOCK = "stock"
PLUGIN = "stock + plugin"
PATCHED = "all patches"
NO_LIMIT = "all patches, no limit"
LARGE_POOL = "all patches, pool 40+160, no limit"

SETTINGS = Settings(pool_size=5, max_overflow=10, pool_timeout=30, probes=(WATCH,))


class LoadTests:
    """
    The load tests of an observation, in the order in which they run.

    :param dags: the Dags on the page.
    """

    def __init__(self, dags: Sequence[str] = UI_DAGS) -> None:
        self.runs: list[Run] = []
        self._pages = browsers.stages(dags)

    def measure(
        self,
        form: str,
        server: Server,
        sessions: int,
        number: int = 0,
        heartbeats: Sequence[Request] = (),
    ) -> None:
        """
        Run one load test.

        If the server lost requests before, it can hang until the pool time-out, so it is restarted first.

        :param form: the display name of the server.
        :param server: a running server with ``WATCH``.
        :param sessions: the number of sessions.
        :param number: the number of the comparison of two servers.
        :param heartbeats: the heartbeat request of each running task, see :func:`tasks.start`.
        """
        before = [each for each in self.runs if each.form == form]
        if before and before[-1].lost:
            server.restart()
        self.load(form, server, sessions, number, heartbeats, again=bool(before) and not before[-1].lost)

    def load(
        self,
        form: str,
        server: Reached,
        sessions: int,
        number: int = 0,
        heartbeats: Sequence[Request] = (),
        *,
        again: bool = False,
    ) -> None:
        """
        Run one load test on a server that does not hang, see `measure`.

        :param again: whether the paths that the server supports are known.
        """
        if not again:
            # Request each path once, and omit the paths that the release does not support.
            self._pages = browsers.available(server.url, server.token(), self._pages)
        server.reset(WATCH)
        tokens, mark = server.tokens(sessions), server.log_size()
        load = browsers.browse(
            server.url, self._pages, tokens, seconds=SECONDS, patience=PATIENCE, tasks=heartbeats
        )
        log = server.log_since(mark)
        self.runs.append(Run(form, load, most_waiting(log), pool_timeouts(log), number))

    def sweep(self, form: str, server: Server) -> None:
        """
        Run a load test with each number of sessions.

        :param form: the display name of the server.
        :param server: a running server with ``WATCH``.
        """
        for sessions in SESSIONS:
            self.measure(form, server, sessions)

    def run_tasks(self, form: str, server: Server) -> None:
        """
        Run load tests with heartbeats of running tasks, without sessions and with `REFERENCE` sessions.

        :param form: the display name of the server.
        :param server: a server with ``WATCH`` that was measured before.
        """
        if self.runs[-1].lost:
            server.restart()
        heartbeats = tasks.start(server, TASKS)
        # The execution API creates its routes at the first request.
        send(server.url, heartbeats[:1], deadline=FIRST_HEARTBEAT)
        for sessions in (0, REFERENCE):
            self.measure(with_tasks(form), server, sessions, heartbeats=heartbeats)


def with_tasks(form: str) -> str:
    """Return the display name of a server with running tasks."""
    return f"{form}, {TASKS} running tasks"


def run(server: Server) -> Observation:
    """
    Run the load tests of a server without patches.

    :param server: a newly booted server, with or without the plugin.
    """
    tests = LoadTests()
    form = PLUGIN if server.settings.admission_plugin else STOCK
    tests.sweep(form, server)
    tests.run_tasks(form, server)
    return observe_stock(tests.runs)


def run_patched(server: Server) -> Observation:
    """Run the load tests of a server with all patches, and of servers with another limit and pool."""
    tests = LoadTests()
    tests.sweep(PATCHED, server)
    unlimited = replace(server.settings, max_concurrent_requests=0)
    with server.sibling("large-pool", settings=replace(unlimited, pool_size=40, max_overflow=160)) as large:
        tests.sweep(LARGE_POOL, large.wait())
        # Measure the two servers directly after each other: the machine can be busier later.
        for number in range(1, ROUNDS + 1):
            pair = [(PATCHED, server), (LARGE_POOL, large)]
            for form, each in pair if number % 2 else pair[::-1]:
                tests.measure(form, each, REFERENCE, number)
    tests.run_tasks(PATCHED, server)
    server.stop()
    with server.sibling("no-limit", settings=unlimited) as none:
        tests.sweep(NO_LIMIT, none.wait())
    return observe_patched(tests.runs)


def run_once(server: Reached, dags: Sequence[str] = UI_DAGS) -> Observation:
    """
    Run one load test with `REFERENCE` sessions. A lost request is a failure.

    :param server: a newly booted server, with ``WATCH`` to count the waiting threads too.
    :param dags: the Dags on the page.
    """
    tests = LoadTests(dags)
    tests.load(f"{REFERENCE} sessions", server, REFERENCE)
    return observe_stock(tests.runs)


def observe_stock(runs: Sequence[Run]) -> Observation:
    """
    Return the observation of one server. Lost requests at `REFERENCE` sessions are a failure.

    :param runs: the load tests of the server.
    """
    form = runs[0].form
    decisive = _at_reference(runs, form)
    return Observation(
        sees="; ".join([summary(decisive), *heartbeats(runs, form)]),
        failed=any(each.lost for each in decisive),
        details=details(runs),
    )


def observe_patched(runs: Sequence[Run]) -> Observation:
    """
    Return the observation of the servers with all patches.

    It is a failure if requests are lost at `REFERENCE` sessions with the limit or with the large pool, if
    heartbeats are lost, or if the limit reduces the throughput too much.

    :param runs: the load tests of the servers.
    """
    none, limited, large = (_at_reference(runs, form) for form in (NO_LIMIT, PATCHED, LARGE_POOL))
    rates = {(each.form, each.round): each.load.rate for each in runs if each.round}
    rounds = sorted({number for _, number in rates})
    # The throughput with the limit, divided by that with the large pool, in the same round.
    compared = Ratios(
        [rates[PATCHED, each] / most if (most := rates[LARGE_POOL, each]) else 0.0 for each in rounds]
    )
    slower = compared.fall_below(LEAST)
    lost = any(each.lost for each in (*limited, *large)) or any(
        each.load.heartbeats.failures for each in runs if each.form == with_tasks(PATCHED)
    )
    return Observation(
        sees="; ".join(
            (
                *map(summary, (none, limited, large)),
                *heartbeats(runs, PATCHED),
                compared.text("the throughput of pool 40+160"),
            )
        ),
        failed=lost or slower is not False,
        inconclusive=slower is None and not lost,
        details={
            **details(runs),
            "ratio": round(compared.median, 3),
            "ratios": [round(each, 3) for each in compared.values],
        },
    )


def summary(runs: Sequence[Run]) -> str:
    """
    Return a short summary of what users see.

    :param runs: load tests of one server.
    """
    total, lost = sum(len(each.load.result.answers) for each in runs), sum(each.lost for each in runs)
    rate = statistics.median(each.load.rate for each in runs)
    return f"{runs[0].form}: {rate:.0f} requests/s, {lost} of {total} lost"


def heartbeats(runs: Sequence[Run], form: str) -> list[str]:
    """
    Return summaries of the heartbeats of running tasks, without sessions and with sessions.

    :param runs: load tests of any servers.
    :param form: the display name of the server to summarize.
    :return: one sentence per load test with tasks.
    """
    loads = [each.load for each in runs if each.form == with_tasks(form)]
    return [
        f"{TASKS} tasks next to {each.sessions} sessions: {len(each.heartbeats.failures)} of "
        f"{len(each.heartbeats.answers)} heartbeats lost, p95 {seconds_of(each.heartbeats, 95) * 1000:.0f} ms"
        for each in loads
    ]


def details(runs: Sequence[Run]) -> dict[str, Any]:
    """
    Return all load tests as JSON-serializable data, for the record and the figure.

    :param runs: the load tests, in the order in which they ran.
    """
    return {"seconds": SECONDS, "patience": PATIENCE, "loads": [each.data() for each in runs]}


def _at_reference(runs: Sequence[Run], form: str) -> list[Run]:
    return [each for each in runs if each.form == form and each.load.sessions == REFERENCE]


SCENARIOS = (
    Scenario(
        name="browser-sessions",
        about=(
            f"{REFERENCE} browser sessions on the Dags page, {browsers.CONNECTIONS} connections each, "
            f"{SECONDS:.0f} s; pool {SETTINGS.pool_size}+{SETTINGS.max_overflow}, pool_timeout "
            f"{SETTINGS.pool_timeout} s; lost: not 200 within {PATIENCE:.0f} s"
        ),
        bugs=("pool-hold-and-wait",),
        pairs=PAIRS[-1:],
        run=run_once,
        settings=SETTINGS,
        alone=True,
    ),
    Scenario(
        name="ui-load",
        about=(
            f"{', '.join(map(str, SESSIONS))} browser sessions on the Dags page, {browsers.CONNECTIONS} "
            f"connections each, {SECONDS:.0f} s; shown: {REFERENCE} sessions; pool {SETTINGS.pool_size}"
            f"+{SETTINGS.max_overflow}, pool_timeout {SETTINGS.pool_timeout} s; lost: not 200 within "
            f"{PATIENCE:.0f} s; at least {LEAST} times the throughput of pool 40+160; then {TASKS} running "
            f"tasks with a heartbeat a second, without sessions and next to {REFERENCE}"
        ),
        bugs=("pool-hold-and-wait",),
        pairs=PAIRS,
        run=run,
        run_patched=run_patched,
        settings=SETTINGS,
        plugin=True,
        alone=True,
    ),
)
