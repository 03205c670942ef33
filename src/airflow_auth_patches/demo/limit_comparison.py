"""
Measure the effect of each other patch on a server where `request-admission` limits concurrent requests.

``python -m airflow_auth_patches.demo.limit_comparison RESULT.json`` boots one API server per patch, all on
one database, and measures them in sequence. The tables of docs/limit.md show the result.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from airflow_auth_patches.demo import loop
from airflow_auth_patches.demo.databases import DatabaseServer
from airflow_auth_patches.demo.limit_loads import (
    CONCURRENCY,
    DAGS,
    HELD,
    PATCHES,
    SECOND_CONCURRENCY,
    TOKENS,
    Probe,
    Requests,
    measure,
    measure_locked,
)
from airflow_auth_patches.demo.load import Request
from airflow_auth_patches.demo.managed import all_stopped
from airflow_auth_patches.demo.postgresql import PostgreSQL
from airflow_auth_patches.demo.preparation import Keys, Preparation, Settings
from airflow_auth_patches.demo.proxy import Proxy
from airflow_auth_patches.demo.run import private_folder
from airflow_auth_patches.demo.server import Server
from airflow_auth_patches.installation import pair_environments
from airflow_auth_patches.installation.environments import Environment, make
from airflow_auth_patches.releases import releases
from airflow_auth_patches.releases.releases import Pair
from airflow_auth_patches.series import series
from airflow_auth_patches.series.series import Patch
from airflow_auth_patches.util import show
from airflow_auth_patches.util.signals import interruptible

LIMIT = "request-admission"
STOCK, ALL = "stock", "all patches"
PAIR = "3.3.2+3.10.2"
#: Sizes of the connection pool: pool size and overflow.
POOLS = ((3, 2), (5, 10))
#: Milliseconds added to each round trip to the database.
LATENCIES = (0, 10)
#: Number of load tests with distinct tokens for each server; one for stock. Ratios compare servers within a
#: round. The load test on second connections runs only in the first round.
ROUNDS = 2
PUBLIC_ROLE = "Viewer"


@dataclass(frozen=True)
class Build:
    """
    A pair of releases with some patches.

    :param name: the display name: the patch that is added to the limit.
    :param patches: the slugs of the patches; all patches if ``None``.
    :param probe: the table to lock for this patch, if any.
    """

    name: str
    patches: tuple[str, ...] | None
    probe: Probe | None = None


def builds(serving: Mapping[str, Patch]) -> list[Build]:
    """
    Return the compared builds: stock, only the limit, the limit with each patch, and all patches.

    :param serving: the patches that serve the pair, by slug.
    """
    added = []
    for slugs, probe in PATCHES.items():
        if slugs[0] in serving:
            needed = dict.fromkeys(slugs)
            for slug in slugs:
                needed |= dict.fromkeys(_required(serving, slug))
            added.append(Build(slugs[0], (LIMIT, *needed), probe))
    return [Build(STOCK, ()), Build(LIMIT, (LIMIT,)), *added, Build(ALL, None)]


def _required(serving: Mapping[str, Patch], slug: str) -> list[str]:
    requires = [each for each in serving[slug].requires if each in serving]
    return [*requires, *(further for each in requires for further in _required(serving, each))]


class Comparison:
    """
    The comparison of the servers of one pair of releases, on one database.

    :param pair: the releases.
    :param compared: the environment of each build.
    :param folder: a private folder for the files of the servers.
    :param logs: a folder for the logs of the servers.
    :param bars: the progress display.
    """

    def __init__(
        self, pair: Pair, compared: Mapping[Build, Environment], folder: Path, logs: Path, bars: show.Bars
    ) -> None:
        self.pair, self.compared, self.folder, self.logs, self.bars = pair, compared, folder, logs, bars

    def run(self) -> dict[str, Any]:
        """Run all measurements and return JSON-serializable data, see :func:`main`."""
        with ExitStack() as stack:
            database = PostgreSQL(self.folder / "postgresql")
            stack.enter_context(database)
            stock = next(each for build, each in self.compared.items() if build.name == STOCK)
            self.prepared = stack.enter_context(
                Preparation(stock, database, "base", self.folder / "base", Keys())
            )
            with self.bars.task("preparing a database"):
                self.prepared.wait()
            owner = stack.enter_context(self._server(stock, "owner", Settings(), sibling=""))
            self.requests = Requests.of(owner.wait())
            owner.stop()
            loads = [
                load
                for size in POOLS
                for latency in LATENCIES
                for load in self._loads(database, size, latency)
            ]
            return {"loads": loads, "locked": self._locked()}

    def _server(self, environment: Environment, name: str, settings: Settings, sibling: str) -> Server:
        return Server(
            environment,
            self.pair.name,
            "compared",
            prepared=self.prepared,
            settings=settings,
            log=self.logs / f"{name}.log",
            sibling=sibling,
        )

    def _boot(
        self, stack: ExitStack, settings: Settings, database: DatabaseServer | None = None
    ) -> dict[str, Server]:
        servers = {}
        with self.bars.task("booting", len(self.compared)) as advance:
            for build, environment in self.compared.items():
                server = self._server(environment, build.name.replace(" ", "-"), settings, build.name)
                server.database = database or server.database
                servers[build.name] = stack.enter_context(server)
                # Boot in sequence: so many servers at the same time would exceed the boot deadline.
                server.wait()
                advance(1)
        return servers

    def _loads(self, database: PostgreSQL, size: tuple[int, int], latency: int) -> list[dict[str, Any]]:
        settings = Settings(*size, pool_timeout=5, user_cache_ttl=0, probes=(loop.WATCH,))
        what = f"pool {size[0]}+{size[1]}, {latency} ms"
        with ExitStack() as stack:
            proxy = stack.enter_context(Proxy(database.port, delay=latency / 2000))
            servers = self._boot(stack, settings, database.through(proxy.port))
            found = []
            with self.bars.task(what, ROUNDS * (len(servers) - 1) + 1) as advance:
                for number in range(1, ROUNDS + 1):
                    # Alternate the order: the machine can be busier later.
                    order = [item for item in servers.items() if item[0] != STOCK or number == 1]
                    for name, server in order if number % 2 else order[::-1]:
                        loads: list[tuple[str, Sequence[Sequence[Request]], int]]
                        loads = [("tokens", [[DAGS]] * TOKENS, CONCURRENCY)]
                        if number == 1:
                            loads.append(("second", self.requests.second, SECOND_CONCURRENCY))
                        for load, planned, concurrency in loads:
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
    Run the comparison and write the result as JSON.

    The result has ``measured`` (a date), ``cpus``, ``pair``, ``loads`` and ``locked``. Each item of ``loads``
    has ``build``, ``pool``, ``latency``, ``round``, ``load`` and the values that :func:`measure` returns.
    Each item of ``locked`` has the slowest response to the version of four servers, in seconds.
    """
    parser = argparse.ArgumentParser(prog="limit_comparison", description=__doc__)
    parser.add_argument("result", type=Path, help="the JSON file to write")
    parser.add_argument("--pair", default=PAIR, metavar="CORE+FAB", help=f"the releases (default: {PAIR})")
    parser.add_argument(
        "--patch", action="append", metavar="SLUG", help="compare only this patch; can be repeated"
    )
    given = parser.parse_args(arguments)
    root = Path.cwd()
    known = series.load()
    pins = releases.load(known.folder)
    pair = pins.pair(given.pair)
    serving = {patch.slug: patch for each in (pair.core, pair.fab) for patch in known.serving(each)}
    wanted = [
        each for each in builds(serving) if not given.patch or not each.probe or each.name in given.patch
    ]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    with show.Bars() as bars, interruptible(), private_folder() as folder, all_stopped():
        compared = {
            build: make(pair, version, pair_environments.folder_of(root, pair, version, "stock"), bars)
            if build.name == STOCK
            else pair_environments.patched_environment(
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
