"""The command that runs every pair of releases: test-matrix."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal
from rich.markup import escape

from airflow_auth_patches.cli.common import Json, app, checkout, known
from airflow_auth_patches.util import show
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.verification import cells, matrix_report, matrix_results
from airflow_auth_patches.verification import test_matrix as command
from airflow_auth_patches.verification.cells import Cell, Part
from airflow_auth_patches.verification.matrix_report import Sheet
from airflow_auth_patches.verification.matrix_results import Book, State, state_of
from airflow_auth_patches.verification.run_cell import Runner

STYLES = {
    State.PASSED: "green",
    State.FAILED: "bold red",
    State.ERROR: "bold red",
    State.SKIPPED: "yellow",
    State.NOT_RUN: "dim",
}


@app.command("test-matrix")
def every_pair(
    pair: Annotated[
        list[str] | None,
        typer.Option(
            "--pair", metavar="CORE+FAB", help="As in 3.3.2+3.8.0; by default all.", show_default=False
        ),
    ] = None,
    python: Annotated[
        list[str] | None,
        typer.Option(
            "--python",
            metavar="X.Y",
            help="Exactly this one; may be given again. By default 3.11, and on the pairs that `prove` takes "
            "3.10, 3.12 and 3.13 too.",
            show_default=False,
        ),
    ] = None,
    every_python: Annotated[
        bool, typer.Option("--every-python", help="3.10 to 3.13 on every pair that supports them.")
    ] = False,
    upstream: Annotated[bool, typer.Option("--upstream", help="The provider's own tests too.")] = False,
    mutants: Annotated[bool, typer.Option("--mutants", help="Run the tests with each mutant too.")] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            min=1,
            metavar="N",
            help="Pairs to run at once. Each keeps three runs of pytest busy, so by default one for every "
            "three cores of this machine, and one at least.",
            show_default=False,
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also what passed and still holds.")] = False,
    keep: Annotated[
        bool, typer.Option("--keep-environments", help="Leave the environments in build/envs.")
    ] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Run nothing; write the reports of what was run.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="DIR",
            help="Where results and reports are kept; by default build/matrix.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """
    Prove the patches on every pair of releases, and keep what each gave: report.html, report.json.

    What passed is not run again until a patch, its tests, their expectations or the pair change; so it can be
    interrupted. Environments are made from uv's cache and removed after each pair. A Python that this machine
    lacks is told as skipped; it ends with 1 when a cell has not passed for another reason, or none has.

    Example: airflow-auth-patches test-matrix --pair 3.3.2+3.8.0 --every-python
    """
    if python and every_python:
        raise Problem("--python and --every-python exclude each other.", "Give one of them.", Exit.USAGE)
    if again and report_only:
        raise Problem("--again and --report-only exclude each other.", "Give one of them.", Exit.USAGE)
    series, pins = known()
    root = checkout()
    folder = output or root / "build" / "matrix"
    named = {pins.pair(name).name for name in pair or ()}
    parts = [Part.TESTS, *([Part.MUTANTS] if mutants else []), *([Part.UPSTREAM] if upstream else [])]
    pairs = [one for one in pins.pairs if not named or one.name in named]
    chosen = cells.choose(root, series, pairs, python or None, every_python=every_python, parts=parts)
    left_out = cells.unsupported(pairs, python or ())
    book = matrix_results.read(folder)
    able = cells.in_order(version for each in pins.pairs for version in cells.supported(each))
    every = cells.choose(root, series, pins.pairs, able, parts=list(Part))
    machine = command.interpreters(cells.in_order([*cells.PYTHONS, *(cell.python for cell in chosen)]))
    sheet = Sheet(pins.pairs, every, frozenset(cell.name for cell in chosen), book, machine, left_out)
    ran: list[Cell] = []
    with show.Bars() as bars:
        matrix_report.write(folder, sheet)
        if not report_only:
            stopped = threading.Event()
            ran = command.fill(
                root,
                folder,
                chosen,
                book,
                Runner(root, series, pins, stopped, bars),
                machine=machine,
                jobs=jobs or command.jobs_for(command.cores()),
                again=again,
                keep=keep,
                stopped=stopped,
                still_holds=lambda cell: cells.still_holds(root, series.folder, cell),
                written=lambda: matrix_report.write(folder, sheet),
                progress=bars,
            )
    if json:
        show.as_json(matrix_report.as_data(sheet))
    else:
        _print(chosen, book)
        for version, names in left_out.items():
            _say(f"Not supported on Python {version}: {', '.join(names)}.")
        _say(
            f"What serves the next run stays: {decimal(command.kept(root))} in {' and '.join(command.KEPT)}."
        )
        ended = matrix_report.numbered(len(ran), "cell")
        _say(f"{ended} run now. The reports are {folder / matrix_report.HTML} and {matrix_report.JSON}.")
    raise typer.Exit(Exit.OK if matrix_results.holds(chosen, book) else Exit.FAULT)


def _print(chosen: list[Cell], book: Book) -> None:
    rows = []
    for cell in chosen:
        state, _ = state_of(cell, book)
        result = matrix_results.known(cell, book)
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
        state, reason = state_of(cell, book)
        result = matrix_results.known(cell, book)
        lines = [reason] if reason and state is not State.SKIPPED else []
        for fault in (*lines, *(result.faults if result else ())):
            _say(f"{cell.name}: {fault}")
    for version, count in matrix_report.skipped(chosen, book).items():
        cells = matrix_report.numbered(count, "cell")
        _say(f"Skipped: {cells}, since Python {version} is not on this machine.")
    _say(matrix_report.total(chosen, book))


def _say(line: str) -> None:
    show.out.print(escape(line), soft_wrap=True, highlight=False)
