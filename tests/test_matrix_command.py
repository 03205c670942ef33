"""`test-matrix` as a user meets it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_auth_patches.releases import releases
from airflow_auth_patches.series import series
from airflow_auth_patches.util.errors import Exit
from airflow_auth_patches.verification import matrix_results, test_matrix
from airflow_auth_patches.verification.cells import choose
from airflow_auth_patches.verification.matrix_results import Result, State
from airflow_auth_patches.verification.run_cell import Runner

OLD, NEW = "3.1.6+3.3.0", "3.3.2+3.10.2"
TOOL = Path(sys.executable).parent / "airflow-auth-patches"


def tool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TOOL, "test-matrix", *arguments], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def told(root, project, pins, tmp_path):
    """Write results of a pair on 3.11 and 3.13; return the arguments that report them."""

    def write(*states: State) -> list[str | Path]:
        chosen = choose(root, project, [pins.pair("3.3.2+3.8.0")], ["3.11", "3.13"])
        entry = Result(State.PASSED, "", "2026-11-21T15:30:00Z", 61, {"failed_on_stock": 7}, reason="why [x]")
        book = {
            cell.name: replace(entry, state=state, fingerprint=cell.fingerprint)
            for cell, state in zip(chosen, states, strict=False)
        }
        matrix_results.write(tmp_path, book)
        return ["--pair", "3.3.2+3.8.0", "--python", "3.11", "--python", "3.13", "--output", tmp_path]

    return write


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ((State.PASSED, State.PASSED), Exit.OK),
        ((State.PASSED, State.SKIPPED), Exit.OK),
        ((State.PASSED, State.FAILED), Exit.FAULT),
        ((State.ERROR, State.PASSED), Exit.FAULT),
        ((State.SKIPPED, State.SKIPPED), Exit.FAULT),
        ((State.PASSED,), Exit.FAULT),
    ],
)
def test_how_the_command_ends(told, states, code, tmp_path):
    done = tool(*told(*states), "--report-only")
    assert done.returncode == code, done.stderr
    for state in states:
        assert state.value in done.stdout
    assert f"2 cells: {states.count(State.PASSED)} passed" in done.stdout or State.PASSED not in states
    if State.SKIPPED in states:
        assert "because Python 3.13 is not installed" in done.stdout
    if State.FAILED in states or State.ERROR in states:
        assert "tests: why [x]" in done.stdout
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "report.json").is_file()


def test_what_passed_needs_no_run_and_json_is_the_report(told, tmp_path):
    done = tool(*told(State.PASSED, State.PASSED), "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert [(cell["python"], cell["state"]) for cell in data["cells"]] == [
        ("3.11", "passed"),
        ("3.13", "passed"),
    ]
    assert data["cells"] == json.loads((tmp_path / "report.json").read_text())["cells"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--pair", "1+1"), Exit.USAGE, "not a tested pair"),
        (("--python", "3.9"), Exit.USAGE, "No chosen pair supports Python 3.9."),
        (("--python", "x"), Exit.USAGE, "No chosen pair supports Python x."),
        (("--pair", OLD, "--python", "3.13"), Exit.USAGE, "Choose one of 3.10, 3.11, 3.12."),
        (("--python", "3.11", "--every-python"), Exit.USAGE, "cannot be combined"),
        (("--jobs", "0"), Exit.USAGE, "--jobs"),
        (("--again", "--report-only"), Exit.USAGE, "cannot be combined"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(arguments, code, said, tmp_path):
    done = tool(*arguments, "--output", tmp_path / "matrix")
    assert done.returncode == code
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_pair_that_does_not_support_a_named_python_is_told(tmp_path):
    words = ("--pair", OLD, "--pair", NEW, "--python", "3.13", "--output", tmp_path, "--report-only")
    done = tool(*words)
    assert f"Not supported on Python 3.13: {OLD}." in done.stdout
    assert "1 cell:" in done.stdout
    assert json.loads((tmp_path / "report.json").read_text())["unsupported"] == {"3.13": [OLD]}
    assert re.search(
        r"Caches for the next run: .+ in build/databases and build/upstream\.", " ".join(done.stdout.split())
    )


def test_broken_results_are_told_of(tmp_path):
    (tmp_path / "results.json").write_text("[")
    done = tool("--output", tmp_path, "--report-only")
    assert done.returncode == Exit.REFUSED
    assert "results.json cannot be read" in done.stderr


# The real thing


@pytest.mark.proof
def test_a_guard_taken_out_of_a_patch_by_hand_turns_its_cell_red(copy, tmp_path):
    def run(slug: str = "users-route") -> Result:
        project, pins = series.load(copy / "patches"), releases.load(copy / "patches")
        (cell,) = choose(copy, project, [pins.pair(OLD)], ["3.11"])
        cell = replace(cell, patches=(slug,))
        book = matrix_results.read(tmp_path / "matrix")
        runner = Runner(copy, project, pins, threading.Event())
        machine = test_matrix.interpreters(["3.11"])
        ran = test_matrix.fill(copy, tmp_path / "matrix", [cell], book, runner, available=machine, keep=True)
        assert len(ran) == 1, "it was due"
        return book[cell.name]

    result = run()
    assert (result.state, result.faults, result.reason) == (State.PASSED, (), "")
    assert result.counts == {"failed_on_stock": 4, "passed_on_stock": 2, "passed_patched": 6}
    assert result.own > 0
    patch = copy / "patches/providers-fab/users-route.patch"
    text = patch.read_text()
    patch.write_text(text.replace("last_login: UtcDateTime | datetime", "last_login: datetime"))
    assert patch.read_text() != text
    result = run()
    assert result.state is State.FAILED
    assert [fault.partition(": ")[0] for fault in result.faults] == ["users-route, patched"]
    assert "test_date_with_a_time_zone_is_sent_in_utc must pass: failed: " in result.faults[0]
