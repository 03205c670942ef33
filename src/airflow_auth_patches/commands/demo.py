"""The demonstration: every scenario on stock and on patched releases, side by side."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from airflow_auth_patches.environments import Environment
from airflow_auth_patches.errors import Exit, Problem
from airflow_auth_patches.live.interrupts import check, interruptible, shield
from airflow_auth_patches.live.kept import all_stopped
from airflow_auth_patches.live.networked import traversable
from airflow_auth_patches.live.outcomes import Kind, Observation, judge
from airflow_auth_patches.live.postgresql import PostgreSQL
from airflow_auth_patches.live.preparation import Keys, Preparation
from airflow_auth_patches.live.report import Row
from airflow_auth_patches.live.scenario import Scenario
from airflow_auth_patches.live.scenarios import choose
from airflow_auth_patches.live.server import Server
from airflow_auth_patches.progress import Progress
from airflow_auth_patches.releases import Pair

MakeEnvironment = Callable[[Pair, bool], Environment]


def run(
    make_environment: MakeEnvironment,
    pairs: Sequence[Pair],
    *,
    only: Sequence[str] = (),
    progress: Progress,
    folder: Path,
) -> list[Row]:
    """
    Run scenarios on stock and on patched releases.

    Everything is done in a private folder with a database server of its own; both are gone afterwards, also
    after an error, Ctrl-C or SIGTERM. Servers' logs are kept.

    :param make_environment: gives the environment with a pair of releases, patched or not.
    :param pairs: the pinned pairs, among which are those that the scenarios name.
    :param only: names of scenarios; all when there are none.
    :param progress: is told of each step.
    :param folder: where to keep the servers' logs: ``SCENARIO-CORE+FAB-stock.log`` and ``...-patched.log``.
    :return: one row for each scenario and pair, in the order of the scenarios.
    :raises Problem: when a name is unknown, or Airflow or the database cannot be started.
    :raises KeyboardInterrupt: on Ctrl-C, SIGTERM or SIGHUP, after everything is stopped.
    """
    scenarios = choose(only)
    wanted = {name for scenario in scenarios for name in scenario.pairs}
    known = {pair.name: pair for pair in pairs}
    if missing := sorted(wanted - set(known)):
        raise Problem(
            f"The scenarios need {', '.join(missing)}, which is no tested pair.",
            "Add it to releases.toml.",
            Exit.USAGE,
        )
    chosen = [pair for pair in pairs if pair.name in wanted]
    folder.mkdir(parents=True, exist_ok=True)
    with interruptible(), private_folder() as home, all_stopped(), ExitStack() as stack:
        with progress.task("starting PostgreSQL"):
            database = stack.enter_context(PostgreSQL(home / "postgresql"))
        keys = Keys()
        rooms = {}
        # A database is prepared in the background while the next environment is made.
        for pair in chosen:
            stock = make_environment(pair, False)
            prepared = stack.enter_context(
                Preparation(stock, database, _plain("base", pair), home / pair.name, keys)
            )
            rooms[pair.name] = (prepared, stock, make_environment(pair, True))
        for pair in chosen:
            with progress.task(f"preparing a database for {pair.name}"):
                rooms[pair.name][0].wait()
        steps = [(scenario, pair) for scenario in scenarios for pair in chosen if pair.name in scenario.pairs]
        rows = []
        with progress.task("demonstration", len(steps)) as advance:
            for scenario, pair in steps:
                check()
                rows.append(_compare(scenario, pair, *rooms[pair.name], progress=progress, folder=folder))
                advance(1)
        return rows


def _compare(
    scenario: Scenario,
    pair: Pair,
    prepared: Preparation,
    stock: Environment,
    patched: Environment,
    *,
    progress: Progress,
    folder: Path,
) -> Row:
    """Boot a fresh server of each, both at the same time; then measure one after the other."""
    logs = {kind: folder / f"{scenario.name}-{pair.name}-{kind}.log" for kind in ("stock", "patched")}
    with ExitStack() as stack:
        servers = {
            kind: stack.enter_context(
                Server(
                    environment,
                    pair.name,
                    _plain(kind, pair),
                    prepared=prepared,
                    settings=scenario.settings,
                    log=logs[kind],
                )
            )
            for kind, environment in (("stock", stock), ("patched", patched))
        }
        with progress.task(f"{scenario.name} on {pair.name}: booting"):
            for server in servers.values():
                server.wait()
        seen = {}
        for kind, server in servers.items():
            with progress.task(f"{scenario.name} on {pair.name}: {kind}"):
                seen[kind] = _observe(scenario, server, stock=kind == "stock")
            server.stop()
    verdict = judge(scenario.kind, scenario.known_open, seen["stock"], seen["patched"])
    return Row(scenario, pair.name, seen["stock"], seen["patched"], verdict, logs)


def _observe(scenario: Scenario, server: Server, *, stock: bool) -> Observation:
    """Run a scenario; a bug that cannot be measured on stock is not shown, all else is a failure."""
    try:
        return scenario.run(server)
    except Problem as problem:
        failed = not (stock and scenario.kind is Kind.BUG)
        return Observation(sees=f"not measured: {problem.what}", failed=failed)


def _plain(kind: str, pair: Pair) -> str:
    """Name a database."""
    return f"{kind}_{re.sub(r'[^0-9]+', '_', pair.name)}"


@contextmanager
def private_folder() -> Iterator[Path]:
    """
    Make a folder for the length of a ``with`` block.

    As root, whose PostgreSQL runs as somebody else, it is one that everybody can pass through.
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
            shutil.rmtree(folder, ignore_errors=True)
