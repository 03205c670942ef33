"""Requests without a token on a server with a public role: other requests must continue meanwhile."""

from __future__ import annotations

from airflow_auth_patches.demo import loop, pages, plot_data
from airflow_auth_patches.demo.load import VERSION, Request, Result, run_flows
from airflow_auth_patches.demo.outcomes import Measurement, Observation, pool_timeouts
from airflow_auth_patches.demo.preparation import Settings
from airflow_auth_patches.demo.scenario import Scenario
from airflow_auth_patches.demo.scenarios.database_waits import (
    CONCURRENCY,
    HELD,
    MORE,
    REQUESTS,
    locked,
    refused,
    ways,
)
from airflow_auth_patches.demo.server import Server

#: Core uses FAB's middleware since 3.3. Older releases refuse requests without a token and read nothing.
PAIRS = ("3.3.2+3.10.2",)
ROLE = "Viewer"
#: FAB's table of roles. The public user is read from it; a cached user is not.
TABLE = "ab_role"
#: This route does not access the database on the loop, on stock either, so all counts are of the user.
REQUEST = Request("GET", "/api/v2/dagTags?limit=5", route="/api/v2/dagTags")
#: Concurrency of the last load test: more than the connections of the pool, but few. On stock, cancelled
#: requests continue to wait, one after the other, and the report of the counts waits for them.
MANY = 10
MANY_REQUESTS = 200
DEADLINE = 30.0
#: pool_timeout is longer than the lock, so that a request that waits for a slot of `request-admission` gets
#: no 503.
SETTINGS = Settings(pool_timeout=10, probes=(loop.WATCH,), public_role=ROLE)


def load(server: Server, *, count: int, concurrency: int) -> Result:
    """Send requests without a token, and request the version at the same time, also without a token."""
    return run_flows(server.url, [[REQUEST]] * count, concurrency=concurrency, deadline=DEADLINE)


def run(server: Server) -> Observation:
    """
    Send requests without tokens: a few, as many while the roles are locked, and then many.

    :param server: a newly booted server with the probe `loop.WATCH` and a public role.
    """
    mark = server.log_size()
    pages.reset(server.url, loop.WATCH)
    few = load(server, count=REQUESTS, concurrency=CONCURRENCY)
    with locked(server, TABLE):
        during = load(server, count=REQUESTS, concurrency=CONCURRENCY)
    many = load(server, count=MANY_REQUESTS, concurrency=MANY)
    seen = loop.report(server.url)
    runs = {f"{CONCURRENCY} at once": few, f"{TABLE} locked": during, f"{MANY} at once": many}
    # A full garbage collection stops every thread, with or without a lock.
    slow = during.slowest_version > few.slowest_version + seen.longest_collection + MORE
    return Observation(
        sees="; ".join(
            (
                f"on the loop {seen.statements} SQL statements, {seen.checkouts} checkouts, "
                f"{seen.waits} waits",
                f"{TABLE} locked: version up to {during.slowest_version * 1000:.0f} ms "
                f"(before {few.slowest_version * 1000:.0f})",
                *(f"{name} {ways(sent)}" for name, sent in runs.items()),
            )
        ),
        failed=slow
        or not seen.clean
        or any(refused(sent) or sent.left or sent.failures for sent in runs.values()),
        measurements=tuple(Measurement(name, sent, DEADLINE) for name, sent in runs.items()),
        pool_timeouts=pool_timeouts(server.log_since(mark)),
        details={
            "loop": seen.data(),
            "slowest_version": {name: sent.slowest_version for name, sent in runs.items()},
            "plots": [seen.plot(), plot_data.lag({"all requests": seen.lags})],
        },
    )


SCENARIOS = (
    Scenario(
        name="public-user",
        about=(
            f"auth_role_public {ROLE}: {REQUESTS} GET {REQUEST.route} without a token, "
            f"{CONCURRENCY} at once, as many while {TABLE} is locked for {HELD:.0f} s, "
            f"then {MANY_REQUESTS}, {MANY} at once; {VERSION} without a token all along, "
            f"while it is locked at most {MORE:.0f} s longer than before, garbage collection apart; "
            f"pool_timeout {SETTINGS.pool_timeout} s, deadline {DEADLINE:.0f} s"
        ),
        bugs=("public-user-freeze",),
        pairs=PAIRS,
        run=run,
        settings=SETTINGS,
    ),
)
