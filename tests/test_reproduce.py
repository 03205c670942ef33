"""Run each test file in a process of its own, and report the tests that a process does not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.series.bugs import Bug, Severity
from airflow_auth_patches.verification import reproduce, run_pytest

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
import threading
import pytest

@pytest.mark.timeout(1)
def test_waits():
    threading.Event().wait(60)
"""
DEAF = """
import signal
import time

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


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, root: Path):
    """Return a function that runs the test files, and gives the outcomes by name of the test."""
    files = {"first": FIRST, "second": SECOND, "crash": CRASH, "unimportable": UNIMPORTABLE}
    files |= {"stuck": STUCK, "finalizer": FINALIZER}
    folder = tmp_path_factory.mktemp("reproduce")
    for name in ("tests", "deaf"):
        (folder / name).mkdir()
    for name, text in files.items():
        (folder / f"tests/test_{name}.py").write_text(text)
    (folder / "deaf/test_deaf.py").write_text(DEAF)
    (folder / "shared.py").write_text(SHARED)

    def run_forked(*only: str, tests: str = "tests", longest: int = 300) -> dict[str, str]:
        words = [
            "-p",
            "tests_common.forked",
            "-p",
            "no:cacheprovider",
            "-c",
            "/dev/null",
            "-o",
            "timeout=300",
        ]
        variables = {
            "PYTHONPATH": f"{root / run_pytest.PLUGIN_STUB}:{folder}",
            "AUTH_PATCHES_ONLY": "\n".join(only),
            "AUTH_PATCHES_LONGEST": str(longest),
        }
        found = run_pytest.run(folder, HERE, [*words, tests], variables=variables)
        return {test.rpartition("::")[2]: outcome for test, outcome in found.items()}

    return run_forked


@pytest.fixture(scope="module")
def found(outcomes) -> dict[str, str]:
    """Return the outcomes of all tests."""
    return outcomes()


def test_each_file_runs_in_a_process_of_its_own(found):
    for name in ("adds", "goes_on_in_the_same_process", "sees_nothing_of_another_file"):
        assert found[f"test_{name}"] == "passed"
    kinds = [found[f"test_of_many[{n}]"].partition(":")[0] for n in (1, 2, 3)]
    assert kinds == ["passed", "failed", "passed"]


def test_process_that_ends_fails_the_tests_that_it_did_not_report(found):
    assert found["test_passes"] == "passed"
    for name in ("test_ends_the_process", "test_never_runs"):
        assert found[name] == "failed: Its process ended before it."


def test_test_that_hangs_is_ended(found, outcomes):
    assert found["test_waits"].startswith("failed: Failed: Timeout")
    found = outcomes(tests="deaf", longest=1)
    assert found == {"test_is_deaf": "failed: Its process ended before it."}


def test_finalizer_that_parses_does_not_end_the_process(found):
    """On Python 3.11 it ended the process while pytest parsed the source of the failed test."""
    assert found["test_fails_while_finalizers_run"].startswith("failed: assert (50, 2, 2) == ()")
    assert found["test_comes_after_it"] == "passed"


def test_file_that_cannot_be_imported_is_an_error(found):
    said = "error: ModuleNotFoundError: No module named 'no_such_module'"
    assert found["tests/test_unimportable.py"] == said


def test_named_tests_run_alone_each_in_a_process_of_its_own(outcomes):
    found = outcomes(
        "tests/test_first.py::test_adds", "tests/test_first.py::test_goes_on_in_the_same_process"
    )
    assert found.pop("tests/test_unimportable.py").startswith("error")
    assert found.keys() == {"test_adds", "test_goes_on_in_the_same_process"}
    assert found["test_goes_on_in_the_same_process"].startswith("failed: ")


def test_outcomes_are_given_by_file_and_by_bug(monkeypatch, root):
    """The worst outcome of a test's parameters counts, without the path of the environment."""
    told = {
        "a/test_a.py::test_x": "passed",
        "a/test_a.py::test_y[1]": "passed",
        "a/test_a.py::test_y[2]": "failed: assert 1",
        "a/test_a.py::test_y[3]": "passed",
        "a/test_a.py::test_w[1]": "skipped",
        "a/test_a.py::test_w[2]": "failed: assert 2",
        "a/test_a.py::test_w[3]": "failed: assert 3",
        "b/test_a.py": f"error: no such module ({HERE.python.parents[1]}/lib/b.py, {root}/x.py)",
    }
    monkeypatch.setattr(run_pytest, "run", lambda *_, **__: told)
    error = "error: no such module (lib/b.py, x.py)"
    assert reproduce.run_files(root, HERE, ["a/test_a.py", "b/test_a.py", "c/test_a.py"]) == {
        "a/test_a.py": {"test_x": "passed", "test_y": "failed: assert 1", "test_w": "failed: assert 2"},
        "b/test_a.py": {"b/test_a.py": error},
        "c/test_a.py": {},
    }
    names = {
        "x": "a/test_a.py",
        "y": "a/test_a.py",
        "w": "a/test_a.py",
        "gone": "a/test_a.py",
        "z": "b/test_a.py",
    }
    bugs = [
        Bug(slug, "", "", Severity.ERROR, (), f"{file}::test_{slug}", None) for slug, file in names.items()
    ]
    found = {"x": "passed", "y": "failed: assert 1", "w": "failed: assert 2", "gone": "not run", "z": error}
    assert reproduce.reproduce(root, HERE, bugs) == found
    assert reproduce.reproduce(root, HERE, []) == reproduce.run_files(root, HERE, []) == {}
