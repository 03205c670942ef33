"""
Build the data of plots that show an observation, as JSON-serializable data.

A scenario puts the plots that are specific to it into ``details["plots"]`` of its observation. Every plot has
``kind``, which selects how it is drawn, and ``title``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_auth_patches.demo.outcomes import Measurement, Observation

#: One plot: see the functions that return it.
Plot = Mapping[str, Any]
#: Pairs of x and y.
Points = Sequence[Sequence[float]]

#: The maximum number of points that are kept of a line.
MOST_POINTS = 100
#: The minimum number of requests for a plot of latencies.
LEAST_TIMED = 50


def lag(runs: Mapping[str, Points], held: Mapping[str, tuple[float, float]] | None = None) -> Plot:
    """
    Return a plot of the event-loop lag over time.

    :param runs: for each run the lags, as `loop.Report` has them.
    :param held: for some runs the seconds from when until when the database was disturbed.
    :return: ``runs``: for each run ``name``, ``points`` (at most `MOST_POINTS`, the highest of those that are
        next to each other) and ``held`` (two times in seconds, or ``None``).
    """
    return {
        "kind": "lag",
        "title": "Event-loop lag",
        "runs": [
            {
                "name": name,
                "points": highest(points),
                "held": [round(each, 2) for each in held[name]] if held and name in held else None,
            }
            for name, points in runs.items()
        ],
    }


def highest(points: Points) -> list[list[float]]:
    """
    Return at most `MOST_POINTS` points, by keeping only the point with the highest y of each group.

    :param points: the points; those of a group are next to each other.
    """
    step = -(-len(points) // MOST_POINTS) or 1
    groups = (points[first : first + step] for first in range(0, len(points), step))
    peaks = (max(group, key=lambda point: point[1]) for group in groups)
    return [list(peak) for peak in peaks]


def curve(title: str, x: str, y: str, lines: Mapping[str, Points], limit: float | None = None) -> Plot:
    """
    Return a plot of values against another value.

    :param title: the title.
    :param x: the label of the horizontal axis.
    :param y: the label of the vertical axis, with its unit.
    :param lines: the points of each line.
    :param limit: the value that the lines must not exceed, if there is one.
    :return: ``x``, ``y``, ``limit``, and ``lines``: for each line ``name`` and ``points``.
    """
    drawn = [{"name": name, "points": [list(each) for each in points]} for name, points in lines.items()]
    return {"kind": "curve", "title": title, "x": x, "y": y, "limit": limit, "lines": drawn}


def bars(title: str, values: Mapping[str, float], unit: str = "") -> Plot:
    """
    Return a plot of numbers as bars.

    :param title: the title.
    :param values: the numbers by name.
    :param unit: the unit of the numbers.
    :return: ``unit``, and ``bars``: for each number ``name`` and ``value``.
    """
    named = [{"name": name, "value": value} for name, value in values.items()]
    return {"kind": "bars", "title": title, "unit": unit, "bars": named}


def of(observations: Mapping[str, Observation]) -> dict[str, list[Plot]]:
    """
    Return the plots of a scenario on several builds: those of the scenario, then those of its measurements.

    Latencies are left out if no build has `LEAST_TIMED` requests, or if the scenario has a curve, because it
    then sends requests one by one.

    :param observations: the observation of each build.
    :return: the plots of each build.
    """
    timed = {
        build: {each.name: seconds for each in seen.measurements if (seconds := _seconds(each))}
        for build, seen in observations.items()
    }
    many = any(sum(map(len, each.values())) >= LEAST_TIMED for each in timed.values())
    plots = {}
    for build, seen in observations.items():
        own = list(seen.details.get("plots", ()))
        curve = any(plot["kind"] == "curve" for plot in own)
        loads = seen.details.get("loads", ())
        if seen.measurements:
            own.append(outcomes({each.name: _counts(each) for each in seen.measurements}))
        elif len(loads) == 1:
            own.append(outcomes({load["form"]: _of_load(load) for load in loads}))
        if many and timed[build] and not curve:
            own.append(latencies(timed[build]))
        plots[build] = own
    return plots


def outcomes(requests: Mapping[str, tuple[int, Mapping[str, int]]]) -> Plot:
    """
    Return a plot of the outcomes of requests as bars.

    :param requests: for each kind of requests the number with an expected status, and the number of the
        others by outcome.
    :return: ``bars``: for each kind ``name``, ``good`` and ``failed``.
    """
    named = [
        {"name": name, "good": good, "failed": dict(failed)} for name, (good, failed) in requests.items()
    ]
    return {"kind": "outcomes", "title": "Requests by outcome", "bars": named}


def latencies(requests: Mapping[str, Sequence[float]]) -> Plot:
    """
    Return a plot of the distribution of latencies.

    :param requests: for each kind of requests the seconds of each request.
    :return: ``lines``: for each kind ``name`` and ``points``: seconds, and the percentage of the requests
        that took at most that long; at most `MOST_POINTS` and the last.
    """
    lines = []
    for name, seconds in requests.items():
        ordered, total = sorted(seconds), len(seconds)
        ranks = [*range(0, total, -(-total // MOST_POINTS)), total - 1]
        points = [[round(ordered[rank], 4), round(100 * (rank + 1) / total, 2)] for rank in ranks]
        lines.append({"name": name, "points": points})
    return {"kind": "latencies", "title": "Latencies", "lines": lines}


def _counts(measurement: Measurement) -> tuple[int, Mapping[str, int]]:
    failed = Counter(answer.outcome for answer in measurement.result.failures)
    return len(measurement.result.answers) - failed.total(), failed


def _seconds(measurement: Measurement) -> list[float]:
    return [answer.seconds for answer in measurement.result.answers if answer.seconds is not None]


def _of_load(load: Mapping[str, Any]) -> tuple[int, Mapping[str, int]]:
    """Return the outcomes of a load test of `ui_load`, whose requests expect the status 200."""
    failed = {outcome: count for outcome, count in load["outcomes"].items() if outcome != "200"}
    return load["outcomes"].get("200", 0), failed
