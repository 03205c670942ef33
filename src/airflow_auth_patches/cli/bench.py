"""The command that measures the patches under load: bench."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from airflow_auth_patches.cli.common import ENGINEERS, Json, app, checkout, live_packages, option
from airflow_auth_patches.installation import environments, pair_environments
from airflow_auth_patches.util import show
from airflow_auth_patches.util.errors import UsageProblem


@app.command(rich_help_panel=ENGINEERS)
def bench(
    pairs: Annotated[
        list[str] | None,
        option("--pair", "Measure only this pair; can be repeated.", "CORE+FAB"),
    ] = None,
    only: Annotated[
        list[str] | None,
        option("--only", "Run only this load; can be repeated.", "LOAD"),
    ] = None,
    rounds: Annotated[
        int | None, option("--rounds", "The number of rounds; 5 by default.", "N", min=2)
    ] = None,
    record: Annotated[
        Path | None,
        option("--record", "Record the results in this JSON file.", "FILE"),
    ] = None,
    json: Json = False,
) -> None:
    """
    Measure the throughput of stock, patched and other servers under the same loads, in alternating rounds.

    A ratio is the median of the rounds, with its 95 % bootstrap interval. Where that contains 1, the ratio is
    "not shown": the noise exceeds the effect. It takes about 15 minutes per pair.

    Example: airflow-auth-patches bench --pair 3.3.2+3.10.2 --only distinct-tokens
    """
    with live_packages("The benchmark"):
        from airflow_auth_patches.demo import bench as benchmark
        from airflow_auth_patches.demo import bench_results
        from airflow_auth_patches.demo.bench_loads import LOADS
    names = [load.name for load in LOADS]
    if unknown := [name for name in only or () if name not in names]:
        raise UsageProblem(f"There is no load {unknown[0]!r}.", f"Choose one of {', '.join(names)}.")
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
        for load in loads:
            cells = [row.brief() for row in rows if row.load == load.name]
            show.table(f"{load.name} on {name}", bench_results.BRIEF, cells)
    show.say("The servers' logs are in build/bench.")
