"""FAB's user look-up under load on a small pool, with a user cache that expires quickly."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_auth_patches.demo import loop, users
from airflow_auth_patches.demo.load import Request
from airflow_auth_patches.demo.outcomes import Observation, pool_timeouts, race_errors
from airflow_auth_patches.demo.preparation import Settings
from airflow_auth_patches.demo.scenario import Scenario
from airflow_auth_patches.demo.server import Server

PATH = "/api/v2/dags?limit=5"
REQUESTS = 600
CONCURRENCY = 30
USERS = 20
#: Seconds for all requests. Patched servers took 17 to 20 on two cores with six times the usual load.
DEADLINE = 60.0
#: With the default pool_timeout of 30 s, the limit refuses no request on a busy machine.
SETTINGS = Settings(user_cache_ttl=1, revocation_cache_ttl=0, probes=(loop.WATCH, users.WATCH))
#: A load test, with the counts of FAB's queries; ``None`` if the server hangs.
Load = tuple[loop.LoadTest, users.Read | None]


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
    """Request Dags with a different token of the users in turn."""
    requests = [Request("GET", PATH, token=token) for token in server.tokens(REQUESTS + 1, people)]
    test = loop.load_test(server, name, requests, deadline=DEADLINE, concurrency=CONCURRENCY)
    return test, users.report(server.url) if test.seen else None


def observe(loads: Sequence[Load]) -> Observation:
    """
    Return the observation of the load tests.

    :param loads: the load tests with and without the check.
    """
    log = "\n".join(test.log for test, _ in loads)
    given_up, errors = pool_timeouts(log), race_errors(log)
    measurements = tuple(test.measurement for test, _ in loads)
    parts = [f"{each} in {each.result.wall:.0f} s" for each in measurements]
    parts.append(f"{given_up} pool time-outs")
    failed = bool(given_up or errors) or any(each.result.failures for each in measurements)
    seen = [test.seen for test, _ in loads if test.seen is not None]
    read = [each for _, each in loads if each is not None]
    if len(read) == len(loads):
        on_loop = sum(each.on_loop for each in read)
        queries = sum(each.queries for each in read)
        sites = [site for each in seen for site in each.sites if site.kind != "nested"]
        fabs = any(site.site.startswith("airflow/providers/fab/") for site in sites)
        longest = max(each.longest_stop for each in seen)
        parts += [
            f"users read {sum(each.users for each in read)} times",
            f"{on_loop} of FAB's {queries} queries on the loop",
            f"event-loop lag up to {longest * 1000:.0f} ms",
        ]
        # Each user must be read more than once, or the cache did not expire.
        failed = failed or bool(on_loop) or fabs or any(each.users <= USERS for each in read)
    return Observation(
        sees="; ".join(parts),
        failed=failed,
        measurements=measurements,
        pool_timeouts=given_up,
        log_errors=errors,
        details={
            "loop": [each.data() for each in seen],
            "read": [vars(each) for each in read],
            "plots": loop.lag_plot([test for test, _ in loads]),
        },
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
