"""Load tests and locked-table tests that compare patches on a server with a limit on concurrent requests."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_auth_patches.demo import loop, pages
from airflow_auth_patches.demo.load import Request, run_flows
from airflow_auth_patches.demo.openapi import operations
from airflow_auth_patches.demo.preparation import SWEEP
from airflow_auth_patches.demo.scenarios.database_waits import locked
from airflow_auth_patches.demo.server import Server
from airflow_auth_patches.demo.sweep import SeedData, get_steps
from airflow_auth_patches.demo.writes import flows

#: Number of requests for Dags, each with a different token.
TOKENS = 300
CONCURRENCY = 30
DAGS = Request("GET", "/api/v2/dags?limit=5")
#: Routes that take a second connection on stock, and the number of requests for each.
SECOND = (
    "/pools",
    "/pools/{pool_name}",
    "/dags/{dag_id}/details",
    "/importErrors/{import_error_id}",
    "/dagSources/{dag_id}",
    "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/logs/{try_number}",
)
SECOND_EACH = 8
SECOND_CONCURRENCY = 10
#: Seconds for a load test: much longer than on a server that does not hang.
DEADLINE = 60.0
#: Seconds for which a table is locked.
HELD = 4.0
#: Number of requests that need the locked table.
LOCKED_REQUESTS = 4


@dataclass(frozen=True)
class Probe:
    """
    A table to lock, and the requests that wait for it.

    :param table: the name of the table.
    :param route: the route, below ``/api/v2``; the route sweep has a value for each of its parameters.
    :param public: whether the requests are sent without a token.
    """

    table: str
    route: str
    public: bool = False


#: The compared patches with the patches they need, and the table whose lock shows the effect.
PATCHES: Mapping[tuple[str, ...], Probe] = {
    ("revoked-token-off-loop",): Probe("revoked_token", "/dags"),
    ("revoked-token-cache",): Probe("revoked_token", "/dags"),
    ("user-cache", "user-from-token-hook"): Probe("ab_user", "/dags"),
    ("public-user-off-loop",): Probe("ab_role", "/dagTags", public=True),
    ("response-fields-lists",): Probe("dag_tag", "/dags"),
    ("action-logging-off-loop",): Probe("log", "/variables/{variable_key}"),
    ("authorization-off-loop",): Probe("log", "/eventLogs/{event_log_id}"),
    ("latest-dag-version-session",): Probe("dag_version", "/dags/{dag_id}/details"),
    ("pool-slots-session",): Probe("task_instance", "/pools"),
    ("request-session",): Probe("dag_version", "/dagSources/{dag_id}"),
    ("log-template-session",): Probe("log_template", SECOND[-1]),
    ("failed-run-session",): Probe("task_instance", "/dags/{dag_id}/dagRuns/{dag_run_id}"),
}
#: Method and body of the routes in `PATCHES` that are not requested with GET.
WRITES = {
    "/variables/{variable_key}": ("PATCH", {"key": SWEEP, "value": "1"}),
    "/dags/{dag_id}/dagRuns/{dag_run_id}": ("PATCH", {"state": "failed"}),
}


@dataclass(frozen=True)
class Requests:
    """
    The requests of the tests, for a database with the seed data of the route sweep.

    :param second: requests that take a second connection on stock, and write flows.
    :param probes: the request of each probe.
    """

    second: Sequence[Sequence[Request]]
    probes: Mapping[Probe, Request]

    @classmethod
    def of(cls, server: Server) -> Requests:
        """
        Create the seed data and return the requests.

        :param server: a running server.
        """
        seeded = SeedData(server)
        values = seeded.create()
        found = operations(seeded.document())
        gets = {step.route.removeprefix("/api/v2"): step for step in get_steps(found, values)}
        grid = Request("GET", f"/ui/grid/structure/{values['dag_id']}")
        reads = [[step] for step in [*(gets[route] for route in SECOND), grid] * SECOND_EACH]
        planned = [*reads, *flows(found, seeded.asset_ids)]
        random.Random(66493).shuffle(planned)
        probes = {}
        for probe in PATCHES.values():
            step = gets[probe.route]
            if probe.route in WRITES:
                method, body = WRITES[probe.route]
                step = replace(step, method=method, json=body)
            probes[probe] = step
        return cls(planned, probes)


def measure(server: Server, planned: Sequence[Sequence[Request]], concurrency: int) -> dict[str, Any]:
    """
    Run a load test with a different token per request, and request the version at the same time.

    :param server: a running server with the probe `loop.WATCH`.
    :param planned: the flows.
    :param concurrency: the number of concurrent flows.
    :return: ``requests``, ``lost`` (5xx or no response), ``seconds``, ``slowest_version`` (seconds) and,
        unless the server hangs, the counts of the event loop: ``statements``, ``waits`` (for a connection)
        and ``second`` (connections that a request took while it held one).
    """
    tokens = iter(server.tokens(sum(map(len, planned))))
    pages.reset(server.url, loop.WATCH)
    sent = run_flows(server.url, planned, lambda: next(tokens), concurrency=concurrency, deadline=DEADLINE)
    lost = sum(each.lost for each in sent.answers) + sent.left
    found: dict[str, Any] = {
        "requests": len(sent.answers) + sent.left,
        "lost": lost,
        "seconds": round(sent.wall, 2),
        "slowest_version": round(sent.slowest_version, 3),
    }
    if sent.unfinished:
        server.restart()  # the server hangs and cannot report its counts
        return found
    seen = loop.report(server.url)
    return {**found, "statements": seen.statements, "waits": seen.waits, "second": seen.nested}


def measure_locked(server: Server, probe: Probe, step: Request) -> float:
    """
    Lock a table for `HELD` seconds and send requests that need it.

    :param server: a running server.
    :param probe: the table to lock.
    :param step: the request.
    :return: seconds of the slowest response to the version during the lock.
    """
    token = None if probe.public else server.token()
    with locked(server, probe.table, HELD):
        sent = run_flows(
            server.url,
            [[step]] * LOCKED_REQUESTS,
            lambda: token,
            concurrency=LOCKED_REQUESTS,
            deadline=DEADLINE,
        )
    return round(sent.slowest_version, 3)
