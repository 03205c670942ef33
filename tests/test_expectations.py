"""The unit tests of every patch: on stock, patched, and with each mutant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.series import series
from airflow_auth_patches.series.affected import fails_by_assertion
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.verification import expectations, prove, unit_tests

OLDEST, NEWEST, REPORTED = "3.1.6+3.3.0", "3.3.2+3.10.2", "3.2.0+3.6.0"
OTHERS = ("3.1.8+3.4.0", "3.2.2+3.6.5")


def serving(project, pair) -> set[str]:
    return {p.slug for p in project.patches if p.serves(pair.core) or p.serves(pair.fab)}


def mutants_on(project, pins, name: str) -> set[str]:
    """Name the patches whose mutants are taken out on a pair: on all pairs together each mutant once."""
    newest = serving(project, pins.pair(NEWEST))
    return {
        NEWEST: newest,
        OLDEST: serving(project, pins.pair(OLDEST)) - newest,
        "3.1.8+3.4.0": {"backfill-authorization-off-loop"},
        REPORTED: {"logout-revokes-first"},
    }.get(name, set())


def wrong(rows) -> list[str]:
    return [f"{row.result.slug}, {row.result.what}: {fault}" for row in rows for fault in row.result.wrong]


@pytest.mark.proof
@pytest.mark.parametrize(
    "name", [OLDEST, NEWEST, REPORTED, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_red_on_stock_green_when_patched(root, project, pins, name):
    pair = pins.pair(name)
    rows = list(prove.prove(root, project, pins, pair, "3.11", mutants=False))
    assert {row.result.slug for row in rows} >= serving(project, pair)
    assert wrong(rows) == []


@pytest.mark.proof
@pytest.mark.slow
@pytest.mark.timeout(5400)
@pytest.mark.parametrize("name", [OLDEST, NEWEST, "3.1.8+3.4.0", REPORTED])
def test_red_without_a_guard(root, project, pins, name):
    pair, mutants = pins.pair(name), mutants_on(project, pins, name)
    rows = list(prove.prove(root, project, pins, pair, "3.11", sorted(mutants), tests=False))
    assert rows
    assert wrong(rows) == []


@pytest.mark.proof
@pytest.mark.slow
def test_red_on_stock_green_when_patched_on_another_python(root, project, pins):
    pair = pins.pair(NEWEST)
    slugs = sorted({p.slug for p in project.patches if p.serves(pair.fab)})
    rows = list(prove.prove(root, project, pins, pair, "3.12", slugs, mutants=False))
    assert rows
    assert wrong(rows) == []


@pytest.mark.proof
def test_a_patch_out_of_its_series_turns_its_tests_red(copy, project, pins):
    """What `make test` says when the lines of `series` are taken out."""
    for name in ("airflow-core", "providers-fab"):
        (copy / "patches" / name / "series").write_text("")
    slugs = ["session-cleanup", "appbuilder-init-lock", "auth-manager-singleton", "user-session"]
    emptied = series.load(copy / "patches")
    assert not emptied.patches
    rows = list(prove.prove(copy, emptied, pins, pins.pair(OLDEST), "3.11", slugs, mutants=False))
    red = {row.result.slug for row in rows if row.result.what == "patched" and row.result.wrong}
    assert red == set(slugs)


def test_where_nothing_works_without_a_patch_the_others_are_told_with_it(project, pins, root, monkeypatch):
    pair = pins.pair("3.3.2+3.3.0")
    assert pair.base == "appbuilder-init-lock"
    asked: dict[str, set[str]] = {}

    def run_files(_: Path, environment: Environment, files: list[str]) -> dict[str, dict[str, str]]:
        asked.setdefault(environment.python.parts[0], set()).update(files)
        return {file: {} for file in files}

    def patched(
        *_: object, kind: str = "patched", only: list[str] | None = None, **__: object
    ) -> Environment:
        assert only == ([pair.base] if kind == "base" else None)
        return Environment(Path(kind))

    monkeypatch.setattr(prove.environments, "make", lambda *_: Environment(Path("stock")))
    monkeypatch.setattr(prove, "patched_environment", patched)
    monkeypatch.setattr(prove.reproduce, "run_files", run_files)
    slugs = ["appbuilder-init-lock", "session-cleanup", "users-route"]
    rows = list(prove.prove(root, project, pins, pair, "3.11", slugs, mutants=False))
    files = {slug: expectations.load(project.folder, slug).file for slug in slugs}
    assert asked == {
        "stock": {files["appbuilder-init-lock"]},
        "base": {files["session-cleanup"], files["users-route"]},
        "patched": {*files.values()},
    }
    assert sorted((row.result.slug, row.result.what) for row in rows) == [
        (slug, what) for slug in slugs for what in ("patched", "stock")
    ]


def mutant(old: str) -> expectations.Mutant:
    return expectations.Mutant("lock", "airflow-core/src/airflow/x/y.py", old, "if True:", ("test_x",))


def test_a_guard_is_out_for_the_tests_and_nobody_else(root, tmp_path):
    path = tmp_path / "airflow/x/y.py"
    path.parent.mkdir(parents=True)
    path.write_text("import threading\nlock = threading.Lock()\nwith lock:\n    held = lock.locked()\n")
    show = [sys.executable, "-c", "import airflow.x.y as y; print(y.held, y.__file__)"]
    places = f"{root / 'tests/standin'}{os.pathsep}{tmp_path}"

    def held(**variables: str) -> str:
        done = subprocess.run(
            show,
            env={**os.environ, "PYTHONPATH": places, **variables},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    with unit_tests.mutated(mutant("with lock:"), tmp_path) as variables:
        assert held(**variables) == f"False {path}"
        assert held() == f"True {path}"
        (file,) = json.loads(variables["AUTH_PATCHES_REPLACED"]).values()
    assert not Path(file).exists()


@pytest.mark.parametrize("old", ["with nothing:", "lock"])
def test_a_guard_that_is_not_there_once_is_told_of(tmp_path, old):
    path = tmp_path / "airflow/x/y.py"
    path.parent.mkdir(parents=True)
    path.write_text("with lock:\n    lock\n")
    with pytest.raises(Problem, match="occurs"), unit_tests.mutated(mutant(old), tmp_path):
        pass


def test_what_counts_as_red():
    assert fails_by_assertion("failed: assert 500 == 200")
    assert fails_by_assertion("failed: AssertionError: two managers")
    assert fails_by_assertion("failed: Failed: DID NOT RAISE <class 'RuntimeError'>")
    for outcome in (
        "passed",
        "not run",
        "skipped",
        "error: assert 1 == 2",
        "failed: ImportError: no such name",
        "failed: AttributeError: no such method",
    ):
        assert not fails_by_assertion(outcome)


def test_every_guard_is_taken_out_once(project, pins):
    """On some pair each patch's mutants are, and on one whose form of the patch has all of them."""
    for slug in {patch.slug for patch in project.patches}:
        mutants = set(expectations.load(project.folder, slug).mutants)
        taken = set()
        for pair in pins.pairs:
            if slug in mutants_on(project, pins, pair.name):
                (patch,) = (
                    p
                    for p in project.patches
                    if p.slug == slug and (p.serves(pair.core) or p.serves(pair.fab))
                )
                taken |= set(expectations.load(project.folder, slug).mutants_of(patch))
        assert taken == mutants, slug
