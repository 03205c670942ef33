"""
Draw the figure of the benchmark from its recorded results.

``python -m airflow_auth_patches.demo.bench_figure RESULT.json FIGURE.svg``
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from airflow_auth_patches.demo import bench_results
from airflow_auth_patches.demo.bench import LARGE_POOL, PATCHED, PLUGIN, STOCK
from airflow_auth_patches.demo.figure import SETTINGS

#: The marker of each server, with its vertical distance from the line of the load.
STYLES = {
    STOCK: ("#d55e00", "o", 0.22),
    PLUGIN: ("#0072b2", "^", 0.0),
    PATCHED: ("#009e73", "v", -0.22),
}
#: The smallest ratio that the figure shows; a server that serves no request is drawn here.
LEAST = 0.01


def draw(recorded: Mapping[str, Any], target: Path) -> None:
    """
    Draw the throughput of each server as a ratio to the server without a pool limit, with its interval.

    :param recorded: the recorded results by pair, as `bench_results.read` returns them.
    :param target: the file to write; its suffix selects the format.
    """
    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": "bench"}):
        figure = Figure(
            figsize=(9, 3.6), facecolor="white", layout=ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.1)
        )
        axes = figure.subplots(1, len(recorded), sharex=True, sharey=True, squeeze=False)[0]
        for ax, (pair, measured) in zip(axes, recorded.items(), strict=True):
            _pair(ax, pair, measured)
        figure.supxlabel(f"successful requests per second, as a ratio to {LARGE_POOL}", fontsize=10)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
        plain = {"Date": None, "Creator": None} if target.suffix == ".svg" else {}
        figure.savefig(target, metadata=plain)


def _pair(ax: Axes, pair: str, measured: Mapping[str, Any]) -> None:
    core, fab = pair.split("+")
    names = list(measured["loads"])
    rows = list(bench_results.rows(measured))
    for server, (colour, marker, offset) in STYLES.items():
        found = [
            (
                names.index(row.load) - offset,
                max(row.ratios[LARGE_POOL].median, LEAST),
                row.ratios[LARGE_POOL],
            )
            for row in rows
            if row.server == server and LARGE_POOL in row.ratios
        ]
        lines = [
            (max(median - max(each.interval[0], LEAST), 0), max(each.interval[1] - median, 0))
            for _, median, each in found
        ]
        ax.errorbar(
            [median for _, median, _ in found],
            [place for place, _, _ in found],
            xerr=[*zip(*lines, strict=True)] if lines else None,
            label=server,
            color=colour,
            marker=marker,
            linestyle="",
            capsize=3,
        )
    ax.axvline(1, color="#888888", linewidth=1)
    ax.set_xscale("log")
    ax.set_xlim(LEAST / 1.3, 5)
    ax.set_xticks([0.01, 0.1, 1], ["0.01", "0.1", "1"])
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_title(f"core {core}, FAB {fab}", loc="left", fontsize=10)
    ax.grid(axis="x", color="#dddddd")
    ax.set_axisbelow(True)


if __name__ == "__main__":
    draw(bench_results.read(Path(sys.argv[1])), Path(sys.argv[2]))
