"""The command that has upstream's own tests judge the patches."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from airflow_auth_patches import show
from airflow_auth_patches.cli.common import Json, app, checkout, known
from airflow_auth_patches.commands.upstream import judge
from airflow_auth_patches.errors import Exit
from airflow_auth_patches.proving import tally
from airflow_auth_patches.releases import Pair
from airflow_auth_patches.upstream import Comparison

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
    json: Json = False,
) -> None:
    """
    Run the provider's own tests, from its sdist, on stock and patched: what passes there passes here.

    Example: airflow-auth-patches test-upstream --pair 3.3.2+3.10.2
    """
    series, pins = known()
    chosen = [pins.pair(name) for name in pair] if pair else pins.minor_pairs
    found: list[tuple[Pair, Comparison]] = []
    with show.Bars() as bars, bars.task("comparing pairs", len(chosen)) as advance:
        for one in chosen:
            found.append((one, judge(checkout(), series, pins, one, python, expression, bars)))
            advance(1)
            if not json:
                _told(*found[-1])
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


def _told(pair: Pair, found: Comparison) -> None:
    show.table(
        f"Upstream's tests of FAB {pair.fab.version} on core {pair.core.version}",
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
