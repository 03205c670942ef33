"""The route sweep: request every route of the API, and count database calls on the event loop."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from airflow_auth_patches.demo import loop, pages, plot_data
from airflow_auth_patches.demo.load import Request, Result, run_flows
from airflow_auth_patches.demo.openapi import operations
from airflow_auth_patches.demo.outcomes import Measurement, Observation, pool_timeouts
from airflow_auth_patches.demo.preparation import Settings
from airflow_auth_patches.demo.scenario import Scenario
from airflow_auth_patches.demo.server import Server
from airflow_auth_patches.demo.sweep import SeedData, get_steps
from airflow_auth_patches.demo.writes import flows, left_out

PAIRS = ("3.1.8+3.4.0", "3.2.2+3.6.5", "3.3.2+3.10.2", "3.4.0b2+3.10.2")
ROUNDS = 4
CONCURRENCY = 10
DEADLINE = 300.0
#: The user cache expires quickly, so that users are read from the database repeatedly.
SETTINGS = Settings(pool_timeout=5, user_cache_ttl=1, probes=(loop.WATCH,))
REPORTED_SITES = 4


def run(server: Server) -> Observation:
    """
    Request every GET route several times, send the main writes, and request the version at the same time.

    :param server: a newly booted server with the probe `loop.WATCH`.
    """
    seeded = SeedData(server)
    values = seeded.create()
    found = operations(seeded.document())
    gets = get_steps(found, values)
    writes = flows(found, seeded.asset_ids)
    # The last round sends the token in a cookie, like a browser; a middleware reads it.
    reads = [[replace(step, by_cookie=number == ROUNDS - 1)] for number in range(ROUNDS) for step in gets]
    planned: list[Sequence[Request]] = [*reads, *writes]
    random.Random(66493).shuffle(planned)
    tokens = iter(server.tokens(sum(map(len, planned))))
    mark = server.log_size()
    pages.reset(server.url, loop.WATCH)
    sent = run_flows(server.url, planned, lambda: next(tokens), concurrency=CONCURRENCY, deadline=DEADLINE)
    seen = loop.report(server.url)
    wrong = sent.failures
    return Observation(
        sees=summary(sent, seen),
        failed=bool(wrong or sent.left or seen.nested or not seen.clean),
        measurements=(Measurement("sweep", sent, DEADLINE),),
        pool_timeouts=pool_timeouts(server.log_since(mark)),
        details={
            "loop": seen.data(),
            "plots": [seen.plot(), plot_data.lag({"sweep": seen.lags})],
            "slowest_version": sent.slowest_version,
            "versions_asked": len(sent.versions),
            "routes": {"GET": len(gets)},
            "writes_left_out": left_out(found, writes),
            "steps_left": sent.left,
            "wrong": Counter(f"{each.outcome} {each.request}" for each in wrong),
            "told": {f"{each.outcome} {each.request}": each.body for each in wrong},
        },
    )


def summary(sent: Result, seen: loop.Report) -> str:
    """Return a summary of the route sweep, from the results of the requests and the event-loop counts."""
    wrong = Counter(each.outcome for each in sent.failures)
    failures = ", ".join(f"{count} x {outcome}" for outcome, count in sorted(wrong.items())) or "none fail"
    parts = [
        f"on the loop {seen.statements} SQL statements, {seen.checkouts} checkouts, {seen.waits} waits",
        f"{seen.nested} second connections of a request",
        f"event-loop lag up to {seen.longest_stop:.2f} s: blocked {seen.longest_block:.2f} s, "
        f"garbage collection {seen.longest_collection:.2f} s",
        f"slowest /version {sent.slowest_version:.2f} s",
        f"of {len(sent.answers)} requests {failures}",
    ]
    if sent.left:
        parts.append(f"{sent.left} never sent")
    first: Counter[str] = Counter()
    for each in seen.sites:
        if each.kind in ("statements", "waits"):
            first[_short(each.site)] += each.count
    if first:
        sites = ", ".join(f"{name} {count}" for name, count in first.most_common(REPORTED_SITES))
        more = len(first) - REPORTED_SITES
        parts.append(f"most by {sites}" + (f" and {more} more" if more > 0 else ""))
    return "; ".join(parts)


def _short(site: str) -> str:
    """Return the function of a call site."""
    return site.rsplit("/", 1)[-1].partition(":")[2].partition(" (")[0]


SCENARIOS = (
    Scenario(
        name="route-sweep",
        about=(
            f"every GET of the API {ROUNDS} times and the main writes, {CONCURRENCY} at once, each with its "
            f"own token; pool_timeout {SETTINGS.pool_timeout} s"
        ),
        bugs=(
            "audit-log-freeze",
            "authorization-freeze",
            "backfill-authorization-freeze",
            "latest-version-freeze",
            "lazy-response-fields",
            "second-connection-pools",
            "second-connection-details",
            "second-connection-grid",
            "second-connection-import-error",
            "second-connection-logs",
            "second-connection-failed-run",
        ),
        pairs=PAIRS,
        run=run,
        settings=SETTINGS,
    ),
)
