"""The demonstration stops all processes and removes its folder, however it ends."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_auth_patches.demo import report
from airflow_auth_patches.demo import run as demo
from airflow_auth_patches.demo.outcomes import Observation
from airflow_auth_patches.demo.scenario import Build, Scenario
from airflow_auth_patches.demo.server import Server
from airflow_auth_patches.installation import plugin
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases.releases import Pair, Pins
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.progress import Silent

DEMO = """\
import sys
from pathlib import Path
from airflow_auth_patches.demo import report
from airflow_auth_patches.demo import run as demo
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases import releases
from airflow_auth_patches.util.progress import Silent
from airflow_auth_patches.util.signals import interruptible

pairs = releases.load(Path(sys.argv[3])).pairs
with interruptible():
    demo.run(
        lambda pair, build: Environment(Path(sys.argv[1])),
        pairs,
        only=["session-cleanup"],
        progress=Silent(),
        folder=Path(sys.argv[2]),
    )
"""

Fake = Callable[[str], Environment]


def running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return the running processes, without zombies."""
    found = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def serves(process: psutil.Process) -> bool:
    """Check whether a process is an API server, not its process manager."""
    try:
        command = process.cmdline()
    except psutil.NoSuchProcess:
        return False
    return "api-server" in command and not any(word.endswith("process_manager.py") for word in command)


def private(place: Path) -> Path:
    """Return the private folder of the demonstration that contains a path."""
    (found,) = (above for above in place.parents if above.name.startswith("airflow-auth-patches-"))
    return found


@pytest.fixture
def start(tmp_path: Path, root: Path) -> Iterator[Callable[[Environment], subprocess.Popen[bytes]]]:
    started = []

    def demonstrate(environment: Environment) -> subprocess.Popen[bytes]:
        arguments = [environment.python, tmp_path / "logs", root / "patches"]
        process = subprocess.Popen([sys.executable, "-c", DEMO, *map(str, arguments)])
        started.append(process)
        return process

    yield demonstrate
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("stage", ["unprepared", "silent", "hangs"])
def test_signal_stops_processes_and_removes_folder(
    fifo: Any, fake: Fake, start: Callable[..., Any], stage: str, number: signal.Signals
) -> None:
    process = start(fake(stage))
    place = Path(fifo.read_line())  # the working folder of the server or the preparation
    ours = psutil.Process(process.pid).children(recursive=True)
    names = []
    for each in ours:
        with suppress(psutil.NoSuchProcess):  # PostgreSQL's short-lived workers
            names.append(each.name())
    assert "postgres" in names
    process.send_signal(number)
    assert process.wait(300) == 128 + number
    fifo.wait_closed()
    assert running(ours) == []
    assert not private(place).exists()


def test_more_signals_do_not_interrupt_cleanup(fifo: Any, fake: Fake, start: Callable[..., Any]) -> None:
    process = start(fake("silent"))
    place = Path(fifo.read_line())
    ours = psutil.Process(process.pid).children(recursive=True)
    for _ in range(20):
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
    assert process.wait(300) in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    fifo.wait_closed()
    assert running(ours) == []
    assert not private(place).exists()


@pytest.mark.parametrize("stage", ["unprepared", "silent", "hangs"])
def test_sigkill_stops_all_child_processes(
    fifo: Any, fake: Fake, start: Callable[..., Any], stage: str
) -> None:
    process = start(fake(stage))
    place = Path(fifo.read_line())
    ours = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    fifo.wait_closed()
    psutil.wait_procs(ours, timeout=60)
    assert running(ours) == []
    shutil.rmtree(private(place))  # no process is left to remove it


def test_stops_all_processes_when_server_cannot_boot(
    fifo: Any, fake: Fake, pins: Pins, tmp_path: Path
) -> None:
    with pytest.raises(Problem, match=r"(?s)API server of 3\.1\.6\+3\.3\.0 ended:.*it cannot go on"):
        demo.run(
            lambda pair, build: fake("dies" if build is Build.PATCHED else "serves"),
            pins.pairs,
            only=["session-cleanup"],
            progress=Silent(),
            folder=tmp_path / "logs",
        )
    fifo.wait_closed()
    assert running(psutil.Process().children(recursive=True)) == []


def test_reports_scenario_that_cannot_be_measured(fake: Fake, pins: Pins, tmp_path: Path) -> None:
    environment = fake("refuses")
    rows = demo.run(
        lambda pair, build: environment,
        pins.pairs,
        only=["session-cleanup", "sequence"],
        progress=Silent(),
        folder=tmp_path / "logs",
    )
    outcomes = [(row.scenario.name, row.pair, row.outcome.value) for row in rows]
    assert outcomes == [
        ("session-cleanup", "3.1.6+3.3.0", "not shown"),
        ("sequence", "3.1.6+3.3.0", "not cured"),
        ("sequence", "3.1.8+3.4.0", "not cured"),
    ]
    assert all("403 to a single token request" in row.stock.sees for row in rows)
    assert sorted(path.name for path in (tmp_path / "logs").iterdir())[-2:] == [
        "session-cleanup-3.1.6+3.3.0-patched.log",
        "session-cleanup-3.1.6+3.3.0-stock.log",
    ]


def test_runs_every_build_on_every_database(
    fake: Fake, pins: Pins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, Build]] = []
    environment = fake("serves")

    def make(pair: Pair, build: Build) -> Environment:
        made.append((pair.name, build))
        return environment

    def run(server: Server) -> Observation:
        server.token()
        build = server.log.stem.rsplit("-", 1)[-1]
        return Observation(f"{build} on {server.database.product}", failed=build != "patched")

    def compare(first: Observation, patched: Observation) -> Observation:
        return replace(patched, sees=f"{patched.sees}, compared with {first.sees}")

    several = Scenario(
        name="several",
        about="",
        bugs=(),
        pairs=("3.1.6+3.3.0",),
        run=run,
        databases=("PostgreSQL", "MariaDB"),
        minimal=True,
        compare_with_minimal=compare,
    )
    one = replace(several, name="one", databases=("PostgreSQL",), minimal=False)
    monkeypatch.setattr(demo, "choose", lambda names, **_: (several, one))
    reported: list[report.Row] = []
    rows = demo.run(make, pins.pairs, progress=Silent(), folder=tmp_path / "logs", on_row=reported.append)
    assert reported == rows
    assert made == [("3.1.6+3.3.0", build) for build in Build if build is not Build.PLUGIN]
    assert [(row.scenario.name, row.releases, row.outcome.value) for row in rows] == [
        ("several", "3.1.6+3.3.0", "cured"),
        ("several", "3.1.6+3.3.0 on MariaDB", "cured"),
        ("one", "3.1.6+3.3.0", "cured"),
    ]
    assert [(row.stock.sees, row.minimal and row.minimal.sees) for row in rows] == [
        ("stock on PostgreSQL", "minimal on PostgreSQL"),
        ("stock on MariaDB", "minimal on MariaDB"),
        ("stock on PostgreSQL", None),
    ]
    assert rows[1].patched.sees == "patched on MariaDB, compared with minimal on MariaDB"
    assert rows[2].patched.sees == "patched on PostgreSQL"
    assert sorted(row.logs["minimal"].name for row in rows[:2]) == [
        "several-3.1.6+3.3.0-mariadb-minimal.log",
        "several-3.1.6+3.3.0-minimal.log",
    ]
    assert all(log.exists() for row in rows for log in row.logs.values())
    assert all(row.version[0].isdigit() and row.seconds > 0 for row in rows)


@pytest.mark.parametrize(("runs", "outcome"), [(1, "cured"), (2, "inconclusive")])
def test_runs_a_scenario_again_when_it_was_inconclusive(
    fake: Fake, pins: Pins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: int, outcome: str
) -> None:
    """A second inconclusive run is reported as such, and is no fault."""
    done: list[str] = []

    def run(server: Server) -> Observation:
        stock = server.log.stem.endswith("stock")
        noisy = not stock and done.count("patched") < runs
        done.append("stock" if stock else "patched")
        return Observation("seen", failed=stock or noisy, inconclusive=noisy)

    scenario = Scenario(name="several", about="", bugs=(), pairs=("3.1.6+3.3.0",), run=run)
    monkeypatch.setattr(demo, "choose", lambda names, **_: (scenario,))
    environment = fake("serves")
    rows = demo.run(lambda *_: environment, pins.pairs, progress=Silent(), folder=tmp_path / "logs")
    assert done == ["stock", "patched"] * 2
    assert [row.outcome.value for row in rows] == [outcome]
    assert report.faults(rows) == []
    assert ("Repeat it" in str(report.table(rows).caption)) is (outcome == "inconclusive")


def test_skips_scenario_when_database_is_not_installed(
    fake: Fake, pins: Pins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(server: Server) -> Observation:
        server.token()
        return Observation("seen", failed=server.log.stem.endswith("stock"))

    both = ("PostgreSQL", "MariaDB")
    scenario = Scenario(name="several", about="", bugs=(), pairs=("3.1.6+3.3.0",), run=run, databases=both)
    monkeypatch.setattr(demo, "choose", lambda names, **_: (scenario,))
    monkeypatch.setattr("airflow_auth_patches.demo.mariadb.SEARCH_PATH", str(tmp_path))
    environment = fake("serves")
    rows = demo.run(lambda *_: environment, pins.pairs, progress=Silent(), folder=tmp_path / "logs")
    assert [(row.database, row.outcome.value) for row in rows] == [
        ("PostgreSQL", "cured"),
        ("MariaDB", "not run"),
    ]
    assert report.faults(rows) == []
    assert rows[1].patched.sees == "not run: MariaDB is not installed"
    assert report.as_data(rows)[1]["patched"]["log"] is None
    assert "apt-get install --no-install-recommends mariadb-server-core" in str(report.table(rows).caption)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize(("fails", "outcome"), [("stock", "cured"), ("stock plugin", "not cured")])
def test_bug_is_cured_only_if_plugin_cures_it_on_stock(
    fake: Fake,
    pins: Pins,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fails: str,
    outcome: str,
    alone: bool,
) -> None:
    monkeypatch.setattr(plugin, "source", lambda series: "# the plugin")
    environment = fake("serves")
    servers: list[int] = []

    def make(pair: Pair, build: Build) -> Environment:
        assert build in (Build.STOCK, Build.PATCHED)
        return environment

    def run(server: Server) -> Observation:
        servers.append(len([each for each in psutil.Process().children(recursive=True) if serves(each)]))
        build = server.log.stem.rsplit("-", 1)[-1]
        assert server.settings.admission_plugin is (build == "plugin")
        return Observation(f"seen on {build}", failed=build in fails.split())

    scenario = Scenario(
        name="both",
        about="",
        bugs=(),
        pairs=("3.1.6+3.3.0",),
        run=run,
        run_patched=lambda server: replace(run(server), sees="seen by run_patched"),
        plugin=True,
        alone=alone,
    )
    monkeypatch.setattr(demo, "choose", lambda names, **_: (scenario,))
    (row,) = demo.run(make, pins.pairs, progress=Silent(), folder=tmp_path / "logs")
    assert row.plugin is not None
    seen = [row.stock.sees, row.plugin.sees, row.patched.sees]
    assert seen == ["seen on stock", "seen on plugin", "seen by run_patched"]
    assert row.outcome.value == outcome
    assert servers == ([1, 1, 1] if alone else [3, 2, 1])
    assert row.logs["plugin"].name == "both-3.1.6+3.3.0-plugin.log"


def test_rejects_unknown_scenario_before_start(pins: Pins, tmp_path: Path) -> None:
    def never(pair: object, build: Build) -> Environment:
        raise AssertionError("no environment is needed")

    with pytest.raises(Problem, match="There is no scenario 'nonsense'"):
        demo.run(never, pins.pairs, only=["nonsense"], progress=Silent(), folder=tmp_path / "logs")
    assert not (tmp_path / "logs").exists()


def test_rejects_scenario_whose_pair_is_not_pinned(pins: Pins, tmp_path: Path) -> None:
    def never(pair: object, build: Build) -> Environment:
        raise AssertionError("no environment is needed")

    with pytest.raises(Problem, match=r"need 3\.1\.6\+3\.3\.0, 3\.1\.8\+3\.4\.0, "):
        demo.run(never, [], everything=True, progress=Silent(), folder=tmp_path / "logs")
