"""
Draw the figure of the scenario `ui-load` from its recorded result.

``python -m airflow_auth_patches.demo.figure RESULT.json FIGURE.svg``
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from airflow_auth_patches.demo.scenarios import ui_load
from airflow_auth_patches.util.errors import Exit, Problem

SCENARIO = "ui-load"
#: The line of each server, in the order of the legend. The widths differ so that lines at the same position
#: stay visible.
STYLES: dict[str, dict[str, Any]] = {
    ui_load.STOCK: {"color": "#d55e00", "marker": "o", "linestyle": "-", "linewidth": 4.0},
    ui_load.NO_LIMIT: {"color": "#cc79a7", "marker": "s", "linestyle": "--", "linewidth": 1.6},
    ui_load.LARGE_POOL: {"color": "#aaaaaa", "marker": "D", "linestyle": "-", "linewidth": 5.0},
    ui_load.PLUGIN: {"color": "#0072b2", "marker": "^", "linestyle": "-", "linewidth": 3.0},
    ui_load.PATCHED: {"color": "#009e73", "marker": "v", "linestyle": "--", "linewidth": 1.6},
}
#: The column of the points for each quantity, and its title.
QUANTITIES = {"requests/s": 1, "lost requests, %": 2}
#: The same data gives the same bytes. Text is not converted to paths.
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": SCENARIO,
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def record(rows: Sequence[Mapping[str, Any]], measured: date) -> dict[str, Any]:
    """
    Return the recorded result of the scenario `ui-load`.

    :param rows: the demonstration, as ``report.as_data`` returns it.
    :param measured: the day of the demonstration.
    :return: ``scenario``, ``measured``, ``cpus`` (of the machine), ``seconds`` and ``patience`` of each load
        test, and ``pairs``: for each pair ``ratio`` (the throughput with the limit divided by the throughput
        with the large pool) and ``loads``. Empty if there was no load test.
    """
    found: dict[str, Any] = {}
    for row in rows:
        seen = [row[build]["details"] for build in ("stock", "plugin", "patched") if row[build]]
        if row["scenario"] != SCENARIO or not any(seen):
            continue
        timing = {key: each[key] for each in seen if each for key in ("seconds", "patience")}
        head = {"scenario": SCENARIO, "measured": measured.isoformat(), "cpus": os.cpu_count()}
        found = found or {**head, **timing, "pairs": {}}
        found["pairs"][f"{row['core']}+{row['fab']}"] = {
            "ratio": row["patched"]["details"].get("ratio"),
            "loads": [load for details in seen for load in details.get("loads", ())],
        }
    return found


def points(loads: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float, float]]]:
    """
    Return the points of each line of the figure.

    :param loads: the load tests of a pair.
    :return: for each server, tuples of the number of sessions, the requests per second (the median of
        repeated load tests) and the percentage of lost requests.
    """
    lines = {}
    for form in STYLES:
        line = []
        for sessions in sorted({load["sessions"] for load in loads if load["form"] == form}):
            same = [load for load in loads if load["form"] == form and load["sessions"] == sessions]
            rate = statistics.median(load["requests_per_second"] for load in same)
            total = sum(load["requests"] for load in same)
            lost = sum(load["lost"] for load in same)
            line.append((sessions, rate, 100 * lost / total if total else 100.0))
        if line:
            lines[form] = line
    return lines


def draw(recorded: Mapping[str, Any], target: Path) -> None:
    """
    Draw requests per second and lost requests by number of sessions, with one row per pair.

    :param recorded: a recorded result, as :func:`record` returns it.
    :param target: the file to write; its suffix selects the format.
    """
    pairs = recorded["pairs"]
    with matplotlib.rc_context(SETTINGS):
        layout = ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.1)
        figure = Figure(figsize=(9, 3.2 * len(pairs) + 1.1), facecolor="white", layout=layout)
        grid = figure.subplots(len(pairs), 2, squeeze=False)
        for axes, (pair, measured) in zip(grid, pairs.items(), strict=True):
            core, fab = pair.split("+")
            for ax, quantity in zip(axes, QUANTITIES, strict=True):
                draw_quantity(ax, quantity, points(measured["loads"]))
                ax.set_title(f"{quantity}: core {core}, FAB {fab}", loc="left", fontsize=10)
        drawn = {
            label: handle
            for axes in grid[:, 0]
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        order = [form for form in STYLES if form in drawn]
        figure.legend(
            [drawn[form] for form in order], order, loc="outside lower center", ncols=3, frameon=False
        )
        # Omit the date and the version of Matplotlib.
        plain = {"Date": None, "Creator": None} if target.suffix == ".svg" else {}
        figure.savefig(target, metadata=plain)


def draw_quantity(ax: Axes, quantity: str, lines: Mapping[str, Sequence[tuple[int, float, float]]]) -> None:
    """
    Draw one quantity by number of sessions.

    :param ax: the axes.
    :param quantity: one of `QUANTITIES`.
    :param lines: the points of each server, as :func:`points` returns them.
    """
    column = QUANTITIES[quantity]
    for form, line in lines.items():
        columns = [*zip(*line, strict=True)]
        ax.plot(columns[0], columns[column], label=form, markersize=6, clip_on=False, **STYLES[form])
    ax.set_xlabel("browser sessions")
    ax.set_xticks(sorted({point[0] for line in lines.values() for point in line}))
    ax.tick_params(axis="x", pad=6)  # keep clear of markers at 0
    ax.set_xlim(left=0)
    ax.set_ylim(0, None if column == 1 else 100)
    ax.grid(axis="y", color="#dddddd")
    ax.set_axisbelow(True)


def load(path: Path, scenario: str = SCENARIO) -> dict[str, Any]:
    """
    Return a recorded result.

    :param path: the JSON file.
    :param scenario: the scenario of the result.
    :raises Problem: when it cannot be read or is not a result of the scenario.
    """
    try:
        recorded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if recorded["scenario"] == scenario and recorded["pairs"]:
            return recorded
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise Problem(
        f"{path} is not a recorded result of {scenario}.",
        f"Run `airflow-auth-patches demo --only {scenario}`, which writes build/demo/{scenario}.json.",
        Exit.USAGE,
    )


def write(rows: Sequence[Mapping[str, Any]], folder: Path, measured: date) -> Path | None:
    """
    Write the recorded result of a demonstration, `ui-load.json`, and its figure, `ui-load.svg`.

    :param rows: the demonstration, as ``report.as_data`` returns it.
    :param folder: the target folder.
    :param measured: the day of the demonstration.
    :return: the path of the figure; ``None`` if there was no load test.
    """
    recorded = record(rows, measured)
    if not recorded:
        return None
    result = folder / f"{SCENARIO}.json"
    result.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
    figure = result.with_suffix(".svg")
    draw(recorded, figure)
    return figure


if __name__ == "__main__":
    draw(load(Path(sys.argv[1])), Path(sys.argv[2]))
