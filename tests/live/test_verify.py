"""`verify` and `breeze-scripts/verify` on a real API server succeed only if it runs the patched code."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_auth_patches.contribute.expected import Subject, expect
from airflow_auth_patches.demo.postgresql import PostgreSQL
from airflow_auth_patches.demo.preparation import Keys, Preparation
from airflow_auth_patches.demo.run import private_folder
from airflow_auth_patches.demo.scenarios.token_race import AMPLE
from airflow_auth_patches.demo.server import BOOT_DEADLINE, Server
from airflow_auth_patches.installation import apply as patching
from airflow_auth_patches.installation import environments, pair_environments, running
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.progress import Silent

pytestmark = pytest.mark.live
PAIR = "3.1.6+3.3.0"
PROBED = ("auth-manager-singleton", "appbuilder-init-lock", "session-cleanup")
SETTINGS = replace(AMPLE, user_cache_ttl=0)
TOOL = Path(sys.executable).parent / "airflow-auth-patches"


@pytest.fixture(scope="module")
def shared(root: Path, pins: Pins, python: str) -> Environment:
    """Return the environment that the tests patch."""
    pair = pins.pair(PAIR)
    return environments.make(pair, python, pair_environments.folder_of(root, pair, python, "verify"))


@pytest.fixture
def environment(shared: Environment, pins: Pins) -> Environment:
    """Return the environment without patches."""
    patching.revert(shared.python, pins)
    return shared


@pytest.fixture(scope="module")
def prepared(shared: Environment) -> Iterator[Preparation]:
    with (
        private_folder() as folder,
        PostgreSQL(folder / "postgresql") as database,
        Preparation(shared, database, "prepared", folder / "pair", Keys()) as prepared,
    ):
        prepared.wait()
        yield prepared


def inspect(url: str, python: Path) -> tuple[int, Any]:
    """Run the operator's command; return its exit code and its report."""
    words = [TOOL, "verify", "--url", url, "--python", python, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, json.loads(done.stdout)


@pytest.mark.operator_task(3, "Check that the running server was restarted, and runs the patches", "`verify`")
def test_verify_succeeds_only_if_server_runs_patched_code(
    prepared: Preparation, environment: Environment, tmp_path: Path, root: Path, project: Series, pins: Pins
) -> None:
    def apply(*names: str) -> None:
        patching.apply(patching.plan(environment.python, project, pins, names or None), pins)

    def restart() -> None:
        # Wait, because verify rejects a process that started shortly after the files changed.
        time.sleep(running.MARGIN + 1.1)
        server.restart()

    with Server(
        environment, PAIR, "verify", prepared=prepared, settings=SETTINGS, log=tmp_path / "server.log"
    ) as server:
        server.wait()
        verify = verifying(root, environment.python, server.url)

        def ours() -> tuple[int, Any]:
            return inspect(server.url, environment.python)

        stock = verify()
        assert refusal(stock) == 2
        assert "has no patch" in stock.stderr
        code, told = ours()
        assert code == 1
        assert [each["what"] for each in told["findings"]] == [f"{environment.python} has no patch."]
        empty = Project(root, replace(project, patches=()), pins)
        with pytest.raises(Problem, match="has no patch"):  # also if the series has no patch
            expect(Subject(python=environment.python), empty, Silent())

        apply()  # the server already loaded the stock code
        late = verify()
        assert refusal(late) == 2
        assert "changed after the start of process" in late.stderr
        code, told = ours()
        assert (code, told["verified"], len(told["findings"])) == (1, False, 1)
        (process,) = told["processes"]
        assert f"changed after the start of process {process['pid']}" in told["findings"][0]["what"]

        restart()
        code, told = ours()
        assert (code, told["findings"]) == (0, [])
        assert "auth-manager-singleton" in told["patches"]
        assert [(each["path"], each["failed"]) for each in told["checks"]] == [
            ("/api/v2/version", False),
            ("/api/v2/monitor/health", False),
        ]
        assert told["checks"][1]["sees"].startswith("200: metadatabase healthy")
        patched = verify(*(word for slug in PROBED for word in ("--patch", slug)))
        assert patched.returncode == 0, patched.stdout + patched.stderr
        report = json.loads(patched.stdout)
        assert report["proof"]["versions"] == {
            "apache-airflow-core": f"3.1.6+{pins.label}",
            "apache-airflow-providers-fab": f"3.3.0+{pins.label}",
        }
        assert {"auth-manager-singleton", "appbuilder-init-lock"} <= {*report["proof"]["patches"]}
        assert {file["path"] for file in report["proof"]["files"]} >= {
            "airflow/api_fastapi/app.py",
            "airflow/providers/fab/www/extensions/init_appbuilder.py",
        }
        assert summary(report) == [
            ("sequence", True, 18),
            *((slug, True, 15) for slug in PROBED[:2]),
            (PROBED[2], True, 40),
        ]

        apply("session-cleanup")  # this patch does not cure the races
        restart()
        lacking = verify()
        assert refusal(lacking) == 2
        assert "lacks auth-manager-singleton" in lacking.stderr
        alone = verify("--patch", "session-cleanup")
        assert alone.returncode == 0, alone.stdout + alone.stderr
        racing = verify("--unpatched", "--patch", "auth-manager-singleton")
        assert racing.returncode == 0, racing.stdout + racing.stderr
        (probe,) = json.loads(racing.stdout)["scenarios"]
        assert probe["outcome"] == "failed, as expected"

        patching.revert(environment.python, pins)
        gone = verify("--patch", "session-cleanup")
        assert refusal(gone) == 2
        assert "has no patch" in gone.stderr


@pytest.mark.operator_task(3, "Restart only some of several workers", "`verify`")
def test_verify_names_the_processes_of_several_workers_that_run_old_code(
    prepared: Preparation, environment: Environment, tmp_path: Path, project: Series, pins: Pins
) -> None:
    settings, log = replace(AMPLE, workers=2), tmp_path / "server.log"
    with Server(environment, PAIR, "workers", prepared=prepared, settings=settings, log=log) as server:
        server.wait()
        patching.apply(patching.plan(environment.python, project, pins), pins)
        code, told = inspect(server.url, environment.python)
        before = pids(told)
        assert (code, len(before), old(told)) == (1, 3, before)  # the manager has the socket too

        (manager,) = (pid for pid in before if psutil.Process(pid).ppid() not in before)
        killed, kept = before - {manager}
        os.kill(killed, signal.SIGKILL)
        end = time.monotonic() + BOOT_DEADLINE
        while pids(told) <= before or len(told["findings"]) > len(old(told)):  # the new worker still starts
            assert time.monotonic() < end, told
            code, told = inspect(server.url, environment.python)
        assert (code, len(told["processes"]), old(told)) == (1, 3, {manager, kept})

        server.restart()
        code, told = inspect(server.url, environment.python)
        assert (code, len(told["processes"]), told["findings"]) == (0, 3, [])


@pytest.mark.operator_task(3, "Shadow a patched module of the server with `PYTHONPATH`", "`verify`")
def test_verify_finds_a_module_that_pythonpath_of_the_server_shadows(
    prepared: Preparation, environment: Environment, tmp_path: Path, project: Series, pins: Pins
) -> None:
    patching.apply(patching.plan(environment.python, project, pins), pins)
    place = (
        environment.python.parents[1] / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    )
    linked(place / "airflow", tmp_path / "shadow/airflow")
    app = linked(place / "airflow/api_fastapi", tmp_path / "shadow/airflow/api_fastapi") / "app.py"
    text = app.read_text()
    app.unlink()
    app.write_text(f"{text}# another file\n")
    time.sleep(running.MARGIN + 1.1)  # verify rejects a process that starts shortly after a change
    settings, log = replace(AMPLE, more={"PYTHONPATH": str(tmp_path / "shadow")}), tmp_path / "server.log"
    with Server(environment, PAIR, "shadow", prepared=prepared, settings=settings, log=log) as server:
        server.wait()
        code, told = inspect(server.url, environment.python)
        (finding,) = told["findings"]
        assert (code, str(app) in finding["what"]) == (1, True), finding


def linked(source: Path, target: Path) -> Path:
    """Create a folder with links to what another one contains, in place of a link to that folder."""
    target.unlink(missing_ok=True)
    target.mkdir(parents=True)
    for each in source.iterdir():
        (target / each.name).symlink_to(each)
    return target


def pids(told: Any) -> set[int]:
    return {each["pid"] for each in told["processes"]}


def old(told: Any) -> set[int]:
    """Return the processes that started before the patches were applied."""
    said = " ".join(each["what"] for each in told["findings"])
    return {int(pid) for pid in re.findall(r"changed after the start of process (\d+)", said)}


def verifying(root: Path, python: Path, url: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs the script on a server without Breeze, with additional arguments."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def verify(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [root / "breeze-scripts" / "verify", "--python", python, "--url", url, "--json", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env={**os.environ, "PATH": path},
        )

    return verify


def refusal(done: subprocess.CompletedProcess[str]) -> int:
    """Return the exit code of a command that printed nothing but an error."""
    told = json.loads(done.stdout)["error"]
    assert told["what"] in done.stderr
    assert done.returncode == told["exit_code"]
    return done.returncode


def summary(report: Any) -> list[tuple[str, bool, int]]:
    """Return the name, the success and the number of requests of each scenario with requests."""
    return [
        (each["name"], each["passed"], sum(one["requests"] for one in each["measurements"]))
        for each in report["scenarios"]
        if each["measurements"]
    ]
