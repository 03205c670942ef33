"""Draw plots from the data that `plot_data` builds, one figure per build, on common scales."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from airflow_auth_patches.demo.load import NO_ANSWER
from airflow_auth_patches.demo.plot_data import Plot

INK, MUTED, GRID, BAND = "#1f2328", "#59636e", "#d8dee4", "#bf8700"
EXPECTED, FAILED, NONE = "#3f7cac", "#d55e00", "#7f2704"
#: The color of each build.
COLORS = {"stock": "#d55e00", "minimal": "#8250df", "plugin": "#0072b2", "patched": "#009e73"}
LINES = ("-", "--", ":", "-.")
#: Inches. On a phone, one unit of the font size is about one pixel.
WIDTH, PANEL, BAR, LINE, MARGIN = 4.2, 1.3, 0.44, 0.18, 0.55
#: The number of characters that fit above a bar.
FITTING = 48
#: A bar: the texts above its start and its end, and the lengths and colors of its parts.
Bar = tuple[str, str, Sequence[tuple[float, str]]]
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(plots: Mapping[str, Plot]) -> dict[str, Figure]:
    """
    Draw one kind of plot for several builds.

    :param plots: the plot of each build; all have the same kind and title.
    :return: a figure for each build, with the same scales and a transparent background.
    """
    figures = {}
    for build, plot in plots.items():
        panels = len(plot["runs"]) if plot["kind"] == "lag" else 1
        height = MARGIN + PANEL * max(panels, 1.6)
        if "bars" in plot:
            height = MARGIN + sum(_height(bar) for bar in _named(plot, COLORS[build]))
        with matplotlib.rc_context(SETTINGS):
            layout = ConstrainedLayoutEngine(h_pad=0.06, w_pad=0.06)
            figure = Figure(figsize=(WIDTH, height), facecolor="none", layout=layout)
            grid = figure.subplots(panels, 1, squeeze=False, sharex=True)
            _DRAW[plot["kind"]]([*grid[:, 0]], plot, COLORS[build], [*plots.values()])
        figures[build] = figure
    return figures


def key(plots: Sequence[Plot]) -> dict[str, str]:
    """
    Return the meaning of the colors in plots of one kind, except those of the builds.

    :param plots: the plots.
    :return: the colors that occur, by their meaning.
    """
    if plots[0]["kind"] == "outcomes":
        drawn = {
            color for each in plots for *_, parts in _named(each, "") for length, color in parts if length
        }
    else:
        drawn = {BAND for each in plots for run in each.get("runs", ()) if run["held"]}
    meanings = {"as expected": EXPECTED, "failed": FAILED, "no answer": NONE, "database disturbed": BAND}
    return {meaning: color for meaning, color in meanings.items() if color in drawn}


def summary(plot: Plot) -> str:
    """Return a sentence with the important values of a plot, for readers who do not see it."""
    if plot["kind"] == "lag":
        parts = [f"{run['name']}: up to {highest_lag(run):.2f} s" for run in plot["runs"]]
    elif plot["kind"] == "outcomes":
        parts = [f"{bar['name']}: {_ways(bar)}" for bar in plot["bars"]]
    elif plot["kind"] == "bars":
        parts = [f"{bar['name']}: {_number(bar['value'], plot['unit'])}" for bar in plot["bars"]]
    elif plot["kind"] == "latencies":
        parts = [f"{line['name']}: up to {line['points'][-1][0]:.2f} s" for line in plot["lines"]]
    else:
        parts = [_ends(line, plot["y"]) for line in plot["lines"]]
    return f"{plot['title']}. {'; '.join(parts)}."


def highest_lag(run: Mapping[str, Any]) -> float:
    """Return the highest lag of a run of a plot of lags, in seconds; 0 if it has no points."""
    return max((lag for _, lag in run["points"]), default=0.0)


def draw_lag(ax: Axes, run: Mapping[str, Any], color: str, width: float, height: float) -> None:
    """
    Draw the event-loop lag of a run over time.

    While the loop is blocked, its lag increases from zero by one second per second.

    :param ax: the axes.
    :param run: one of the runs of `plot_data.lag`.
    :param color: the color of the line.
    :param width: the end of the horizontal axis, in seconds.
    :param height: the end of the vertical axis, in seconds.
    """
    corners = [
        corner for due, lag in run["points"] for corner in ((due, 0.0), (due + lag, lag), (due + lag, 0.0))
    ]
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    if run["held"]:
        ax.axvspan(*run["held"], color=BAND, alpha=0.18, linewidth=0)
    ax.fill_between(xs, ys, color=color, alpha=0.25, linewidth=0)
    ax.plot(xs, ys, color=color, linewidth=1.6, clip_on=False)
    ax.set_title(f"{run['name']}: up to {highest_lag(run):.2f} s", loc="left", fontsize=10)
    ax.set_xlim(0, width)
    ax.set_ylim(0, height)
    ax.set_ylabel("lag, s")
    ax.grid(axis="y", color=GRID)
    ax.set_axisbelow(True)


def lag_limits(plots: Sequence[Plot]) -> tuple[float, float]:
    """Return the ends of the axes for plots of lags, in seconds."""
    runs = [run for plot in plots for run in plot["runs"]]
    ends = [due + lag for run in runs for due, lag in run["points"]]
    return max(ends, default=1.0), max(0.1, *(1.05 * highest_lag(run) for run in runs))


def _lag(axes: Sequence[Axes], plot: Plot, color: str, plots: Sequence[Plot]) -> None:
    width, height = lag_limits(plots)
    for ax, run in zip(axes, plot["runs"], strict=True):
        draw_lag(ax, run, color, width, height)
    axes[-1].set_xlabel("seconds")


def _bars(axes: Sequence[Axes], plot: Plot, color: str, plots: Sequence[Plot]) -> None:
    ax = axes[0]
    ends = [sum(length for length, _ in parts) for each in plots for _, _, parts in _named(each, color)]
    bottom = 0.0
    for bar in _named(plot, color):
        left, right, parts = bar
        first = bottom + BAR
        bottom += _height(bar)
        start = 0.0
        for length, part_color in parts:
            if length:
                ax.barh(bottom - 0.1, length, left=start, height=0.19, color=part_color, linewidth=0)
            start += length
        ax.text(0, first - 0.24, left, va="bottom", ha="left")
        ax.text(1, bottom - 0.24, right, va="bottom", ha="right", transform=ax.get_yaxis_transform())
    ax.set_ylim(bottom + 0.04, 0)
    ax.set_xlim(0, max(ends) or 1)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.locator_params(axis="x", nbins=5, integer=max(ends) >= 5)


def _named(plot: Plot, color: str) -> list[Bar]:
    """Return the bars of a plot of outcomes or numbers."""
    if plot["kind"] == "bars":
        return [
            (bar["name"], _number(bar["value"], plot["unit"]), [(bar["value"], color)])
            for bar in plot["bars"]
        ]
    bars: list[Bar] = []
    for bar in plot["bars"]:
        missing = bar["failed"].get(NO_ANSWER, 0)
        other = sum(bar["failed"].values()) - missing
        parts = [(bar["good"], EXPECTED), (other, FAILED), (missing, NONE)]
        bars.append((f"{bar['name']}: {bar['good'] + other + missing}", _ways(bar), parts))
    return bars


def _height(bar: Bar) -> float:
    """Return the height of a bar in inches, with one line of text, or two if the texts do not fit in one."""
    left, right, _ = bar
    return BAR + (LINE if len(left) + len(right) > FITTING else 0)


def _curve(axes: Sequence[Axes], plot: Plot, color: str, plots: Sequence[Plot]) -> None:
    ax, limit = axes[0], plot["limit"]
    _lines(ax, plot, color, plots)
    _, high = ax.get_ylim()
    if limit is not None:
        ax.axhline(limit, color=MUTED, linestyle=(0, (6, 3)), linewidth=1.2)
        ax.text(
            1,
            limit,
            f"limit {limit:g}",
            color=MUTED,
            ha="right",
            va="bottom",
            transform=ax.get_yaxis_transform(),
        )
        ax.set_ylim(top=max(high, 1.25 * limit))
    ax.set_xlabel(plot["x"])
    ax.set_ylabel(plot["y"])


def _latencies(axes: Sequence[Axes], plot: Plot, color: str, plots: Sequence[Plot]) -> None:
    _lines(axes[0], plot, color, plots, drawstyle="steps-post")
    axes[0].set_ylim(0, 103)
    axes[0].set_xlim(left=0)
    axes[0].set_xlabel("seconds")
    axes[0].set_ylabel("% of requests")


def _lines(
    ax: Axes,
    plot: Plot,
    color: str,
    plots: Sequence[Plot],
    drawstyle: Literal["default", "steps-post"] = "default",
) -> None:
    every = [point for each in plots for line in each["lines"] for point in line["points"]]
    for style, line in zip(LINES * len(plot["lines"]), plot["lines"], strict=False):
        xs, ys = [x for x, _ in line["points"]], [y for _, y in line["points"]]
        marker = "o" if len(xs) < 40 else ""
        ax.plot(
            xs,
            ys,
            color=color,
            linestyle=style,
            marker=marker,
            markersize=3,
            label=line["name"],
            clip_on=False,
            drawstyle=drawstyle,
        )
    right, top = max(x for x, _ in every), max(y for _, y in every)
    ax.set_xlim(0, right or 1)
    ax.set_ylim(min(0, *(y for _, y in every)), 1.08 * top or 1)
    ax.grid(axis="y", color=GRID)
    ax.set_axisbelow(True)
    if len(plot["lines"]) > 1:
        ax.legend(frameon=False, fontsize=9, loc="best")


def _ways(bar: Mapping[str, Any]) -> str:
    """Return the unexpected outcomes of a bar: ``5 x 500, 5 no answer``."""
    order = sorted(bar["failed"].items(), key=lambda way: (way[0] == NO_ANSWER, -way[1], way[0]))
    ways = [f"{count} {way}" if way == NO_ANSWER else f"{count} x {way}" for way, count in order]
    return ", ".join(ways) or "all as expected"


def _number(value: float, unit: str) -> str:
    return f"{value:g} {unit}".strip()


def _ends(line: Mapping[str, Any], unit: str) -> str:
    values = [y for _, y in line["points"]]
    return f"{line['name']}: from {values[0]:g} to {values[-1]:g} {unit}, at most {max(values):g}"


_Draw = Callable[[Sequence[Axes], Plot, str, Sequence[Plot]], None]
_DRAW: Mapping[str, _Draw] = {
    "lag": _lag,
    "outcomes": _bars,
    "bars": _bars,
    "curve": _curve,
    "latencies": _latencies,
}
