"""Run the demonstration: each scenario on stock and on patched releases."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from airflow_auth_patches.demo.databases import DatabaseServer, NotInstalled, traversable
from airflow_auth_patches.demo.managed import all_stopped
from airflow_auth_patches.demo.mariadb import MariaDB
from airflow_auth_patches.demo.outcomes import Kind, Observation, Outcome, outcome_of
from airflow_auth_patches.demo.postgresql import PostgreSQL
from airflow_auth_patches.demo.preparation import Keys, Preparation
from airflow_auth_patches.demo.report import Row
from airflow_auth_patches.demo.scenario import Build, Scenario
from airflow_auth_patches.demo.scenarios import choose
from airflow_auth_patches.demo.server import Server
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases.releases import Pair
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.files import remove_folder
from airflow_auth_patches.util.progress import Progress
from airflow_auth_patches.util.signals import check, shield

MakeEnvironment = Callable[[Pair, Build], Environment]

#: The database products that scenarios run on.
DATABASES: Mapping[str, Callable[[Path], DatabaseServer]] = {
    product.product: product for product in (PostgreSQL, MariaDB)
}


@dataclass(frozen=True)
class Target:
    """
    A pair of releases on a database, ready to boot servers.

    :param prepared: the template database.
    :param environments: the environment of each build.
    """

    pair: Pair
    prepared: Preparation
    environments: Mapping[Build, Environment]

    @property
    def name(self) -> str:
        """The releases, with the database if it is not PostgreSQL."""
        product = self.prepared.database.product
        return self.pair.name if product == "PostgreSQL" else f"{self.pair.name}-{product.lower()}"


def run(
    make_environment: MakeEnvironment,
    pairs: Sequence[Pair],
    *,
    only: Sequence[str] = (),
    everything: bool = False,
    progress: Progress,
    folder: Path,
    on_row: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """
    Run scenarios on stock and on patched releases.

    The databases and all files are in a private folder. Servers and folder are removed at the end, also after
    an error, and after a signal within `signals.interruptible`. The logs of the servers are kept.

    :param make_environment: returns the environment of a pair of releases in a build.
    :param pairs: the pinned pairs; they include the pairs of the scenarios.
    :param only: names of scenarios; by default those of the short demonstration.
    :param everything: whether to run every scenario on every pair.
    :param progress: shows each step.
    :param folder: the folder of the servers' logs: ``SCENARIO-CORE+FAB-stock.log``, ``...-patched.log``.
    :param on_row: called with each row when it is available.
    :return: one row per scenario, pair and database, in the order of the scenarios. A scenario whose database
        is not installed also has a row.
    :raises Problem: when a name is unknown, or Airflow or the database cannot be started.
    """
    scenarios = choose(only, everything=everything)
    wanted = {name for scenario in scenarios for name in scenario.pairs}
    known = {pair.name: pair for pair in pairs}
    if missing := sorted(wanted - set(known)):
        raise Problem(
            f"The scenarios need {', '.join(missing)}, which is not a pinned pair.",
            "Add it to releases.toml.",
            Exit.USAGE,
        )
    chosen = [pair for pair in pairs if pair.name in wanted]
    steps = [
        (scenario, pair, product)
        for scenario in scenarios
        for pair in chosen
        if pair.name in scenario.pairs
        for product in scenario.databases
    ]
    folder.mkdir(parents=True, exist_ok=True)
    with private_folder() as home, all_stopped(), ExitStack() as stack:
        databases: dict[str, DatabaseServer] = {}
        missing_databases: dict[str, NotInstalled] = {}
        for product in dict.fromkeys(product for *_, product in steps):
            with progress.task(f"starting {product}"):
                try:
                    databases[product] = stack.enter_context(DATABASES[product](home / product.lower()))
                except NotInstalled as error:
                    missing_databases[product] = error
        keys = Keys()
        targets: dict[tuple[str, str], Target] = {}
        # Prepare a database in the background while the next environment is created.
        for pair in chosen:
            used = [
                (scenario, product)
                for scenario, other, product in steps
                if other is pair and product in databases
            ]
            if not used:
                continue
            builds = {build for scenario, _ in used for build in scenario.builds}
            stock = make_environment(pair, Build.STOCK)
            prepared = {
                product: stack.enter_context(
                    Preparation(
                        stock,
                        databases[product],
                        _plain("base", pair),
                        home / f"{pair.name}-{product.lower()}",
                        keys,
                    )
                )
                for product in dict.fromkeys(product for _, product in used)
            }
            made = {
                build: stock if build in (Build.STOCK, Build.PLUGIN) else make_environment(pair, build)
                for build in Build
                if build in builds
            }
            for product, each in prepared.items():
                targets[pair.name, product] = Target(pair, each, made)
        for target in targets.values():
            with progress.task(f"preparing a database for {target.name}"):
                target.prepared.wait()
        rows = []
        with progress.task("demonstration", len(steps)) as advance:
            for scenario, pair, product in steps:
                check()
                begun = time.monotonic()
                if product in missing_databases:
                    row = _not_run(scenario, pair, product, missing_databases[product])
                else:
                    target = targets[pair.name, product]
                    row = _compare(scenario, target, progress=progress, folder=folder)
                    if row.outcome is Outcome.INCONCLUSIVE:
                        row = _compare(scenario, target, progress=progress, folder=folder)
                row = replace(row, seconds=time.monotonic() - begun)
                rows.append(row)
                on_row(row)
                advance(1)
        return rows


def _compare(scenario: Scenario, target: Target, *, progress: Progress, folder: Path) -> Row:
    """Boot a server of each build, all at the same time if possible, and measure them in sequence."""
    name = f"{scenario.name} on {target.name}"
    logs = {
        build.value: folder / f"{scenario.name}-{target.name}-{build.value}.log" for build in scenario.builds
    }
    with ExitStack() as stack:
        servers = {
            build: Server(
                target.environments[build],
                target.pair.name,
                _plain(build.value, target.pair),
                prepared=target.prepared,
                settings=scenario.settings_of(build),
                log=logs[build.value],
            )
            for build in scenario.builds
        }
        groups = [[build] for build in servers] if scenario.alone else [list(servers)]
        seen = {}
        for group in groups:
            with progress.task(f"{name}: booting"):
                for server in [stack.enter_context(servers[build]) for build in group]:
                    server.wait()
            for build in group:
                with progress.task(f"{name}: {build.value}"):
                    seen[build] = _observe(scenario, build, servers[build])
                servers[build].stop()
    stock, first, patched = seen[Build.STOCK], seen.get(Build.MINIMAL), seen[Build.PATCHED]
    plugin = seen.get(Build.PLUGIN)
    if scenario.compare_with_minimal is not None and first is not None:
        patched = scenario.compare_with_minimal(first, patched)
    # The plugin must cure the bug too: if it fails, the bug is not cured.
    cure = plugin if plugin is not None and plugin.failed else patched
    outcome = outcome_of(scenario.kind, stock, cure)
    database = target.prepared.database
    row = Row(scenario, target.pair.name, stock, patched, outcome, logs, first, database.product, plugin)
    return replace(row, version=database.version)


def _not_run(scenario: Scenario, pair: Pair, product: str, missing: NotInstalled) -> Row:
    """Return the row of a scenario whose database is not installed."""
    seen = Observation(sees=f"not run: {product} is not installed", failed=False)
    return Row(scenario, pair.name, seen, seen, Outcome.NOT_RUN, {}, database=product, remedy=missing.remedy)


def _observe(scenario: Scenario, build: Build, server: Server) -> Observation:
    """Run a scenario. If it cannot be measured, it fails, except on stock in a scenario that shows a bug."""
    try:
        return scenario.observe(build, server)
    except Problem as problem:
        failed = not (build is Build.STOCK and scenario.kind is Kind.BUG)
        return Observation(sees=f"not measured: {problem.what}", failed=failed)


def _plain(kind: str, pair: Pair) -> str:
    """Return the name of a database."""
    return re.sub(r"[^a-z0-9]+", "_", f"{kind}_{pair.name}")


@contextmanager
def private_folder() -> Iterator[Path]:
    """
    Create a folder for the duration of a ``with`` block.

    As root, the folder is accessible to all users, because PostgreSQL runs as another user.
    """
    places = [Path(tempfile.gettempdir())]
    if os.geteuid() == 0:
        places = [place for place in (*places, Path("/tmp"), Path("/var/tmp")) if traversable(place)]
    folder = (places or [Path(tempfile.gettempdir())])[0] / f"airflow-auth-patches-{os.urandom(6).hex()}"
    try:
        folder.mkdir(mode=0o700)
        if os.geteuid() == 0:
            folder.chmod(0o711)
        yield folder
    finally:
        with shield():
            remove_folder(folder)
