"""Requests without a token, to a server that gives them a role: all others must go on while it is read."""

from __future__ import annotations

from airflow_auth_patches.demo import loop
from airflow_auth_patches.demo.flows import PULSE_PATH, FlowResult, Step, run_flows
from airflow_auth_patches.demo.load import NO_ANSWER
from airflow_auth_patches.demo.outcomes import Measurement, Observation, pool_timeouts
from airflow_auth_patches.demo.preparation import Settings
from airflow_auth_patches.demo.scenario import Scenario
from airflow_auth_patches.demo.scenarios.database_waits import (
    CONCURRENCY,
    HELD,
    MORE,
    REQUESTS,
    later,
    locked,
)
from airflow_auth_patches.demo.server import Server

#: Core asks FAB for the middleware from 3.3 on; before, such requests are refused and nothing is read.
PAIRS = ("3.3.2+3.10.2",)
ROLE = "Viewer"
#: Where FAB keeps the roles: the public user is read from it, a user in the cache is not.
TABLE = "ab_role"
#: Its answer asks nothing on the loop, on stock either: what is counted there is the user's.
STEP = Step("GET", "/api/v2/dagTags", "/api/v2/dagTags?limit=5")
#: More than the pool has connections; few, as on stock those that the deadline breaks off go on waiting, one
#: after the other, and the count is told behind them.
CROWD = 10
CROWDED = 200
DEADLINE = 30.0
#: Longer than the lock: a request that waits for a slot of `request-admission` meanwhile gets no 503.
SETTINGS = Settings(pool_timeout=10, probes=(loop.WATCH,), public_role=ROLE)


def load(server: Server, *, count: int, concurrency: int) -> FlowResult:
    """
    Send requests without a token, and ask for the version all along, as a probe does: without one too.

    :param server: one that answers.
    :param count: how many requests.
    :param concurrency: how many at once.
    """
    return run_flows(
        server.url,
        [[STEP]] * count,
        lambda: None,
        concurrency=concurrency,
        deadline=DEADLINE,
    )


def run(server: Server) -> Observation:
    """
    Send a few without tokens, as many while the roles are locked, then a crowd.

    :param server: a fresh one, watched, with a public role.
    """
    mark = server.log_size()
    loop.reset(server.url)
    few = load(server, count=REQUESTS, concurrency=CONCURRENCY)
    with locked(server, server.name, TABLE) as lock, later(lock.release):
        during = load(server, count=REQUESTS, concurrency=CONCURRENCY)
    crowd = load(server, count=CROWDED, concurrency=CROWD)
    seen = loop.report(server.url)
    runs = {f"{CONCURRENCY} at once": few, f"{TABLE} locked": during, f"{CROWD} at once": crowd}
    # A full garbage collection stops every thread, now and then, whatever is locked.
    slow = during.slowest_pulse > few.slowest_pulse + seen.longest_collection + MORE
    return Observation(
        sees="; ".join(
            (
                f"on the loop {seen.statements} SQL statements, {seen.checkouts} checkouts, "
                f"{seen.waits} waits",
                f"{TABLE} locked: version up to {during.slowest_pulse * 1000:.0f} ms "
                f"(before {few.slowest_pulse * 1000:.0f})",
                *(f"{name} {_ways(sent)}" for name, sent in runs.items()),
            )
        ),
        failed=slow or not seen.clean or any(_wrong(sent) for sent in runs.values()),
        measurements=tuple(Measurement(name, sent.result, DEADLINE) for name, sent in runs.items()),
        pool_timeouts=pool_timeouts(server.log_since(mark)),
        details={
            "loop": seen.data(),
            "slowest_version": {name: sent.slowest_pulse for name, sent in runs.items()},
        },
    )


def _ways(sent: FlowResult) -> str:
    ways = ", ".join(f"{count} x {way}" for way, count in sorted(sent.outcomes.items()))
    return f"{ways}, {sent.left} not sent" if sent.left else ways


def _wrong(sent: FlowResult) -> bool:
    """Whether an answer is missing or another; the last version is broken off with the load."""
    refused = any(answer.failed and answer.outcome != NO_ANSWER for answer in sent.pulse.answers)
    return refused or bool(sent.left) or any(not each.well for each in sent.done)


SCENARIOS = (
    Scenario(
        name="public-user",
        about=(
            f"auth_role_public {ROLE}: {REQUESTS} GET {STEP.route} without a token, {CONCURRENCY} at once, "
            f"as many while {TABLE} is locked for {HELD:.0f} s, then {CROWDED}, {CROWD} at once; "
            f"{PULSE_PATH} without a token all along, while it is locked at most {MORE:.0f} s longer "
            f"than before, garbage collection apart; pool_timeout {SETTINGS.pool_timeout} s, "
            f"deadline {DEADLINE:.0f} s"
        ),
        bugs=("public-user-freeze",),
        pairs=PAIRS,
        run=run,
        settings=SETTINGS,
    ),
)
