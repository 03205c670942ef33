"""
Draw the event-loop lag of the scenario `table-locked`, on stock and patched, from its recorded result.

``python -m airflow_auth_patches.demo.lag_figure RESULT.json FIGURE.svg``
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from airflow_auth_patches.demo import figure, plots
from airflow_auth_patches.util.files import write_whole

SCENARIO = "table-locked"
BUILDS = ("stock", "patched")
#: The same data gives the same bytes.
SETTINGS: dict[Any, Any] = {**plots.SETTINGS, "svg.hashsalt": SCENARIO}


def record(rows: Sequence[Mapping[str, Any]], measured: date) -> dict[str, Any]:
    """
    Return the recorded result of the scenario `table-locked`.

    :param rows: the demonstration, as ``report.as_data`` returns it.
    :param measured: the day of the demonstration.
    :return: ``scenario``, ``measured``, ``cpus`` (of the machine) and ``pairs``: for each pair the plot of
        the lag, see `plot_data.lag`, on ``stock`` and ``patched``. Empty if there is no lag of both.
    """
    pairs = {}
    for row in rows:
        if row["scenario"] != SCENARIO:
            continue
        lags = {
            build: plot
            for build in BUILDS
            for plot in row[build]["details"].get("plots", ())
            if plot["kind"] == "lag"
        }
        if len(lags) == len(BUILDS):
            pairs[f"{row['core']}+{row['fab']}"] = lags
    head = {"scenario": SCENARIO, "measured": measured.isoformat(), "cpus": os.cpu_count()}
    return {**head, "pairs": pairs} if pairs else {}


def draw(recorded: Mapping[str, Any], target: Path) -> None:
    """
    Draw the event-loop lag over time on the newest pair: a row per locked table, a column per build.

    :param recorded: a recorded result, as :func:`record` returns it.
    :param target: the file to write; its suffix selects the format.
    """
    pair, lags = [*recorded["pairs"].items()][-1]
    width, height = plots.lag_limits([*lags.values()])
    rows = max(len(plot["runs"]) for plot in lags.values())
    with matplotlib.rc_context(SETTINGS):
        layout = ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.1)
        drawing = Figure(figsize=(9, 1.6 * rows + 0.9), facecolor="white", layout=layout)
        grid = drawing.subplots(rows, len(BUILDS), squeeze=False, sharex=True, sharey=True)
        for column, build in enumerate(BUILDS):
            for ax, run in zip(grid[:, column], lags[build]["runs"], strict=False):
                plots.draw_lag(ax, run, plots.COLORS[build], width, height)
                ax.set_title(f"{build}, {ax.get_title(loc='left')}", loc="left", fontsize=10)
            grid[-1, column].set_xlabel("seconds (shaded: the table is locked)")
        core, fab = pair.split("+")
        drawing.suptitle(f"Event-loop lag: core {core}, FAB {fab}", fontsize=11)
        # Omit the date and the version of Matplotlib.
        plain = {"Date": None, "Creator": None} if target.suffix == ".svg" else {}
        drawing.savefig(target, metadata=plain)


def write(rows: Sequence[Mapping[str, Any]], folder: Path, measured: date) -> None:
    """
    Write the recorded result of a demonstration, `table-locked.json`, unless there was no lag.

    :param rows: the demonstration, as ``report.as_data`` returns it.
    :param folder: the target folder.
    :param measured: the day of the demonstration.
    :raises Problem: when the file cannot be written.
    """
    if recorded := record(rows, measured):
        write_whole(folder / f"{SCENARIO}.json", json.dumps(recorded) + "\n")


if __name__ == "__main__":
    draw(figure.load(Path(sys.argv[1]), SCENARIO), Path(sys.argv[2]))
