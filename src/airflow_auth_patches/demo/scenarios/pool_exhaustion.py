"""Revocation check: many requests at once on a small pool, with one token and with many."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from airflow_auth_patches.demo import checks, loop
from airflow_auth_patches.demo.load import Request, Result, send
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
#: Seconds for each load: several times what a server without any check takes.
DISTINCT_DEADLINE = 25.0
#: The user cache outlives the scenario, so that nothing but the check asks the database before a route does.
DISTINCT = Settings(
    pool_timeout=5,
    user_cache_ttl=600,
    revocation_cache_ttl=0,
    probes=(loop.WATCH, checks.WATCH),
)
#: Seconds that the loop may hang beyond the longest without any check, while other threads went on: as
#: garbage is collected, or no processor is given, all hang. On stock it is the pool's time-out.
BEYOND = 0.1


def warm_token(server: Server) -> Observation:
    """
    Ask for the Dags many times at once, with one token that was used before.

    :param server: a fresh one with a small pool.
    """
    request = Request("GET", "/api/v2/dags", token=server.token())
    send(server.url, [request], deadline=WARM_DEADLINE)
    mark = server.log_size()
    result = send(server.url, [request] * WARM_REQUESTS, deadline=WARM_DEADLINE, concurrency=CONCURRENCY)
    given_up = pool_timeouts(server.log_since(mark))
    measurement = Measurement(f"{CONCURRENCY} at once", result, WARM_DEADLINE)
    return Observation(
        sees=f"{measurement}; {given_up} pool time-outs; {times(result)}",
        failed=bool(result.failures),
        measurements=(measurement,),
        pool_timeouts=given_up,
    )


def times(result: Result) -> str:
    """
    Say how long requests took.

    :param result: what became of them.
    """
    p50, p95, p99 = (result.percentile(percent) or 0.0 for percent in (50, 95, 99))
    return f"wall {result.wall:.1f} s, p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f} s"


@dataclass(frozen=True)
class Load:
    """
    What became of requests that each have a token of their own.

    :param measurement: their answers.
    :param pool_timeouts: how often a connection was waited for in vain.
    :param seen: what was seen on the loop; none of a server that hangs.
    :param used: what the check used; none of a server that hangs.
    """

    measurement: Measurement
    pool_timeouts: int
    seen: loop.Report | None = None
    used: checks.Used | None = None

    @property
    def finished(self) -> bool:
        """Whether all were answered."""
        return self.seen is not None


def load(server: Server, name: str, size: int) -> Load:
    """
    Ask for Dags, each time with another token.

    :param server: one that answers and is watched.
    :param name: what to call it.
    :param size: how many requests.
    """
    tokens = server.tokens(size + 1)
    requests = [Request("GET", PATH, token=token) for token in tokens]
    send(server.url, requests[:1], deadline=DISTINCT_DEADLINE)
    loop.reset(server.url)
    checks.reset(server.url)
    mark = server.log_size()
    result = send(server.url, requests[1:], deadline=DISTINCT_DEADLINE, concurrency=CONCURRENCY)
    measurement = Measurement(f"{name}, {size}", result, DISTINCT_DEADLINE)
    given_up = pool_timeouts(server.log_since(mark))
    if result.unfinished:
        return Load(measurement, given_up)
    return Load(measurement, given_up, loop.report(server.url), checks.report(server.url))


def distinct_tokens(server: Server) -> Observation:
    """
    Ask with many tokens: with the revocation cache off, with it on, and without any check, to compare with.

    Ends at the first load that is not answered: the server hangs, or will.

    :param server: a fresh one with a small pool and the cache off.
    """
    loads: list[Load] = []
    with ExitStack() as stack:
        cached = stack.enter_context(
            server.sibling("cache", settings=replace(server.settings, revocation_cache_ttl=None))
        )
        free = stack.enter_context(server.sibling("no-check", probes=(*server.settings.probes, "no_check")))
        for name, each in (("cache off", server), ("cache on", cached)):
            each.wait()
            for size in SIZES:
                loads.append(load(each, name, size))
                if not loads[-1].finished:
                    return tell(loads, [])
        free.wait()
        # As often as with the check, as it is the worst of all that is compared.
        return tell(loads, [load(free, "no check", size) for _ in range(2) for size in SIZES])


def tell(loads: list[Load], free: list[Load]) -> Observation:
    """
    Say what was seen.

    :param loads: with the check.
    :param free: without it; none when one with it was not answered.
    """
    given_up = sum(each.pool_timeouts for each in loads)
    measurements = tuple(each.measurement for each in loads)
    told = [str(each) for each in measurements]
    told.append(f"{given_up} pool time-outs")
    failed = bool(given_up) or any(each.result.failures for each in measurements)
    if loads[-1].finished:
        seen = [each.seen for each in loads if each.seen is not None]
        used = [each.used for each in loads if each.used is not None]
        without = [each.seen for each in free if each.seen is not None]
        queries = sum(on_loop(each) for each in seen)
        most, held = max(each.most for each in used), max(each.held for each in used)
        told += [
            f"loop blocked for {blocked(seen) * 1000:.0f} ms at most, without a check"
            f" {blocked(without) * 1000:.0f} ms",
            f"event-loop lag up to {stopped(seen) * 1000:.0f} ms with garbage collection, without a check"
            f" {stopped(without) * 1000:.0f} ms",
            f"{queries} of the check's {sum(each.queries for each in used)} queries on the loop",
            f"it had {most} connections at once at most, {held} when idle",
        ]
        failed = failed or blocked(seen) > blocked(without) + BEYOND or bool(queries) or held > 0
    else:
        told.append("the server hangs, the rest was not tried")
    return Observation(sees="; ".join(told), failed=failed, measurements=measurements, pool_timeouts=given_up)


def stopped(seen: Sequence[loop.Report]) -> float:
    """
    Return the highest event-loop lag, in seconds.

    :param seen: what was seen of it.
    """
    return max((each.longest_stop for each in seen), default=0.0)


def blocked(seen: Sequence[loop.Report]) -> float:
    """
    Return the highest event-loop lag while other threads of its process went on, in seconds.

    :param seen: what was seen of it.
    """
    return max((each.longest_block for each in seen), default=0.0)


def on_loop(seen: loop.Report) -> int:
    """
    Count the queries of the check that the loop waited for.

    :param seen: what was seen of it.
    """
    return sum(
        site.count for site in seen.sites if site.kind == "statements" and "(revoked_token)" in site.site
    )


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
