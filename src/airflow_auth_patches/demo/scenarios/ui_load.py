"""Browser sessions on the Dags page, with Airflow's default pool and with one too large to be a limit."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_auth_patches.demo import browsers, pool, tasks
from airflow_auth_patches.demo.load import Request, send
from airflow_auth_patches.demo.outcomes import Observation, pool_timeouts
from airflow_auth_patches.demo.preparation import UI_DAGS, Settings
from airflow_auth_patches.demo.scenario import Scenario
from airflow_auth_patches.demo.server import Server

PAIRS = ("3.2.2+3.6.5", "3.3.2+3.10.2")
SESSIONS = (5, 15, 30, 60)
#: The number of sessions that the outcome rests on.
JUDGED = 30
#: Seconds for which each load test sends requests.
SECONDS = 10.0
#: Seconds after which a session gives a request up.
PATIENCE = 15.0
#: Running tasks that send heartbeats, on a server without sessions and on one with `JUDGED`.
TASKS = 20
#: Seconds for the first heartbeat.
FIRST_HEARTBEAT = 60.0
#: How often the throughput of two servers with `JUDGED` sessions is compared.
ROUNDS = 5
#: The least throughput with the limit, as a part of that with the large pool.
LEAST = 0.9

STOCK = "stock"
PLUGIN = "stock + plugin"
PATCHED = "all patches"
NO_LIMIT = "all patches, no limit"
LARGE_POOL = "all patches, pool 40+160, no limit"

SETTINGS = Settings(pool_size=5, max_overflow=10, pool_timeout=30, probes=(pool.WATCH,))


@dataclass(frozen=True)
class Run:
    """
    One load test.

    :param form: what the server is, for people: ``stock + plugin``.
    :param load: what the sessions saw.
    :param waiting: the largest number of threads that waited for a connection at the same time.
    :param pool_timeouts: how many of these waits ended in a time-out, as the log says.
    :param round: which comparison of two servers it belongs to, from 1; 0 for none.
    """

    form: str
    load: browsers.Load
    waiting: int
    pool_timeouts: int
    round: int = 0

    @property
    def lost(self) -> int:
        """How many requests got anything but the status 200."""
        return len(self.load.result.failures)

    def data(self) -> dict[str, Any]:
        """Return it as plain data, for JSON; times are in seconds."""
        result = self.load.result
        heartbeats = self.load.heartbeats
        return {
            "form": self.form,
            "sessions": self.load.sessions,
            "round": self.round,
            "requests": len(result.answers),
            "lost": self.lost,
            "outcomes": dict(sorted(result.outcomes.items())),
            "requests_per_second": round(self.load.rate, 1),
            **{f"p{percent}": round(result.percentile(percent) or 0.0, 3) for percent in (50, 95, 99)},
            "slowest_version": round(self.load.slowest_version, 3),
            "waiting_threads": self.waiting,
            "pool_timeouts": self.pool_timeouts,
            **(
                {
                    "heartbeats": len(heartbeats.answers),
                    "heartbeats_lost": len(heartbeats.failures),
                    "heartbeats_p50": round(heartbeats.percentile(50) or 0.0, 3),
                    "heartbeats_p95": round(heartbeats.percentile(95) or 0.0, 3),
                }
                if heartbeats.answers
                else {}
            ),
        }


class LoadTests:
    """The load tests of an observation, in the order in which they are run."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self._pages = browsers.stages(UI_DAGS)

    def warm_up(self, server: Server) -> None:
        """Request each path once, and leave out those that the release does not have."""
        self._pages = browsers.available(server.url, server.token(), self._pages)

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

        A server that lost requests may hang until the pool's time-out, so it is restarted first.

        :param form: what the server is.
        :param server: one that answers, with ``pool.WATCH``.
        :param sessions: how many.
        :param number: which comparison of two servers it belongs to.
        :param heartbeats: the heartbeat of each running task, see :func:`tasks.start`.
        """
        before = [each for each in self.runs if each.form == form]
        if before and before[-1].lost:
            server.restart()
        if not before or before[-1].lost:
            self.warm_up(server)
        pool.reset(server.url)
        tokens, mark = server.tokens(sessions), server.log_size()
        load = browsers.browse(
            server.url, self._pages, tokens, seconds=SECONDS, patience=PATIENCE, tasks=heartbeats
        )
        log = server.log_since(mark)
        self.runs.append(Run(form, load, pool.most_waiting(log), pool_timeouts(log), number))

    def sweep(self, form: str, server: Server) -> None:
        """
        Run a load test with each number of sessions.

        :param form: what the server is.
        :param server: one that answers, with ``pool.WATCH``.
        """
        for sessions in SESSIONS:
            self.measure(form, server, sessions)

    def run_tasks(self, form: str, server: Server) -> None:
        """
        Let running tasks send heartbeats, without sessions and with `JUDGED`.

        :param form: what the server is.
        :param server: one that was measured before, with ``pool.WATCH``.
        """
        if self.runs[-1].lost:
            server.restart()
        heartbeats = tasks.start(server, TASKS)
        # The execution API makes its routes when it is first used.
        send(server.url, heartbeats[:1], deadline=FIRST_HEARTBEAT)
        for sessions in (0, JUDGED):
            self.measure(with_tasks(form), server, sessions, heartbeats=heartbeats)


def with_tasks(form: str) -> str:
    """Return what a server is called when tasks run."""
    return f"{form}, {TASKS} running tasks"


def run(server: Server) -> Observation:
    """
    Load a server without patches.

    :param server: a fresh one, with the plugin or without.
    """
    tests = LoadTests()
    form = PLUGIN if server.settings.admission_plugin else STOCK
    tests.sweep(form, server)
    tests.run_tasks(form, server)
    return judge_stock(tests.runs)


def run_patched(server: Server) -> Observation:
    """
    Load a server with all patches, then others that differ in the limit and the pool.

    :param server: a fresh one, with the default limit.
    """
    tests = LoadTests()
    tests.sweep(PATCHED, server)
    unlimited = replace(server.settings, max_concurrent_requests=0)
    with server.sibling("large-pool", settings=replace(unlimited, pool_size=40, max_overflow=160)) as large:
        tests.sweep(LARGE_POOL, large.wait())
        # One right after the other, as the machine may be busier later; the other server is idle meanwhile.
        for number in range(1, ROUNDS + 1):
            pair = [(PATCHED, server), (LARGE_POOL, large)]
            for form, each in pair if number % 2 else pair[::-1]:
                tests.measure(form, each, JUDGED, number)
    tests.run_tasks(PATCHED, server)
    server.stop()
    with server.sibling("no-limit", settings=unlimited) as none:
        tests.sweep(NO_LIMIT, none.wait())
    return judge_patched(tests.runs)


def run_once(server: Server) -> Observation:
    """
    Load a server with `JUDGED` sessions once; a lost request is a failure.

    :param server: a fresh one, with ``pool.WATCH``.
    """
    tests = LoadTests()
    tests.measure(f"{JUDGED} sessions", server, JUDGED)
    lost = any(each.lost for each in tests.runs)
    return Observation(sees=summary(tests.runs), failed=lost, details=details(tests.runs))


def judge_stock(runs: Sequence[Run]) -> Observation:
    """
    Report the load tests of one server without patches; requests that are lost at `JUDGED` are a failure.

    :param runs: its load tests.
    """
    form = runs[0].form
    judged = _judged(runs, form)
    told = [summary(judged), *heartbeats(runs, form)]
    return Observation(sees="; ".join(told), failed=any(each.lost for each in judged), details=details(runs))


def judge_patched(runs: Sequence[Run]) -> Observation:
    """
    Report the load tests of the servers with all patches.

    It is a failure when requests are lost at `JUDGED` sessions with the limit or with the large pool, when
    heartbeats are lost, or when the limit costs throughput.

    :param runs: their load tests.
    """
    none, limited, large = (_judged(runs, form) for form in (NO_LIMIT, PATCHED, LARGE_POOL))
    compared = ratios(runs)
    ratio = statistics.median(compared)
    told = [*(summary(each) for each in (none, limited, large)), *heartbeats(runs, PATCHED)]
    told.append(
        f"{ratio:.2f} times the throughput of pool 40+160 (median of {len(compared)} rounds, "
        f"{min(compared):.2f} to {max(compared):.2f})"
    )
    return Observation(
        sees="; ".join(told),
        failed=any(each.lost for each in (*limited, *large))
        or any(each.load.heartbeats.failures for each in runs if each.form == with_tasks(PATCHED))
        or ratio < LEAST,
        details={**details(runs), "ratio": round(ratio, 3), "ratios": [round(each, 3) for each in compared]},
    )


def ratios(runs: Sequence[Run]) -> list[float]:
    """
    Return the throughput with the limit as a part of that with the large pool, for each round.

    :param runs: the load tests of both.
    """
    rates = {(each.form, each.round): each.load.rate for each in runs if each.round}
    rounds = sorted({number for _, number in rates})
    return [
        rates[PATCHED, number] / most if (most := rates[LARGE_POOL, number]) else 0.0 for number in rounds
    ]


def summary(runs: Sequence[Run]) -> str:
    """
    Say in a few words what users see.

    :param runs: load tests of one form.
    """
    total, lost = sum(len(each.load.result.answers) for each in runs), sum(each.lost for each in runs)
    rate = statistics.median(each.load.rate for each in runs)
    return f"{runs[0].form}: {rate:.0f} requests/s, {lost} of {total} lost"


def heartbeats(runs: Sequence[Run], form: str) -> list[str]:
    """
    Say how the heartbeats of running tasks were answered, without sessions and next to them.

    :param runs: load tests, of any forms.
    :param form: the one of interest.
    :return: a sentence for each load test with tasks.
    """
    told = []
    for each in runs:
        if each.form == with_tasks(form):
            result = each.load.heartbeats
            told.append(
                f"{TASKS} tasks next to {each.load.sessions} sessions: {len(result.failures)} of "
                f"{len(result.answers)} heartbeats lost, p95 {(result.percentile(95) or 0.0) * 1000:.0f} ms"
            )
    return told


def details(runs: Sequence[Run]) -> dict[str, Any]:
    """
    Return all load tests as plain data, for JSON and the figure.

    :param runs: the load tests, in the order in which they were run.
    """
    return {"seconds": SECONDS, "patience": PATIENCE, "loads": [each.data() for each in runs]}


def _judged(runs: Sequence[Run], form: str) -> list[Run]:
    return [each for each in runs if each.form == form and each.load.sessions == JUDGED]


SCENARIOS = (
    Scenario(
        name="browser-sessions",
        about=(
            f"{JUDGED} browser sessions on the Dags page, {browsers.CONNECTIONS} connections each, "
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
            f"connections each, {SECONDS:.0f} s; shown: {JUDGED} sessions; pool {SETTINGS.pool_size}"
            f"+{SETTINGS.max_overflow}, pool_timeout {SETTINGS.pool_timeout} s; lost: not 200 within "
            f"{PATIENCE:.0f} s; at least {LEAST} times the throughput of pool 40+160; then {TASKS} running "
            f"tasks with a heartbeat a second, without sessions and next to {JUDGED}"
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
