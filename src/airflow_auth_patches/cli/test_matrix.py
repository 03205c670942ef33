"""The command that runs the tests on every pair of releases: test-matrix."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal
from rich.markup import escape

from airflow_auth_patches.cli.common import AUTHORS, Json, app, checkout, known
from airflow_auth_patches.util import show
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.verification import cells, matrix_report, matrix_results
from airflow_auth_patches.verification import test_matrix as command
from airflow_auth_patches.verification.cells import Cell, Part
from airflow_auth_patches.verification.matrix_report import ReportData
from airflow_auth_patches.verification.matrix_results import Results, State, state_of
from airflow_auth_patches.verification.run_cell import Runner

STYLES = {
    State.PASSED: "green",
    State.FAILED: "bold red",
    State.ERROR: "bold red",
    State.SKIPPED: "yellow",
    State.NOT_RUN: "dim",
}


@app.command("test-matrix", rich_help_panel=AUTHORS)
def every_pair(
    pair: Annotated[
        list[str] | None,
        typer.Option(
            "--pair", metavar="CORE+FAB", help="As in 3.3.2+3.8.0; by default all pairs.", show_default=False
        ),
    ] = None,
    python: Annotated[
        list[str] | None,
        typer.Option(
            "--python",
            metavar="X.Y",
            help="Use only this Python; can be repeated. By default 3.11, and on the default pairs of "
            "`prove` also 3.10, 3.12 and 3.13.",
            show_default=False,
        ),
    ] = None,
    every_python: Annotated[
        bool, typer.Option("--every-python", help="Use 3.10 to 3.13 on every pair that supports them.")
    ] = False,
    upstream: Annotated[
        bool, typer.Option("--upstream", help="Also run upstream's tests of the provider.")
    ] = False,
    mutants: Annotated[bool, typer.Option("--mutants", help="Also run the tests with each mutant.")] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            min=1,
            metavar="N",
            help="The number of pairs to run at once. Each pair runs three pytest processes; by default one "
            "pair for every three CPU cores.",
            show_default=False,
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also run cells that are up to date.")] = False,
    keep: Annotated[
        bool, typer.Option("--keep-environments", help="Keep the environments in build/envs.")
    ] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Run nothing, and write the reports of earlier runs.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="DIR",
            help="The folder for results and reports; by default build/matrix.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """
    Run the unit tests on every pair of releases, and write report.html and report.json.

    A cell that passed runs again only if a patch, its tests, their expectations or the pair change, so the
    command can be interrupted. Environments are created from uv's cache and removed after each pair. A cell
    whose Python is not installed is skipped. The exit code is 1 if another cell did not pass, or none passed.

    Example: airflow-auth-patches test-matrix --pair 3.3.2+3.8.0 --every-python
    """
    if python and every_python:
        raise Problem("--python and --every-python cannot be combined.", "Use one of them.", Exit.USAGE)
    if again and report_only:
        raise Problem("--again and --report-only cannot be combined.", "Use one of them.", Exit.USAGE)
    series, pins = known()
    root = checkout()
    folder = output or root / "build" / "matrix"
    named = {pins.pair(name).name for name in pair or ()}
    parts = [Part.TESTS, *([Part.MUTANTS] if mutants else []), *([Part.UPSTREAM] if upstream else [])]
    pairs = [one for one in pins.pairs if not named or one.name in named]
    chosen = cells.choose(root, series, pairs, python or None, every_python=every_python, parts=parts)
    left_out = cells.unsupported(pairs, python or ())
    results = matrix_results.read(folder)
    able = cells.in_order(version for each in pins.pairs for version in cells.supported(each))
    every = cells.choose(root, series, pins.pairs, able, parts=list(Part))
    machine = command.interpreters(cells.in_order([*cells.PYTHONS, *(cell.python for cell in chosen)]))
    report = ReportData(
        pins.pairs, every, frozenset(cell.name for cell in chosen), results, machine, left_out
    )
    ran: list[Cell] = []
    with show.Bars() as bars:
        matrix_report.write(folder, report)
        if not report_only:
            stopped = threading.Event()
            ran = command.fill(
                root,
                folder,
                chosen,
                results,
                Runner(root, series, pins, stopped, bars),
                available=machine,
                jobs=jobs or command.jobs_for(command.cores()),
                again=again,
                keep=keep,
                stopped=stopped,
                unchanged=lambda cell: cells.inputs_unchanged(root, series.folder, cell),
                written=lambda: matrix_report.write(folder, report),
                progress=bars,
            )
    if json:
        show.as_json(matrix_report.as_data(report))
    else:
        _print(chosen, results)
        for version, names in left_out.items():
            _say(f"Not supported on Python {version}: {', '.join(names)}.")
        _say(
            f"Caches for the next run: {decimal(command.cache_size(root))} in {' and '.join(command.CACHES)}."
        )
        ended = matrix_report.numbered(len(ran), "cell")
        _say(f"This run: {ended}. Reports: {folder / matrix_report.HTML} and {matrix_report.JSON}.")
    raise typer.Exit(Exit.OK if matrix_results.holds(chosen, results) else Exit.FAULT)


def _print(chosen: list[Cell], results: Results) -> None:
    rows = []
    for cell in chosen:
        state, _ = state_of(cell, results)
        result = matrix_results.known(cell, results)
        ran = result is not None and state is not State.SKIPPED
        rows.append(
            (
                cell.pair.name,
                cell.python,
                cell.part.value,
                f"[{STYLES[state]}]{state.value}[/]",
                ", ".join(matrix_report.counted(result.counts)) if result else "",
                matrix_report.duration(result.seconds) if result and ran else "",
            )
        )
    show.table("The test matrix", ("releases", "Python", "part", "state", "tests", "took"), rows)
    for cell in chosen:
        state, reason = state_of(cell, results)
        result = matrix_results.known(cell, results)
        lines = [reason] if reason and state is not State.SKIPPED else []
        for fault in (*lines, *(result.faults if result else ())):
            _say(f"{cell.name}: {fault}")
    for version, count in matrix_report.skipped(chosen, results).items():
        cells = matrix_report.numbered(count, "cell")
        _say(f"Skipped: {cells}, because Python {version} is not installed.")
    _say(matrix_report.total(chosen, results))


def _say(line: str) -> None:
    show.out.print(escape(line), soft_wrap=True, highlight=False)
