"""The command that has upstream's own tests judge the patches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from airflow_auth_patches.cli.common import Json, app, checkout, known
from airflow_auth_patches.releases.releases import Pair
from airflow_auth_patches.util import show
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.verification.unit_tests import tally
from airflow_auth_patches.verification.upstream import Comparison
from airflow_auth_patches.verification.upstream_runs import judge, judge_core

COLUMNS = ("passed", "failed", "error", "skipped")


@app.command("test-upstream")
def upstream_(
    pair: Annotated[
        list[str] | None,
        typer.Option("--pair", metavar="CORE+FAB", help="As in 3.3.2+3.10.2; by default one of each minor."),
    ] = None,
    python: Annotated[str, typer.Option("--python", metavar="X.Y", help="The Python to run on.")] = "3.11",
    expression: Annotated[
        str | None, typer.Option("-k", metavar="EXPR", help="Only these tests, as pytest selects them.")
    ] = None,
    airflow: Annotated[
        Path | None,
        typer.Option("--checkout", metavar="PATH", help="Run core's tests, from this checkout of Airflow."),
    ] = None,
    at: Annotated[str, typer.Option("--at", metavar="COMMIT", help="The commit of the checkout.")] = "HEAD",
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="PATH",
            help="Of core's tests only this file or folder of airflow-core/tests/unit; may be given again.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """
    Run upstream's own tests on stock and patched: what passes there passes here.

    Those of the provider are in its sdist. Those of core are in no release: name a checkout of Airflow,
    at a commit near the release, and the pair.

    Example: airflow-auth-patches test-upstream --pair 3.3.2+3.10.2

    Example: airflow-auth-patches test-upstream --pair 3.2.0+3.6.0 --checkout ../airflow --at 3.2.0
    """
    if airflow is None and (only or at != "HEAD"):
        raise Problem("--at and --only are for core's tests.", "Name a checkout with --checkout.", Exit.USAGE)
    if airflow is not None and len(pair or ()) != 1:
        raise Problem("A checkout is near one release.", "Name one pair with --pair.", Exit.USAGE)
    series, pins = known()
    chosen = [pins.pair(name) for name in pair] if pair else pins.minor_pairs
    found: list[tuple[Pair, Comparison]] = []
    with show.Bars() as bars, bars.task("comparing pairs", len(chosen)) as advance:
        for one in chosen:
            if airflow is None:
                compared = judge(checkout(), series, pins, one, python, expression, bars)
            else:
                compared = judge_core(
                    checkout(), series, pins, one, python, airflow, at, only or (), expression, bars
                )
            found.append((one, compared))
            advance(1)
            if not json:
                _told(*found[-1], "FAB" if airflow is None else "core")
    if json:
        show.as_json([_as_data(one, python, comparison) for one, comparison in found])
    holds = all(comparison.holds for _, comparison in found)
    if not json:
        _say("Nothing that passes on stock fails on patched." if holds else "Does not hold.")
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
        _say(f"{test}: passes on stock, patched it does not: {found.patched.get(test, 'not run')}")
    for test, reason in found.listed.items():
        _say(f"{test}: passes on stock only, as listed: {reason}")
    for test in found.unsteady:
        _say(f"{test}: passed on stock only in one of two whole runs, not in the other.")
    for test in found.cured:
        _say(f"{test}: passes on patched only.")
    for line in found.wrong:
        _say(line)


def _say(line: str) -> None:
    show.out.print(escape(line), soft_wrap=True, highlight=False)
