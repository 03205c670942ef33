"""FAB's look-up of users: many requests at once on a small pool, with a user cache that soon forgets."""

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
#: Seconds for all requests: patched servers took 17 to 20 on two cores that had six times that to do.
DEADLINE = 30.0
SETTINGS = Settings(
    pool_timeout=5, user_cache_ttl=1, revocation_cache_ttl=0, probes=(loop.WATCH, users.WATCH)
)


@dataclass(frozen=True)
class Load:
    """
    What became of the requests.

    :param measurement: their answers.
    :param pool_timeouts: how often a connection was waited for in vain.
    :param errors: how many lines of the log show which error of the cache.
    :param seen: what was seen on the loop; none of a server that hangs.
    :param read: what FAB asked; none of a server that hangs.
    """

    measurement: Measurement
    pool_timeouts: int
    errors: dict[str, int]
    seen: loop.Report | None = None
    read: users.Read | None = None


def run(server: Server) -> Observation:
    """
    Ask with many tokens of many users, with the revocation check and without it.

    :param server: a fresh one, with a small pool and a cache of a second.
    """
    people = users.add(server, USERS)
    loads = [load(server, "with the revocation check", people)]
    server.stop()
    with server.sibling("no-check", probes=(*server.settings.probes, "no_check")) as free:
        loads.append(load(free.wait(), "without it", people))
    return tell(loads)


def load(server: Server, name: str, people: list[int]) -> Load:
    """
    Ask for Dags, each time with another token.

    :param server: one that answers and is watched.
    :param name: what to call it.
    :param people: who asks, in turn.
    """
    first, *requests = (Request("GET", PATH, token=token) for token in server.tokens(REQUESTS + 1, people))
    send(server.url, [first], deadline=DEADLINE)
    loop.reset(server.url)
    users.reset(server.url)
    mark = server.log_size()
    result = send(server.url, requests, deadline=DEADLINE, concurrency=CONCURRENCY)
    measurement = Measurement(name, result, DEADLINE)
    log = server.log_since(mark)
    told = (measurement, pool_timeouts(log), race_errors(log))
    if result.unfinished:
        return Load(*told)
    return Load(*told, loop.report(server.url), users.report(server.url))


def tell(loads: Sequence[Load]) -> Observation:
    """
    Say what was seen.

    :param loads: with the check and without it.
    """
    given_up = sum(each.pool_timeouts for each in loads)
    errors = sum((Counter(each.errors) for each in loads), Counter[str]())
    measurements = tuple(each.measurement for each in loads)
    told = [f"{each} in {each.result.wall:.0f} s" for each in measurements]
    told.append(f"{given_up} pool time-outs")
    failed = bool(given_up or errors) or any(each.result.failures for each in measurements)
    seen = [each.seen for each in loads if each.seen is not None]
    read = [each.read for each in loads if each.read is not None]
    if len(read) == len(loads):
        on_loop = sum(each.on_loop for each in read)
        queries = sum(each.queries for each in read)
        fabs = sum(fab_on_loop(each) for each in seen)
        longest = max(each.longest_stop for each in seen)
        told += [
            f"users read {sum(each.users for each in read)} times",
            f"{on_loop} of FAB's {queries} queries on the loop",
            f"event-loop lag up to {longest * 1000:.0f} ms",
        ]
        # Read more than once each: the cache did forget them.
        failed = failed or bool(on_loop or fabs) or any(each.users <= USERS for each in read)
    return Observation(
        sees="; ".join(told),
        failed=failed,
        measurements=measurements,
        pool_timeouts=given_up,
        log_errors=errors,
        details={"loop": [each.data() for each in seen], "read": [vars(each) for each in read]},
    )


def fab_on_loop(seen: loop.Report) -> int:
    """
    Count what FAB's provider had the loop wait for.

    :param seen: what was seen of it.
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
