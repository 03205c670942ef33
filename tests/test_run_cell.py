"""What a run of a cell of the test matrix gives."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_auth_patches.installation import environments, installed
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases import releases
from airflow_auth_patches.series import series
from airflow_auth_patches.verification import (
    expectations,
    matrix_results,
    prove,
    reproduce,
    run_cell,
    test_matrix,
    unit_tests,
)
from airflow_auth_patches.verification.cells import Part, choose
from airflow_auth_patches.verification.matrix_results import State
from airflow_auth_patches.verification.run_cell import Runner

NEW = "3.3.2+3.10.2"


def test_results_are_summed_up(project):
    expected = expectations.load(project.folder, "users-route")
    rows = [
        unit_tests.Result("users-route", "stock", (), {"failed": 4, "passed": 2}),
        unit_tests.Result("users-route", "patched", (), {"passed": 6}),
        unit_tests.Result("users-route", "alone", (), {"passed": 6}),
        unit_tests.Result("users-route", "a date with a time zone", (), {"failed": 1}),
    ]
    outcome = run_cell.outcome_of(project.folder, rows)
    assert outcome.faults == ()
    assert outcome.counts == {
        "failed_on_stock": len(expected.fails_on_stock),
        "passed_on_stock": len(expected.regression),
        "passed_patched": 6,
        "alone": 1,
        "mutants": 1,
    }
    wrong = (
        f"{expected.fails_on_stock[0]} must fail by an assertion: passed",
        f"{expected.regression[0]} must pass: failed: assert 0",
    )
    outcome = run_cell.outcome_of(
        project.folder, [replace(rows[0], wrong=wrong), replace(rows[3], wrong=("x",))]
    )
    assert outcome.counts == {
        "failed_on_stock": len(expected.fails_on_stock) - 1,
        "passed_on_stock": len(expected.regression) - 1,
        "mutants": 0,
    }
    assert outcome.faults[0] == f"users-route, stock: {wrong[0]}"
    assert len(outcome.faults) == 3


def test_a_cell_without_a_test_has_not_passed(project):
    assert run_cell.outcome_of(project.folder, []).faults == ("No test ran.",)


def test_an_environment_that_cannot_be_made_is_told(tmp_path, copy, monkeypatch, python):
    """With an index that does not answer uv fails, and nothing is left."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/simple/")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    project, pins = series.load(copy / "patches"), releases.load(copy / "patches")
    chosen = choose(copy, project, [pins.pair(NEW)], [python])
    book: matrix_results.Results = {}
    run = Runner(copy, project, pins, threading.Event())
    test_matrix.fill(copy, tmp_path / "matrix", chosen, book, run, available={python: f"{python}.0"})
    (result,) = book.values()
    assert result.state is State.ERROR
    assert "uv pip install" in result.reason
    assert "\n" not in result.reason
    assert list((copy / "build/envs").glob("*")) == []


def test_mutants_do_not_run_the_plain_tests_again(monkeypatch, project, pins, root):
    """Each part of a cell is run once where both are asked for."""
    place = Environment(Path("x"))
    monkeypatch.setattr(environments, "make", lambda *_: place)
    monkeypatch.setattr(prove, "patched_environment", lambda *_: place)
    monkeypatch.setattr(installed, "look", lambda *_: SimpleNamespace(found=[SimpleNamespace(site=Path())]))
    monkeypatch.setattr(reproduce, "run_files", lambda _, __, files: {file: {} for file in files})
    monkeypatch.setattr(unit_tests, "compare_stock", lambda _, slug, __: unit_tests.Result(slug, "stock", ()))
    monkeypatch.setattr(
        unit_tests, "compare_patched", lambda _, slug, __: unit_tests.Result(slug, "patched", ())
    )
    monkeypatch.setattr(
        unit_tests, "run_mutant", lambda _, __, slug, *___: unit_tests.Result(slug, "lock", ())
    )
    run = Runner(root, project, pins, threading.Event())
    plain, mutants = choose(
        root, project, [pins.pair("3.3.2+3.8.0")], ["3.11"], parts=[Part.TESTS, Part.MUTANTS]
    )
    assert set(run(plain).counts) == {"failed_on_stock", "passed_on_stock", "passed_patched"}
    assert set(run(mutants).counts) == {"mutants"}
    assert run(mutants).counts["mutants"] > len(mutants.patches)


def test_a_stopped_run_ends_at_its_next_result(monkeypatch, project, pins, root):
    closed: list[bool] = []

    def proves(*_, **__):
        try:
            for slug in ("a", "b"):
                yield prove.Row(pins.pair(NEW), "3.11", unit_tests.Result(slug, "patched", (), {"passed": 1}))
        finally:
            closed.append(True)

    monkeypatch.setattr(prove, "prove", proves)
    stopped = threading.Event()
    run = Runner(root, project, pins, stopped)
    (cell,) = choose(root, project, [pins.pair(NEW)], ["3.11"])
    assert run(cell).counts == {"passed_patched": 2}
    stopped.set()
    with pytest.raises(KeyboardInterrupt) as raised:
        run(cell)
    assert closed == [True, True]  # while somebody still holds the exception
    assert raised.tb
