"""Many files in one process: what one does stays in its child, and what it does not tell is told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.series.series import Bug
from airflow_auth_patches.verification import reproduce, upstream

HERE = Environment(Path(sys.executable))
SHARED = "seen: list[str] = []\n"
FIRST = """
import os
import pytest
import shared

def test_adds():
    shared.seen.append("first")
    shared.process = os.getpid()

def test_goes_on_in_the_same_process():
    assert (shared.seen, shared.process) == (["first"], os.getpid())

@pytest.mark.parametrize("number", [1, 2, 3])
def test_of_many(number):
    assert number != 2
"""
SECOND = """
import shared

def test_sees_nothing_of_another_file():
    assert shared.seen == []
"""
CRASH = """
import os

def test_passes():
    pass

def test_ends_the_process():
    os._exit(3)

def test_never_runs():
    pass
"""
STUCK = """
import signal
import threading
import time

def test_waits():
    threading.Event().wait(60)

def test_is_deaf():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(60)
"""
FINALIZER = """
import ast
import gc

class Cycle:
    def __init__(self):
        self.itself = self

    def __del__(self):
        ast.parse("parsed = elsewhere")
        Cycle()

def test_fails_while_finalizers_run():
    gc.set_threshold(50, 2, 2)
    Cycle()
    assert gc.get_threshold() == ()

def test_comes_after_it():
    pass
"""
UNIMPORTABLE = "import no_such_module\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {"first": FIRST, "second": SECOND, "crash": CRASH, "unimportable": UNIMPORTABLE}
    (tmp_path / "tests").mkdir()
    for name, text in files.items():
        (tmp_path / f"tests/test_{name}.py").write_text(text)
    (tmp_path / "shared.py").write_text(SHARED)
    return tmp_path


@pytest.fixture
def run(folder: Path, root: Path):
    """Run all files with the plugin, and give the outcomes by the name of the test."""

    def run_forked(*only: str) -> dict[str, str]:
        words = ["-p", "tests_common.forked", "-p", "no:cacheprovider", "-c", "/dev/null", "-o", "timeout=1"]
        variables = {
            "PYTHONPATH": f"{root / 'tests/standin'}:{folder}",
            "AUTH_PATCHES_ONLY": "\n".join(only),
            "AUTH_PATCHES_LONGEST": "3",
        }
        outcomes = upstream.run(folder, HERE, words, variables=variables)
        return {test.rpartition("::")[2]: outcome for test, outcome in outcomes.items()}

    return run_forked


def test_a_file_has_a_process_and_leaves_nothing_behind(run):
    found = run()
    assert found["test_adds"] == found["test_goes_on_in_the_same_process"] == "passed"
    assert found["test_sees_nothing_of_another_file"] == "passed"
    assert [found[f"test_of_many[{n}]"].partition(":")[0] for n in (1, 2, 3)] == [
        "passed",
        "failed",
        "passed",
    ]


def test_a_process_that_ends_fails_what_it_did_not_report(run):
    found = run()
    assert found["test_passes"] == "passed"
    for name in ("test_ends_the_process", "test_never_runs"):
        assert found[name] == "failed: Its process ended before it."


def test_one_that_is_stuck_is_ended(run, folder):
    (folder / "tests/test_stuck.py").write_text(STUCK)
    found = run()
    assert found["test_waits"].startswith("failed: Failed: Timeout")
    assert found["test_is_deaf"] == "failed: Its process ended before it."
    assert found["test_sees_nothing_of_another_file"] == "passed"


def test_a_finalizer_that_parses_does_not_end_the_process(run, folder):
    """On Python 3.11 it did, while pytest parsed what had failed, to show it."""
    (folder / "tests/test_finalizer.py").write_text(FINALIZER)
    found = run()
    assert found["test_fails_while_finalizers_run"].startswith("failed: assert (50, 2, 2) == ()")
    assert found["test_comes_after_it"] == "passed"


def test_a_file_that_cannot_be_imported_is_an_error_and_the_others_run(run):
    found = run()
    assert (
        found["tests/test_unimportable.py"] == "error: ModuleNotFoundError: No module named 'no_such_module'"
    )
    assert found["test_adds"] == "passed"


def test_those_that_are_named_run_alone_each_in_its_process(run):
    found = run("tests/test_first.py::test_adds", "tests/test_first.py::test_goes_on_in_the_same_process")
    assert found.pop("tests/test_unimportable.py").startswith("error")
    assert found.keys() == {"test_adds", "test_goes_on_in_the_same_process"}
    assert found["test_goes_on_in_the_same_process"].startswith("failed: ")


def test_outcomes_are_told_by_file_and_by_bug(monkeypatch, root):
    told = {
        "a/test_a.py::test_x": "passed",
        "a/test_a.py::test_y[1]": "passed",
        "a/test_a.py::test_y[2]": "failed: assert 1",
        "a/test_a.py::test_y[3]": "passed",
        "b/test_a.py": f"error: no such module ({HERE.python.parents[1]}/lib/b.py, {root}/x.py)",
    }
    monkeypatch.setattr(upstream, "run", lambda *_, **__: told)
    assert reproduce.run_files(root, HERE, ["a/test_a.py", "b/test_a.py", "c/test_a.py"]) == {
        "a/test_a.py": {"test_x": "passed", "test_y": "failed: assert 1"},
        "b/test_a.py": {"b/test_a.py": "error: no such module (lib/b.py, x.py)"},
        "c/test_a.py": {},
    }
    asked = {"x": "a/test_a.py::test_x", "y": "a/test_a.py::test_y", "z": "b/test_a.py::test_z"}
    told |= {
        "a/test_a.py::test_w[1]": "skipped",
        "a/test_a.py::test_w[2]": "failed: assert 2",
        "a/test_a.py::test_w[3]": "failed: assert 3",
    }
    asked["w"] = "a/test_a.py::test_w"
    asked["gone"] = "a/test_a.py::test_gone"
    bugs = [Bug(slug, "", "", (), test, None) for slug, test in asked.items()]
    assert reproduce.reproduce(root, HERE, bugs) == {
        "x": "passed",
        "y": "failed: assert 1",
        "z": "error: no such module (lib/b.py, x.py)",
        "w": "failed: assert 2",
        "gone": "not run",
    }
    assert reproduce.reproduce(root, HERE, []) == reproduce.run_files(root, HERE, []) == {}
