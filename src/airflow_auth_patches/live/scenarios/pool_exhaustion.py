"""Revocation check: many requests at once on a small pool, with one token and with many."""

from __future__ import annotations

from functools import partial

from airflow_auth_patches.live.load import Request, send
from airflow_auth_patches.live.outcomes import Measurement, Observation, pool_timeouts
from airflow_auth_patches.live.preparation import Settings
from airflow_auth_patches.live.scenario import Scenario
from airflow_auth_patches.live.server import Server

PAIRS = ("3.2.0+3.6.0", "3.3.2+3.10.2")
REQUESTS = 120
CONCURRENCY = 30
DEADLINE = 15.0
SETTINGS = Settings(pool_timeout=5)
ABOUT = (
    f"{REQUESTS} GET /api/v2/dags, {CONCURRENCY} at once, {{tokens}}; "
    f"pool_timeout {SETTINGS.pool_timeout} s, deadline {DEADLINE:.0f} s"
)


def run(server: Server, *, distinct: bool) -> Observation:
    """
    Ask for the Dags many times at once.

    :param server: a fresh one with a small pool.
    :param distinct: whether each request has a token of its own; else all have the same, used once before.
    """
    tokens = server.tokens(REQUESTS) if distinct else [server.token()] * REQUESTS
    requests = [Request("GET", "/api/v2/dags", token=token) for token in tokens]
    # FAB's user cache is warm in both cases, the same on stock and patched; only the check is measured.
    warm = Request("GET", "/api/v2/dags", token=server.token() if distinct else tokens[0])
    send(server.url, [warm], deadline=DEADLINE)
    mark = server.log_size()
    result = send(server.url, requests, deadline=DEADLINE, concurrency=CONCURRENCY)
    given_up = pool_timeouts(server.log_since(mark))
    measurement = Measurement(f"{CONCURRENCY} at once", result, DEADLINE)
    p50, p95, p99 = (result.percentile(percent) or 0.0 for percent in (50, 95, 99))
    return Observation(
        sees=(
            f"{measurement}; {given_up} pool time-outs; "
            f"wall {result.wall:.1f} s, p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f} s"
        ),
        failed=bool(result.failures),
        measurements=(measurement,),
        pool_timeouts=given_up,
    )


SCENARIOS = (
    Scenario(
        name="pool-warm-token",
        about=ABOUT.format(tokens="one warm token"),
        bugs=("revocation-query",),
        pairs=PAIRS,
        run=partial(run, distinct=False),
        settings=SETTINGS,
    ),
    Scenario(
        name="pool-distinct-tokens",
        about=ABOUT.format(tokens="each its own token"),
        bugs=("revocation-freeze",),
        pairs=PAIRS,
        run=partial(run, distinct=True),
        settings=SETTINGS,
        known_open="revoked-token-off-loop",
    ),
)
