"""The test matrix: which cells there are, which ones run, and what stays when a run ends."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from airflow_auth_patches.verification import expectations, matrix, unit_tests, upstream
from airflow_auth_patches.verification.matrix import Part
from airflow_auth_patches.verification.run_pytest import PLUGIN_STUB

OLD, NEW, PAIR = "3.1.6+3.3.0", "3.3.2+3.10.2", "3.3.2+3.8.0"
CELL, SAME_PROVIDER = f"{PAIR}-py3.11-tests", "3.3.0+3.8.0-py3.11-tests"
#: The conftest.py of the copy: a cell creates two environments, and then does what a test gives as code.
STUB = """
import os, sys
from airflow_auth_patches.installation import environments
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.processes import attempt
from airflow_auth_patches.verification import matrix

def run(project, pair, python, part):
    root, name, faults = project.root, f"{pair.name}-py{python}-{part.value}", []
    here = sorted(path.name for path in (root / "build/envs").glob("*"))
    with (root / "ran").open("a") as file:
        print(name, os.environ.get("PYTEST_XDIST_WORKER"), *here, file=file)
    for folder in matrix.folders(root, pair, python)[:2]:
        folder.mkdir(parents=True, exist_ok=True)
    exec(os.environ["DURING"])
    return faults, {"failed_on_stock": 2}

matrix.run = run
environments.interpreter = lambda version: None if version == "3.13" else sys.executable
"""


class Matrix:
    """A copy of the project, with a matrix whose cells do what a test says."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "conftest.py").write_text(STUB)

    def start(self, *arguments: str, during: str = "") -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "pytest", "tests/matrix/cells.py", "-o", "junit_family=xunit1"]
        return subprocess.Popen(
            [*words, "--junitxml=report.xml", *arguments],
            cwd=self.root,
            env={**os.environ, "DURING": during, "PYTEST_ADDOPTS": ""},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, during: str = "") -> dict[str, str]:
        """Run the matrix; return the outcome of each cell, `passed` or a message."""
        with self.start(*arguments, during=during) as process:
            said, _ = process.communicate(timeout=300)
        assert process.returncode in (0, 1), said
        outcomes = {}
        for case in self.report().iter("testcase"):
            messages = [node.get("message", "") for node in case if node.tag != "properties"]
            outcomes[case.get("name", "")[len("test_cell[") : -1]] = " ".join(messages) or "passed"
        return outcomes

    def report(self) -> ElementTree.Element:
        return ElementTree.parse(self.root / "report.xml").getroot()

    def ran(self) -> list[list[str]]:
        """Return the name, the worker and the existing environments of each cell that ran."""
        return [line.split() for line in (self.root / "ran").read_text().splitlines()]

    def environments(self) -> set[str]:
        return {path.name for path in (self.root / "build/envs").glob("*")}

    def change(self, path: str, old: str, new: str) -> None:
        """Replace a text in a file, or append one."""
        before = (self.root / path).read_text()
        assert old in before
        (self.root / path).write_text(before.replace(old, new) if old else before + new)


@pytest.fixture
def cells(copy: Path, root: Path) -> Matrix:
    shutil.copytree(root / "tests/matrix", copy / "tests/matrix")
    return Matrix(copy)


def test_skips_cell_that_passed_until_its_inputs_change(cells):
    assert cells.run("-k", CELL) == {CELL: "passed"}
    counts = [dict(each.attrib) for each in cells.report().iter("property")]
    assert counts == [{"name": "failed_on_stock", "value": "2"}]
    skipped = cells.run("-k", CELL)[CELL]
    assert (skipped[:12], skipped[-21:]) == ("passed on 20", " with the same inputs")
    assert "test_x" in cells.run("-k", CELL, "--again", during="faults.append('test_x must pass')")[CELL]
    assert cells.run("-k", CELL) == {CELL: "passed"}
    cells.change(f"{PLUGIN_STUB}/pytest.ini", "", "\n")
    assert cells.run("-k", CELL) == {CELL: "passed"}
    assert len(cells.ran()) == 4


@pytest.mark.parametrize(
    ("during", "said"),
    [
        ("raise Problem('uv failed.', 'Try again.')", "uv failed. Try again."),
        (
            f"(root / '{PLUGIN_STUB}/pytest.ini').write_text('')",
            "The inputs changed during the run",
        ),
        ("(root / 'patches/releases.toml').write_text('[')", "The inputs changed during the run"),
    ],
)
def test_runs_cell_again_that_had_no_result(cells, during, said):
    pins = (cells.root / "patches/releases.toml").read_text()
    assert said in cells.run("-k", CELL, during=during)[CELL]
    assert cells.environments() == set()
    (cells.root / "patches/releases.toml").write_text(pins)
    assert cells.run("-k", CELL) == {CELL: "passed"}


def test_skips_missing_python_and_removes_only_new_environments(cells):
    kept, *new = (f"{PAIR}-py{each}" for each in ("3.11-stock", "3.11-base", "3.12-base", "3.12-stock"))
    (cells.root / "build/envs" / kept).mkdir(parents=True)
    arguments = ("-k", f"{PAIR} and not py3.14 and (tests or mutants)", "--every-python")
    found = cells.run(*arguments)
    assert found[f"{PAIR}-py3.13-tests"] == "Python 3.13 is not installed"
    seen = [(name, here) for name, _, *here in cells.ran() if "py3.10" not in name]
    assert seen == [
        (f"{PAIR}-py3.11-tests", [kept]),
        (f"{PAIR}-py3.11-mutants", [new[0], kept]),
        (f"{PAIR}-py3.12-tests", [kept]),
        (f"{PAIR}-py3.12-mutants", [kept, *new[1:]]),
    ]
    assert cells.environments() == {kept}
    cells.run(*arguments, "--again", "--keep-environments")
    assert cells.environments() >= {kept, *new}


# pytest-xdist waits ten seconds for a worker that is interrupted.
@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_ctrl_c_keeps_what_passed_and_removes_environments(cells, workers):
    arguments = ("-k", f"{CELL} or {SAME_PROVIDER}", "-n", workers)
    second = "len((root / 'ran').read_text().splitlines()) == 2"
    os.mkfifo(cells.root / "began")
    wait = f"if {second}: attempt(['sh', '-c', 'echo > began; sleep 600'])"
    with cells.start(*arguments, during=wait) as process:
        (cells.root / "began").read_text()  # opens when the second cell runs
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=300)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, said
    assert cells.environments() == set()
    (passed, *_), (stopped, *_) = cells.ran()
    found = cells.run(*arguments)
    assert (found[passed][:9], found[stopped]) == ("passed on", "passed")


def test_only_pairs_with_different_providers_run_at_the_same_time(cells):
    names = [CELL, SAME_PROVIDER, f"{OLD}-py3.11-tests"]
    assert set(cells.run("-k", " or ".join(names), "-n", "2").values()) == {"passed"}
    workers = {name: worker for name, worker, *_ in cells.ran()}
    assert workers[CELL] == workers[SAME_PROVIDER] != workers[names[2]]


def test_selects_usual_cells_and_those_that_are_named(root, pins):
    def selected(*arguments: str) -> set[str]:
        words = [sys.executable, "-m", "pytest", "--collect-only", "-q", *arguments]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=root)
        return {line.partition("[")[2][:-1] for line in done.stdout.splitlines() if "::test_cell[" in line}

    every = {f"{pair.name}-py{python}-tests" for pair in pins.pairs for python in pair.pythons}
    others = {f"{pair.name}-py{python}-tests" for pair in pins.default_pairs for python in matrix.PYTHONS}
    cells, one = "tests/matrix/cells.py", f"{PAIR}-py3.14-upstream-tests"
    assert selected(cells) == {name for name in every if "-py3.11-" in name or name in others}
    assert selected(cells, "--every-python") == every
    assert f"{OLD}-py3.13-tests" not in every  # that core does not support it
    assert selected(cells, "-k", one) == {one}
    assert selected("tests/matrix") == set()  # other test runs leave them out


def test_pair_without_the_usual_python_runs_on_another(pins):
    pair = pins.pair(PAIR)
    assert matrix.usual_pythons(replace(pair, fab=replace(pair.fab, pythons=("3.12", "3.13")))) == ("3.12",)


ROUTE = "patches/providers-fab/users-route.patch"
USERS = "providers/fab/tests/unit/fab/auth_manager/api_fastapi/test_users_route.py"
EXPECTED, LISTED = "patches/expectations/users-route.toml", "patches/upstream-tests.toml"
ENTRY = "\n[[test]]\nid = 'a'\nreason = 'b'\nreleases = 'apache-airflow-providers-fab ==3.3.0'\n"
TESTS, MUTANTS, UPSTREAM = Part


@functools.cache
def recorded(root: Path, pair: str, part: Part) -> str:
    return matrix.fingerprint(root, pair, "3.11", part)


@pytest.mark.parametrize(
    ("path", "old", "new", "part", "changed"),
    [
        (ROUTE, "UtcDateTime | datetime", "datetime", TESTS, {OLD}),
        (ROUTE, "UtcDateTime | datetime", "datetime", UPSTREAM, {OLD}),
        (ROUTE, "\nTests: ", "\nDepends: user-cache\nTests: ", TESTS, {OLD}),
        # Its tests still run, but it is not applied.
        ("patches/providers-fab/series", "\npublic-user-off-loop\n", "\n", TESTS, {NEW}),
        ("patches/releases.toml", "2026-11-19", "2026-11-18", TESTS, {NEW}),
        ("patches/expectations/revoked-token-off-loop.toml", "", "# more\n", MUTANTS, {NEW}),
        (
            f"{PLUGIN_STUB}/tests_common/pytest_plugin.py",
            "",
            "# more\n",
            TESTS,
            {OLD, NEW},
        ),
        (EXPECTED, "", "# more\n", MUTANTS, {OLD}),
        (EXPECTED, "", "# more\n", UPSTREAM, set()),
        (USERS, "", "# more\n", TESTS, {OLD}),
        (USERS, "", "# more\n", UPSTREAM, set()),
        (LISTED, "", ENTRY, UPSTREAM, {OLD}),
        (LISTED, "", "# more\n", UPSTREAM, set()),
        (ROUTE, "Every route that", "Each route which", TESTS, set()),
        (ROUTE, "Fixes: users-route-500", "Fixes: other", TESTS, set()),
        ("patches/bugs.toml", "", "# more\n", MUTANTS, set()),
    ],
)
def test_only_changed_inputs_change_the_fingerprint(root, cells, path, old, new, part, changed):
    cells.change(path, old, new)
    now = {pair: matrix.fingerprint(cells.root, pair, "3.11", part) for pair in (OLD, NEW)}
    assert {pair for pair in now if now[pair] != recorded(root, pair, part)} == changed


def test_cells_of_a_pair_have_different_fingerprints(root):
    pairs = [(python, part) for python in ("3.11", "3.12") for part in Part]
    assert len({matrix.fingerprint(root, NEW, *cell) for cell in pairs}) == len(pairs)


def test_sums_up_unit_tests(project):
    expected = expectations.load(project.folder, "users-route")
    stock = unit_tests.Result("users-route", "stock", ())
    others = [replace(stock, what=what, counts={"passed": 6}) for what in ("patched", "alone", "no lock")]
    red, green = len(expected.fails_on_stock), len(expected.regression)
    counts = {"failed_on_stock": red, "passed_on_stock": green, "passed_patched": 6, "alone": 1, "mutants": 1}
    assert matrix.summed(project.folder, [stock, *others]) == ([], counts)
    wrong = f"{expected.fails_on_stock[0]} must fail by an assertion: passed"
    results = [replace(stock, wrong=(wrong,)), replace(others[2], wrong=("x",))]
    faults, counts = matrix.summed(project.folder, results)
    assert faults == [f"users-route, stock: {wrong}", "users-route, no lock: x"]
    assert counts == {"failed_on_stock": red - 1, "passed_on_stock": green, "mutants": 0}
    assert matrix.summed(project.folder, []) == (["No test ran."], {})


@pytest.mark.parametrize("patched", ["passed", "skipped"])
def test_reports_upstream_tests(this_project, monkeypatch, pins, patched):
    broken = ("a",) * (patched == "skipped")
    found = upstream.Comparison({"a": "passed"}, {"a": patched}, broken, unsteady=("b",))
    monkeypatch.setattr(matrix.upstream_runs, "run_provider_tests", lambda *_: found)
    faults, counts = matrix.run(this_project, pins.pair(NEW), "3.11", Part.UPSTREAM)
    assert faults == [f"{test}: passes on stock, but not on the patched release: skipped" for test in broken]
    assert counts == {"passed_stock": 1, "passed_patched": 1 - len(broken), "unsteady": 1}
