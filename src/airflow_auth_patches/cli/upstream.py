"""The command that runs upstream's own tests on the patches: test-upstream."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from airflow_auth_patches.cli.common import AUTHORS, Json, PythonVersion, app, checkout, option
from airflow_auth_patches.releases.releases import Pair
from airflow_auth_patches.util import show
from airflow_auth_patches.util.errors import Exit, UsageProblem
from airflow_auth_patches.verification import upstream_results
from airflow_auth_patches.verification.run_pytest import tally
from airflow_auth_patches.verification.upstream import Comparison
from airflow_auth_patches.verification.upstream_runs import run_core_tests, run_provider_tests

COLUMNS = ("passed", "failed", "error", "skipped")


@app.command("test-upstream", rich_help_panel=AUTHORS)
def upstream_(
    pair: Annotated[
        list[str] | None,
        option(
            "--pair", "As in 3.3.2+3.10.2; by default one for each minor version of the provider.", "CORE+FAB"
        ),
    ] = None,
    python: PythonVersion = "3.11",
    expression: Annotated[str | None, option("-k", "Run only these tests, see `pytest -k`.", "EXPR")] = None,
    airflow: Annotated[
        Path | None, option("--checkout", "Run the tests of core in this checkout of Airflow.", "PATH")
    ] = None,
    at: Annotated[str, option("--at", "The commit of the checkout.", "COMMIT")] = "HEAD",
    only: Annotated[
        list[str] | None,
        option("--only", "Run only this file or folder of airflow-core/tests/unit; can be repeated.", "PATH"),
    ] = None,
    record: Annotated[Path | None, option("--record", "Record the counts in this JSON file.", "FILE")] = None,
    json: Json = False,
) -> None:
    """
    Run upstream's own tests on stock and patched: a test that passes on stock must pass when patched.

    The tests of the provider are in its sdist. The tests of core are in no release: name the pair, and a
    checkout of Airflow at a commit near the release.

    Example: airflow-auth-patches test-upstream --pair 3.3.2+3.10.2

    Example: airflow-auth-patches test-upstream --pair 3.2.0+3.6.0 --checkout ../airflow --at 3.2.0
    """
    if airflow is None and (only or at != "HEAD"):
        raise UsageProblem(
            "--at and --only are only for the tests of core.", "Name a checkout with --checkout."
        )
    if airflow is not None and len(pair or ()) != 1:
        raise UsageProblem("--checkout needs exactly one pair.", "Name it with --pair.")
    project = checkout()
    chosen = [project.releases.pair(name) for name in pair] if pair else project.releases.minor_pairs
    found: list[tuple[Pair, Comparison]] = []
    with show.Bars() as bars, bars.task("comparing pairs", len(chosen)) as advance:
        for one in chosen:
            if airflow is None:
                compared = run_provider_tests(project, one, python, expression, bars)
            else:
                compared = run_core_tests(project, one, python, airflow, at, only or (), expression, bars)
            found.append((one, compared))
            if record:
                upstream_results.record(record, one.name, at if airflow else None, date.today(), compared)
            advance(1)
            if not json:
                _told(*found[-1], "FAB" if airflow is None else "core")
    if json:
        show.as_json([_as_data(one, python, comparison) for one, comparison in found])
    holds = all(comparison.holds for _, comparison in found)
    if not json:
        show.say(
            "All tests that pass on stock pass when patched." if holds else "Not as expected: see above."
        )
    raise typer.Exit(Exit.OK if holds else Exit.FAULT)


def _as_data(pair: Pair, python: str, found: Comparison) -> dict[str, Any]:
    return {
        "pair": pair.name,
        "python": python,
        "runs": {
            word: {
                "counts": tally(outcomes),
                "not_passed": {test: said for test, said in outcomes.items() if said != "passed"},
            }
            for word, outcomes in (("stock", found.stock), ("patched", found.patched))
        },
        "broken": list(found.broken),
        "listed": dict(found.listed),
        "unsteady": list(found.unsteady),
        "cured": list(found.cured),
        "wrong": list(found.wrong),
    }


def _told(pair: Pair, found: Comparison, of: str) -> None:
    show.table(
        f"Upstream's tests of {of} on core {pair.core.version} with FAB {pair.fab.version}",
        ("", *COLUMNS),
        [
            (word, *(str(tally(outcomes).get(column, 0)) for column in COLUMNS))
            for word, outcomes in (("stock", found.stock), ("patched", found.patched))
        ],
    )
    for test in found.broken:
        show.say(f"{test}: passes on stock, but not when patched: {found.patched.get(test, 'not run')}")
    for test, reason in found.listed.items():
        show.say(f"{test}: passes only on stock, as listed: {reason}")
    for test in found.unsteady:
        show.say(f"{test}: passed on stock in one of two whole runs, and failed in the other.")
    for test in found.cured:
        show.say(f"{test}: passes only when patched.")
    for line in found.wrong:
        show.say(line)
