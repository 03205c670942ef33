"""The command that measures the patches under load: bench."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from airflow_auth_patches.cli.common import ENGINEERS, Json, app, checkout
from airflow_auth_patches.installation import environments, pair_environments
from airflow_auth_patches.util import show
from airflow_auth_patches.util.errors import Exit, Problem


@app.command(rich_help_panel=ENGINEERS)
def bench(
    pairs: Annotated[
        list[str] | None,
        typer.Option("--pair", metavar="CORE+FAB", help="Measure only this pair; can be repeated."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="LOAD", help="Run only this load; can be repeated."),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=2, help="The number of rounds; 5 by default.")
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="FILE", help="Record the results in this JSON file."),
    ] = None,
    json: Json = False,
) -> None:
    """
    Measure the throughput of stock, patched and other servers under the same loads, in alternating rounds.

    A ratio is the median of the rounds, with its 95 % bootstrap interval. Where that contains 1, the ratio is
    "not shown": the noise exceeds the effect. It takes about 15 minutes per pair.

    Example: airflow-auth-patches bench --pair 3.3.2+3.10.2 --only distinct-tokens
    """
    try:
        from airflow_auth_patches.demo import bench as benchmark
        from airflow_auth_patches.demo import bench_results
        from airflow_auth_patches.demo.bench_loads import LOADS
    except ModuleNotFoundError as error:
        raise Problem(
            f"The benchmark needs {error.name}, which is not installed.",
            "Run it from a checkout with `make bench`, or install airflow-auth-patches[live].",
            Exit.USAGE,
        ) from error
    names = [load.name for load in LOADS]
    if unknown := [name for name in only or () if name not in names]:
        raise Problem(f"There is no load {unknown[0]!r}.", f"Choose one of {', '.join(names)}.", Exit.USAGE)
    loads = [load for load in LOADS if not only or load.name in only]
    project = checkout()
    chosen = [project.releases.pair(name) for name in pairs or benchmark.PAIRS]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = {}
    with show.Bars() as bars:
        for pair in chosen:
            stock = environments.make(
                pair, version, pair_environments.folder_of(project.root, pair, version, "stock"), bars
            )
            patched = pair_environments.patched_environment(
                project.root, project.series, project.releases, pair, version, bars
            )
            measured = benchmark.measure(
                pair,
                stock,
                patched,
                loads,
                rounds=rounds or benchmark.ROUNDS,
                logs=project.root / "build" / "bench",
                progress=bars,
            )
            found[pair.name] = list(bench_results.rows(measured))
            if record:
                bench_results.record(record, pair.name, measured, version)
    if json:
        show.as_json({name: [row.data() for row in rows] for name, rows in found.items()})
        return
    for name, rows in found.items():
        show.table(name, bench_results.HEAD, [row.cells() for row in rows])
    show.out.print("The servers' logs are in build/bench.")
