"""FAB's user look-up under load on a small pool, with a user cache that expires quickly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_auth_patches.demo import loop, users
from airflow_auth_patches.demo.load import Request, send
from airflow_auth_patches.demo.outcomes import Measurement, Observation, pool_timeouts, race_errors
from airflow_auth_patches.demo.preparation import Settings
from airflow_auth_patches.demo.scenario import Scenario
from airflow_auth_patches.demo.server import Server

PATH = "/api/v2/dags?limit=5"
REQUESTS = 600
CONCURRENCY = 30
USERS = 20
#: Seconds for all requests. Patched servers took 17 to 20 on two cores with six times the usual load.
DEADLINE = 30.0
SETTINGS = Settings(
    pool_timeout=5, user_cache_ttl=1, revocation_cache_ttl=0, probes=(loop.WATCH, users.WATCH)
)


@dataclass(frozen=True)
class Load:
    """
    The result of a load test.

    :param measurement: the results of the requests.
    :param pool_timeouts: the number of pool time-outs.
    :param errors: the number of log lines by error of the cache.
    :param seen: the counts of the event loop; ``None`` if the server hangs.
    :param read: the counts of FAB's queries; ``None`` if the server hangs.
    """

    measurement: Measurement
    pool_timeouts: int
    errors: dict[str, int]
    seen: loop.Report | None = None
    read: users.Read | None = None


def run(server: Server) -> Observation:
    """
    Run load tests with many tokens of many users, with and without the revocation check.

    :param server: a newly booted server with a small pool and a cache lifetime of one second.
    """
    people = users.add(server, USERS)
    loads = [load(server, "with the revocation check", people)]
    server.stop()
    with server.sibling("no-check", probes=(*server.settings.probes, "no_check")) as unchecked:
        loads.append(load(unchecked.wait(), "without it", people))
    return observe(loads)


def load(server: Server, name: str, people: list[int]) -> Load:
    """
    Request Dags with a different token each time.

    :param server: a running server with the probes.
    :param name: the name of the measurement.
    :param people: the ids of the users, used in turn.
    """
    first, *requests = (Request("GET", PATH, token=token) for token in server.tokens(REQUESTS + 1, people))
    send(server.url, [first], deadline=DEADLINE)
    loop.reset(server.url)
    users.reset(server.url)
    mark = server.log_size()
    result = send(server.url, requests, deadline=DEADLINE, concurrency=CONCURRENCY)
    measurement = Measurement(name, result, DEADLINE)
    log = server.log_since(mark)
    values = (measurement, pool_timeouts(log), race_errors(log))
    if result.unfinished:
        return Load(*values)
    return Load(*values, loop.report(server.url), users.report(server.url))


def observe(loads: Sequence[Load]) -> Observation:
    """
    Return the observation of the load tests.

    :param loads: the load tests with and without the check.
    """
    given_up = sum(each.pool_timeouts for each in loads)
    errors = sum((Counter(each.errors) for each in loads), Counter[str]())
    measurements = tuple(each.measurement for each in loads)
    parts = [f"{each} in {each.result.wall:.0f} s" for each in measurements]
    parts.append(f"{given_up} pool time-outs")
    failed = bool(given_up or errors) or any(each.result.failures for each in measurements)
    seen = [each.seen for each in loads if each.seen is not None]
    read = [each.read for each in loads if each.read is not None]
    if len(read) == len(loads):
        on_loop = sum(each.on_loop for each in read)
        queries = sum(each.queries for each in read)
        fabs = sum(fab_on_loop(each) for each in seen)
        longest = max(each.longest_stop for each in seen)
        parts += [
            f"users read {sum(each.users for each in read)} times",
            f"{on_loop} of FAB's {queries} queries on the loop",
            f"event-loop lag up to {longest * 1000:.0f} ms",
        ]
        # Each user must be read more than once, or the cache did not expire.
        failed = failed or bool(on_loop or fabs) or any(each.users <= USERS for each in read)
    return Observation(
        sees="; ".join(parts),
        failed=failed,
        measurements=measurements,
        pool_timeouts=given_up,
        log_errors=errors,
        details={"loop": [each.data() for each in seen], "read": [vars(each) for each in read]},
    )


def fab_on_loop(seen: loop.Report) -> int:
    """
    Return the number of calls of FAB's provider that blocked the event loop.

    :param seen: the counts of the event loop.
    """
    return sum(
        site.count
        for site in seen.sites
        if site.kind != "nested" and site.site.startswith("airflow/providers/fab/")
    )


SCENARIOS = (
    Scenario(
        name="user-cache-misses",
        about=(
            f"{REQUESTS} GET {PATH}, {CONCURRENCY} at once, each its own token, {USERS} users, user cache "
            f"{SETTINGS.user_cache_ttl} s; pool_timeout {SETTINGS.pool_timeout} s, "
            f"deadline {DEADLINE:.0f} s"
        ),
        bugs=("user-look-up-freeze",),
        pairs=("3.2.2+3.6.5", "3.3.2+3.10.2"),
        run=run,
        settings=SETTINGS,
        minimal=True,
    ),
)
