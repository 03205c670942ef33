"""The revocation check under load on a small pool, with one token and with many."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from airflow_auth_patches.demo import checks, loop
from airflow_auth_patches.demo.load import Request, send
from airflow_auth_patches.demo.outcomes import Measurement, Observation, pool_timeouts
from airflow_auth_patches.demo.preparation import Settings
from airflow_auth_patches.demo.scenario import Scenario
from airflow_auth_patches.demo.server import Server

CONCURRENCY = 30
WARM_PAIRS = ("3.2.0+3.6.0", "3.3.2+3.10.2")
WARM_REQUESTS = 120
WARM_DEADLINE = 15.0
WARM = Settings(pool_timeout=5)

DISTINCT_PAIRS = ("3.2.0+3.6.0", "3.2.2+3.6.5", "3.3.2+3.10.2")
SIZES = (300, 600)
PATH = "/api/v2/dags?limit=5"
#: Seconds for each load test; several times as long as on a server without the check.
DISTINCT_DEADLINE = 25.0
#: Users stay in the cache, so that before the route only the check queries the database.
DISTINCT = Settings(
    pool_timeout=5,
    user_cache_ttl=600,
    revocation_cache_ttl=0,
    probes=(loop.WATCH, checks.WATCH),
)
#: Maximum seconds by which the loop can be blocked longer than without the check, while other threads run. A
#: garbage collection or a lack of CPU time stops all threads. On stock, the loop is blocked for the pool
#: time-out.
BEYOND = 0.1


def warm_token(server: Server) -> Observation:
    """Request the Dags concurrently, with one token that was used before."""
    request = Request("GET", "/api/v2/dags", token=server.token())
    send(server.url, [request], deadline=WARM_DEADLINE)
    mark = server.log_size()
    result = send(server.url, [request] * WARM_REQUESTS, deadline=WARM_DEADLINE, concurrency=CONCURRENCY)
    given_up = pool_timeouts(server.log_since(mark))
    measurement = Measurement(f"{CONCURRENCY} at once", result, WARM_DEADLINE)
    p50, p95, p99 = (result.percentile(percent) or 0.0 for percent in (50, 95, 99))
    times = f"wall {result.wall:.1f} s, p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f} s"
    return Observation.of((measurement,), f"{given_up} pool time-outs", times, pool_timeouts=given_up)


def load(server: Server, name: str, size: int) -> loop.LoadTest:
    """Send a number of requests for Dags, with a different token each time."""
    requests = [Request("GET", PATH, token=token) for token in server.tokens(size + 1)]
    return loop.load_test(
        server, f"{name}, {size}", requests, deadline=DISTINCT_DEADLINE, concurrency=CONCURRENCY
    )


def distinct_tokens(server: Server) -> Observation:
    """
    Run load tests with the revocation cache off, with it on, and for comparison without the check.

    Stops at the first load test in which a request gets no response, because the server hangs then.

    :param server: a newly booted server with a small pool and the cache off.
    """
    loads: list[loop.LoadTest] = []
    used: list[checks.Used] = []
    with ExitStack() as stack:
        cached = stack.enter_context(
            server.sibling("cache", settings=replace(server.settings, revocation_cache_ttl=None))
        )
        unchecked = stack.enter_context(
            server.sibling("no-check", probes=(*server.settings.probes, "no_check"))
        )
        for name, each in (("cache off", server), ("cache on", cached)):
            each.wait()
            for size in SIZES:
                loads.append(load(each, name, size))
                if loads[-1].seen is None:
                    return observe(loads, used, [])
                used.append(checks.report(each.url))
        unchecked.wait()
        # Run as many load tests as with the check, because the worst values are compared.
        return observe(loads, used, [load(unchecked, "no check", size) for _ in range(2) for size in SIZES])


def observe(
    loads: list[loop.LoadTest], used: list[checks.Used], unchecked: list[loop.LoadTest]
) -> Observation:
    """
    Return the observation of the load tests.

    :param loads: the load tests with the check.
    :param used: the connections of the check in each of them; fewer if the server hangs.
    :param unchecked: the load tests without the check; empty if the server with the check hangs.
    """
    given_up = sum(pool_timeouts(each.log) for each in loads)
    measurements = tuple(each.measurement for each in loads)
    notes = [f"{given_up} pool time-outs"]
    failed = bool(given_up)
    if len(used) == len(loads):
        seen = [each.seen for each in loads if each.seen is not None]
        without = [each.seen for each in unchecked if each.seen is not None]
        sites = [site for each in seen for site in each.sites if site.kind == "statements"]
        queries = sum(site.count for site in sites if "(revoked_token)" in site.site)
        most, held = max(each.most for each in used), max(each.held for each in used)
        # The highest lags: while other threads of the process ran, and for any reason.
        blocked, blocked_without, lag, lag_without = (
            max((getattr(each, name) for each in reports), default=0.0)
            for name in ("longest_block", "longest_stop")
            for reports in (seen, without)
        )
        notes += [
            f"loop blocked for {blocked * 1000:.0f} ms at most, without a check"
            f" {blocked_without * 1000:.0f} ms",
            f"event-loop lag up to {lag * 1000:.0f} ms with garbage collection, without a check"
            f" {lag_without * 1000:.0f} ms",
            f"{queries} of the check's {sum(each.queries for each in used)} queries on the loop",
            f"it had {most} connections at once at most, {held} when idle",
        ]
        failed = failed or blocked > blocked_without + BEYOND or bool(queries) or held > 0
    else:
        notes.append("the server hangs, the rest was not tried")
    details = {"plots": loop.lag_plot(loads)}
    return Observation.of(measurements, *notes, failed=failed, pool_timeouts=given_up, details=details)


SCENARIOS = (
    Scenario(
        name="pool-warm-token",
        about=(
            f"{WARM_REQUESTS} GET /api/v2/dags, {CONCURRENCY} at once, one warm token; "
            f"pool_timeout {WARM.pool_timeout} s, deadline {WARM_DEADLINE:.0f} s"
        ),
        bugs=("revocation-query",),
        pairs=WARM_PAIRS,
        run=warm_token,
        settings=WARM,
    ),
    Scenario(
        name="pool-distinct-tokens",
        about=(
            f"{' and '.join(map(str, SIZES))} GET {PATH}, {CONCURRENCY} at once, each its own token, "
            f"revocation cache off and on; pool_timeout {DISTINCT.pool_timeout} s, "
            f"deadline {DISTINCT_DEADLINE:.0f} s each"
        ),
        bugs=("revocation-freeze",),
        pairs=DISTINCT_PAIRS,
        run=distinct_tokens,
        settings=DISTINCT,
    ),
)
