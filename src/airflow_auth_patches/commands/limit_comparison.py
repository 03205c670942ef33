"""
Measure what each other patch adds where `request-admission` limits concurrent requests.

``python -m airflow_auth_patches.commands.limit_comparison RESULT.json`` boots one API server for each patch, all
on one database, and measures them in turn. The page docs/limit.md is made from the result.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from airflow_auth_patches import releases, series, show
from airflow_auth_patches.commands import prove
from airflow_auth_patches.commands.demo import private_folder
from airflow_auth_patches.environments import Environment, make
from airflow_auth_patches.live import loop
from airflow_auth_patches.live.interrupts import interruptible
from airflow_auth_patches.live.journeys import Step, Trip, travel
from airflow_auth_patches.live.kept import all_stopped
from airflow_auth_patches.live.openapi import operations
from airflow_auth_patches.live.postgresql import PostgreSQL
from airflow_auth_patches.live.preparation import Keys, Preparation, Settings
from airflow_auth_patches.live.proxy import Proxy
from airflow_auth_patches.live.scenarios.database_waits import later, locked
from airflow_auth_patches.live.server import Server
from airflow_auth_patches.live.tour import Furnished, looks
from airflow_auth_patches.live.writes import journeys
from airflow_auth_patches.releases import Pair

LIMIT = "request-admission"
STOCK, ALL = "stock", "all patches"
PAIR = "3.3.2+3.10.2"
#: Connections of the pool: kept ones and overflow.
POOLS = ((3, 2), (5, 10))
#: Milliseconds of a round trip to the database, beyond what it takes on one machine.
LATENCIES = (0, 10)
#: How often each load is sent to each server; ratios are taken within a round.
ROUNDS = 3
#: Requests for Dags, each with a token of its own.
TOKENS = 300
CONCURRENCY = 30
DAGS = Step("GET", "/api/v2/dags", "/api/v2/dags?limit=5")
#: Routes that take a second connection on stock, and how often each is requested.
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
#: Seconds for a load.
DEADLINE = 60.0
#: Seconds for which a table is locked.
HELD = 4.0
#: Requests that need the locked table.
LOCKED_REQUESTS = 4
PUBLIC_ROLE = "Viewer"


@dataclass(frozen=True)
class Probe:
    """
    A locked table, and the requests that wait for it.

    :param table: the table.
    :param route: the route, below ``/api/v2``, with a value known to the tour for each parameter.
    :param public: whether the requests, and those for the version, carry no token.
    """

    table: str
    route: str
    public: bool = False


#: The patches that cure waiting, with those that each needs and the table whose lock shows the wait.
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
#: Routes of probes that are no GET: the method and the body.
WRITES = {
    "/variables/{variable_key}": ("PATCH", {"key": "tour", "value": "1"}),
    "/dags/{dag_id}/dagRuns/{dag_run_id}": ("PATCH", {"state": "failed"}),
}


@dataclass(frozen=True)
class Build:
    """
    Releases with some patches.

    :param name: for people: the patch that is added to the limit.
    :param patches: slugs; every patch when ``None``.
    :param probe: its locked table; those of all patches when ``None``.
    """

    name: str
    patches: tuple[str, ...] | None
    probe: Probe | None = None


def builds(serving: set[str]) -> list[Build]:
    """
    Return what is compared: stock, the limit alone, the limit with each patch, all patches.

    :param serving: slugs of the patches that serve the pair.
    """
    added = [
        Build(slugs[0], (LIMIT, *slugs), probe) for slugs, probe in PATCHES.items() if slugs[0] in serving
    ]
    return [Build(STOCK, ()), Build(LIMIT, (LIMIT,)), *added, Build(ALL, None)]


@dataclass(frozen=True)
class Requests:
    """
    The loads, from a database with something for every route.

    :param second: requests that take a second connection on stock, and writes.
    :param probes: the request of each probe.
    """

    second: Sequence[Sequence[Step]]
    probes: Mapping[Probe, Step]

    @classmethod
    def of(cls, server: Server) -> Requests:
        """
        Make them, and what they find.

        :param server: one that answers.
        """
        furnished = Furnished(server)
        values = furnished.furnish()
        found = operations(furnished.document())
        gets = {step.route.removeprefix("/api/v2"): step for step in looks(found, values)}
        grid = Step("GET", "/ui/grid/structure/{dag_id}", f"/ui/grid/structure/{values['dag_id']}")
        reads = [[step] for step in [*(gets[route] for route in SECOND), grid] * SECOND_EACH]
        planned = [*reads, *journeys(found, furnished.asset_ids)]
        random.Random(66493).shuffle(planned)
        probes = {}
        for probe in PATCHES.values():
            step = gets[probe.route]
            if probe.route in WRITES:
                method, body = WRITES[probe.route]
                step = replace(step, method=method, json=body)
            probes[probe] = step
        return cls(planned, probes)


def measure(server: Server, planned: Sequence[Sequence[Step]], concurrency: int) -> dict[str, Any]:
    """
    Send a load, each request with a token of its own, while the version is requested all along.

    :param server: a watched one that answers.
    :param planned: the requests.
    :param concurrency: how many at once.
    :return: ``requests``, ``lost``, ``seconds``, ``slowest_version`` and, of the event loop, ``statements``,
        ``waits`` (for a connection) and ``second`` (connections that a request took while it held one).
    """
    tokens = iter(server.tokens(sum(map(len, planned))))
    loop.reset(server.url)
    trip = travel(server.url, planned, lambda: next(tokens), concurrency=concurrency, deadline=DEADLINE)
    lost = sum(not each.well for each in trip.done) + trip.left
    found: dict[str, Any] = {"requests": len(trip.done) + trip.left, "lost": lost, **_times(trip)}
    if trip.result.unfinished:
        server.restart()  # it hangs: nothing can be read from it, nor measured after
        return found
    seen = loop.report(server.url)
    return {**found, "statements": seen.statements, "waits": seen.waits, "second": seen.nested}


def _times(trip: Trip) -> dict[str, float]:
    return {"seconds": round(trip.wall, 2), "slowest_version": round(trip.slowest_pulse, 3)}


def measure_locked(server: Server, probe: Probe, step: Step) -> float:
    """
    Lock a table for `HELD` seconds and send the requests that need it.

    :param server: one that answers.
    :param probe: the table.
    :param step: the request.
    :return: seconds of the slowest answer to the version meanwhile.
    """
    token = None if probe.public else server.token()
    with locked(server, server.name, probe.table) as lock, later(lock.release, HELD):
        trip = travel(
            server.url,
            [[step]] * LOCKED_REQUESTS,
            lambda: token,
            concurrency=LOCKED_REQUESTS,
            deadline=DEADLINE,
        )
    return round(trip.slowest_pulse, 3)


class Comparison:
    """
    The servers of one pair of releases, on one database.

    :param pair: the releases.
    :param compared: what is installed, for each build.
    :param folder: a private folder, for the servers' files.
    :param logs: a folder for the servers' logs.
    """

    def __init__(
        self, pair: Pair, compared: Mapping[Build, Environment], folder: Path, logs: Path, bars: show.Bars
    ) -> None:
        self.pair, self.compared, self.folder, self.logs, self.bars = pair, compared, folder, logs, bars

    def run(self) -> dict[str, Any]:
        """Measure everything; return plain data, see :func:`main`."""
        with ExitStack() as stack:
            database = PostgreSQL(self.folder / "postgresql")
            stack.enter_context(database)
            stock = next(each for build, each in self.compared.items() if build.name == STOCK)
            self.prepared = stack.enter_context(
                Preparation(stock, database, "base", self.folder / "base", Keys())
            )
            with self.bars.task("preparing a database"):
                self.prepared.wait()
            owner = stack.enter_context(self._server(stock, "owner", Settings(), beside=""))
            self.requests = Requests.of(owner.wait())
            owner.stop()
            loads = [
                load
                for size in POOLS
                for latency in LATENCIES
                for load in self._loads(database, size, latency)
            ]
            return {"loads": loads, "locked": self._locked()}

    def _server(self, environment: Environment, name: str, settings: Settings, beside: str) -> Server:
        return Server(
            environment,
            self.pair.name,
            "compared",
            prepared=self.prepared,
            settings=settings,
            log=self.logs / f"{name}.log",
            beside=beside,
        )

    def _boot(
        self, stack: ExitStack, settings: Settings, database: PostgreSQL | None = None
    ) -> dict[str, Server]:
        servers = {}
        with self.bars.task("booting", len(self.compared)) as advance:
            for build, environment in self.compared.items():
                server = self._server(environment, build.name.replace(" ", "-"), settings, build.name)
                server.database = database or server.database
                servers[build.name] = stack.enter_context(server)
                # One after the other: as many as there are patches, all at once, are too slow for a deadline.
                server.wait()
                advance(1)
        return servers

    def _loads(self, database: PostgreSQL, size: tuple[int, int], latency: int) -> list[dict[str, Any]]:
        settings = Settings(*size, pool_timeout=5, user_cache_ttl=0, inside=(loop.WATCH,))
        what = f"pool {size[0]}+{size[1]}, {latency} ms"
        with ExitStack() as stack:
            proxy = stack.enter_context(Proxy(database.port, delay=latency / 2000))
            servers = self._boot(stack, settings, database.through(proxy.port))
            found = []
            with self.bars.task(what, ROUNDS * len(servers)) as advance:
                for number in range(1, ROUNDS + 1):
                    # In another order each time: the machine may be busier later.
                    order = list(servers.items())
                    for name, server in order if number % 2 else order[::-1]:
                        for load, planned, concurrency in (
                            ("tokens", [[DAGS]] * TOKENS, CONCURRENCY),
                            ("second", self.requests.second, SECOND_CONCURRENCY),
                        ):
                            seen = measure(server, planned, concurrency)
                            place = {"pool": list(size), "latency": latency, "round": number, "load": load}
                            found.append({"build": name, **place, **seen})
                        advance(1)
        return found

    def _locked(self) -> list[dict[str, Any]]:
        found = []
        settings = Settings(5, 10, pool_timeout=30, user_cache_ttl=0)
        for public in (False, True):
            role = PUBLIC_ROLE if public else None
            with ExitStack() as stack:
                servers = self._boot(stack, replace(settings, public_role=role))
                added = [build for build in self.compared if build.probe and build.probe.public is public]
                with self.bars.task("locked tables", len(added)) as advance:
                    for build in added:
                        assert build.probe is not None
                        step = self.requests.probes[build.probe]
                        slowest = {
                            name: measure_locked(servers[name], build.probe, step)
                            for name in (STOCK, LIMIT, build.name, ALL)
                        }
                        place = {"patch": build.name, "table": build.probe.table, "request": str(step)}
                        found.append({**place, "held": HELD, "slowest_version": slowest})
                        advance(1)
        return found


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Measure, and write ``measured`` (the day), ``cpus``, ``pair``, ``loads`` and ``locked`` as JSON.

    Each of ``loads`` has its ``build``, ``pool``, ``latency``, ``round``, ``load`` and what
    :func:`measure` returns; each of ``locked`` the slowest version of four servers, in seconds.
    """
    parser = argparse.ArgumentParser(prog="limit_comparison", description=__doc__)
    parser.add_argument("result", type=Path, help="the file to write, JSON")
    parser.add_argument("--pair", default=PAIR, metavar="CORE+FAB", help=f"the releases, by default {PAIR}")
    parser.add_argument(
        "--patch", action="append", metavar="SLUG", help="only this patch; may be given again"
    )
    given = parser.parse_args(arguments)
    root = Path.cwd()
    known = series.load()
    pins = releases.load(known.folder)
    pair = pins.pair(given.pair)
    serving = {patch.slug for release in (pair.core, pair.fab) for patch in known.serving(release)}
    wanted = [
        each for each in builds(serving) if not given.patch or not each.probe or each.name in given.patch
    ]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    with show.Bars() as bars, interruptible(), private_folder() as folder, all_stopped():
        compared = {
            build: make(pair, version, prove.folder_of(root, pair, version, "stock"), bars)
            if build.name == STOCK
            else prove.patched_environment(
                root, known, pins, pair, version, bars, kind=f"limit-{build.name}", only=build.patches
            )
            for build in wanted
        }
        logs = root / "build" / "limit"
        logs.mkdir(parents=True, exist_ok=True)
        found = Comparison(pair, compared, folder, logs, bars).run()
    head = {"measured": date.today().isoformat(), "cpus": os.cpu_count(), "pair": pair.name}
    given.result.parent.mkdir(parents=True, exist_ok=True)
    given.result.write_text(json.dumps({**head, **found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
