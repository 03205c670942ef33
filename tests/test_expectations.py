"""Run the unit tests of every patch on stock, patched, and with each mutant."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from airflow_auth_patches.installation import environments, pair_environments
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.series.affected import fails_by_assertion
from airflow_auth_patches.series.project import load_project
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.processes import run
from airflow_auth_patches.verification import expectations, prove, run_pytest, unit_tests

OLDEST, NEWEST, REPORTED, MAIN = "3.1.6+3.3.0", "3.3.2+3.10.2", "3.2.0+3.6.0", "3.4.0b2+3.10.2"
#: All patches but one serve at least one of them; that one is for 3.1.8 only.
PAIRS = (NEWEST, OLDEST, REPORTED)
OTHERS = ("3.1.8+3.4.0", "3.2.2+3.6.5", MAIN)


def serving(project, pair) -> set[str]:
    return {p.slug for p in project.patches if p.serves(pair.core) or p.serves(pair.fab)}


def first_on(project, pins, name: str) -> list[str]:
    """Return the patches of a pair that serve no earlier one of `PAIRS`."""
    earlier = [serving(project, pins.pair(each)) for each in PAIRS[: PAIRS.index(name)]]
    return sorted(serving(project, pins.pair(name)).difference(*earlier))


def mutants_on(project, pins, name: str) -> set[str]:
    """Return the patches whose mutants run on a pair; on all pairs together each mutant runs."""
    newest = serving(project, pins.pair(NEWEST))
    return {
        NEWEST: newest,
        OLDEST: serving(project, pins.pair(OLDEST)) - newest,
        "3.1.8+3.4.0": {"backfill-authorization-off-loop"},
        REPORTED: {"logout-revokes-first"},
        MAIN: {"log-template-session", "request-session"},
    }.get(name, set())


def wrong(rows) -> list[str]:
    return [f"{row.slug}, {row.what}: {fault}" for row in rows for fault in row.wrong]


@pytest.mark.airflow
@pytest.mark.parametrize("name", PAIRS)
def test_each_patch_is_as_expected_on_one_pair(project, this_project, pins, name):
    slugs = first_on(project, pins, name)
    rows = list(prove.prove(this_project, pins.pair(name), "3.11", slugs, mutants=False))
    assert {row.slug for row in rows} == {*slugs}
    assert wrong(rows) == []


@pytest.mark.airflow
@pytest.mark.slow
@pytest.mark.parametrize("name", [OLDEST, REPORTED, *OTHERS])
def test_patches_are_as_expected_on_stock_and_patched(pins, project, this_project, name):
    pair = pins.pair(name)
    rows = list(prove.prove(this_project, pair, "3.11", mutants=False))
    assert {row.slug for row in rows} >= serving(project, pair)
    assert wrong(rows) == []


@pytest.mark.airflow
@pytest.mark.slow
@pytest.mark.timeout(5400)
@pytest.mark.parametrize("name", [OLDEST, NEWEST, "3.1.8+3.4.0", REPORTED, MAIN])
def test_each_mutant_is_killed(pins, project, this_project, name):
    pair, mutants = pins.pair(name), mutants_on(project, pins, name)
    rows = list(prove.prove(this_project, pair, "3.11", sorted(mutants), tests=False))
    assert rows
    assert {"stock", "patched"}.isdisjoint(row.what for row in rows)
    assert wrong(rows) == []


@pytest.mark.airflow
@pytest.mark.slow
def test_provider_patches_are_as_expected_on_python_3_12(pins, project, this_project):
    pair = pins.pair(NEWEST)
    slugs = sorted({p.slug for p in project.patches if p.serves(pair.fab)})
    rows = list(prove.prove(this_project, pair, "3.12", slugs, mutants=False))
    assert rows
    assert wrong(rows) == []


@pytest.mark.airflow
def test_tests_of_a_patch_that_series_does_not_list_fail(root, copy, pins):
    for name in ("airflow-core", "providers-fab"):
        (copy / "patches" / name / "series").write_text("")
    slugs = ["session-cleanup", "auth-manager-singleton"]
    emptied, pair = load_project(copy), pins.pair(OLDEST)
    assert not emptied.series.patches
    stock = pair_environments.folder_of(root, pair, "3.11", "stock")
    environments.make(pair, "3.11", stock)
    for kind in ("stock", "patched"):  # no patch is applied, so both are the same
        here = pair_environments.folder_of(copy, pair, "3.11", kind)
        here.parent.mkdir(parents=True, exist_ok=True)
        here.symlink_to(stock)
    rows = list(prove.prove(emptied, pair, "3.11", slugs, mutants=False))
    red = {row.slug for row in rows if row.what == "patched" and row.wrong}
    assert red == set(slugs)


def test_compares_with_stock_and_the_base_patch_when_the_pair_needs_it(
    this_project, project, pins, monkeypatch
):
    pair = pins.pair("3.3.2+3.3.0")
    assert pair.base == "appbuilder-init-lock"
    ran: dict[str, set[str]] = {}

    def run_files(_: Path, environment: Environment, files: list[str]) -> dict[str, dict[str, str]]:
        ran.setdefault(environment.python.name, set()).update(files)
        return {file: {} for file in files}

    def patched(*_: object, kind: str = "patched", only: object = None, **__: object) -> Environment:
        assert only == ([pair.base] if kind == "base" else None)
        return Environment(Path(kind))

    monkeypatch.setattr(prove.environments, "make", lambda *_: Environment(Path("stock")))
    monkeypatch.setattr(prove, "patched_environment", patched)
    monkeypatch.setattr(prove.reproduce, "run_files", run_files)
    slugs = [pair.base, "session-cleanup", "users-route"]
    rows = list(prove.prove(this_project, pair, "3.11", slugs, mutants=False))
    base, *others = (expectations.load(project.folder, slug).file for slug in slugs)
    assert ran == {"stock": {base}, "base": {*others}, "patched": {base, *others}}
    found = sorted((row.slug, row.what) for row in rows)
    assert found == [(slug, what) for slug in slugs for what in ("patched", "stock")]


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "airflow/x/y.py"
    path.parent.mkdir(parents=True)
    path.write_text("import threading\nlock = threading.Lock()\nwith lock:\n    held = lock.locked()\n")
    return path


def mutant(old: str) -> expectations.Mutant:
    return expectations.Mutant("lock", "airflow-core/src/airflow/x/y.py", old, "if True:", ("test_x",))


def test_mutant_is_used_only_by_its_run(root, tmp_path, module):
    code = "import airflow.x.y as y; print(y.held, y.__file__)"
    places = f"{root / run_pytest.PLUGIN_STUB}{os.pathsep}{tmp_path}"

    def held(**variables: str) -> str:
        return run([sys.executable, "-c", code], env={"PYTHONPATH": places, **variables}).strip()

    with unit_tests.mutated(mutant("with lock:"), tmp_path) as variables:
        assert held(**variables) == f"False {module}"
        assert held() == f"True {module}"
        (file,) = json.loads(variables["AUTH_PATCHES_REPLACED"]).values()
    assert not Path(file).exists()


@pytest.mark.parametrize("old", ["with nothing:", "lock"])
def test_refuses_mutant_whose_text_does_not_occur_once(tmp_path, module, old):
    with pytest.raises(Problem, match="occurs"), unit_tests.mutated(mutant(old), tmp_path):
        pass


@pytest.mark.parametrize(
    ("outcome", "fails"),
    [
        ("failed: assert 500 == 200", True),
        ("failed: AssertionError: two managers", True),
        ("failed: Failed: DID NOT RAISE <class 'RuntimeError'>", True),
        ("passed", False),
        ("not run", False),
        ("skipped", False),
        ("error: assert 1 == 2", False),
        ("failed: ImportError: no such name", False),
        ("failed: AttributeError: no such method", False),
    ],
)
def test_only_a_failed_assertion_counts_as_failure_on_stock(outcome, fails):
    assert fails_by_assertion(outcome) is fails


def test_each_patch_but_one_is_tested_on_one_pair(project, pins):
    tested = [slug for name in PAIRS for slug in first_on(project, pins, name)]
    assert sorted(tested) == sorted({p.slug for p in project.patches} - {"backfill-authorization-off-loop"})


def test_every_mutant_runs_on_a_pair(project, pins):
    for slug in {patch.slug for patch in project.patches}:
        mutants = set(expectations.load(project.folder, slug).mutants)
        taken = set()
        for pair in pins.pairs:
            if slug in mutants_on(project, pins, pair.name):
                forms = (patch for patch in project.patches if patch.slug == slug)
                (patch,) = (p for p in forms if p.serves(pair.core) or p.serves(pair.fab))
                taken |= set(expectations.load(project.folder, slug).mutants_of(patch))
        assert taken == mutants, slug
