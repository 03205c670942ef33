"""Write the report of a demonstration as one HTML page, which needs no network and no scripts."""

from __future__ import annotations

import os
import platform
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import psutil
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from airflow_auth_patches.demo import figure, inline_svg, plot_data, plots, report
from airflow_auth_patches.demo.outcomes import Observation, Outcome
from airflow_auth_patches.demo.plot_data import Plot
from airflow_auth_patches.demo.report import Row
from airflow_auth_patches.demo.scenario import Build
from airflow_auth_patches.util.files import write_whole

#: A file next to this module.
TEMPLATE = "report.html.jinja"
#: The titles of the builds.
BUILDS = {
    Build.STOCK: "Stock",
    Build.MINIMAL: "With the minimal patches",
    Build.PLUGIN: "Stock with the plugin",
    Build.PATCHED: "Patched",
}
#: What the outcomes mean.
MEANINGS = {
    Outcome.CURED: "fails on stock, not when patched",
    Outcome.WORKS: "works on stock and when patched",
    Outcome.NOT_CURED: "fails when patched too",
    Outcome.BROKEN: "works on stock, fails when patched",
    Outcome.NOT_SHOWN: "does not fail on stock",
    Outcome.INCONCLUSIVE: "the machine was too busy to compare",
    Outcome.NOT_RUN: "the database is not installed",
}


@dataclass(frozen=True)
class Drawing:
    """
    A plot on the page.

    :param title: the title.
    :param key: the meaning of its colors, each with its CSS variable.
    :param builds: an SVG element for each build that has data for it.
    """

    title: str
    key: Mapping[str, str]
    builds: Mapping[str, Markup]


@dataclass(frozen=True)
class Section:
    """
    What the page shows of one row of a demonstration.

    :param row: the row.
    :param anchor: the id of the section.
    :param seen: the observation of each build.
    :param drawings: the plots; the first one shows the outcome best.
    :param wide: more drawings, which show all builds together, by title.
    """

    row: Row
    anchor: str
    seen: Mapping[str, Observation]
    drawings: Sequence[Drawing]
    wide: Mapping[str, Markup]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the server, without those that have no value."""
        values = vars(self.row.scenario.settings).items()
        return {
            name: ", ".join(value) if isinstance(value, tuple) else value
            for name, value in values
            if value not in (None, False, ())
        }


class HtmlReport:
    """
    The report of a demonstration. It is written anew after each row, so that it also exists if the run stops.

    :param path: the file to write.
    :param python: the Python version of the servers: ``3.11``.
    """

    def __init__(self, path: Path, python: str) -> None:
        self.path = path
        self._python = python
        self._begun, self._clock = datetime.now(timezone.utc), time.monotonic()
        self._sections: list[Section] = []

    @property
    def empty(self) -> bool:
        """Whether no row was added, so that the page was not written."""
        return not self._sections

    def add(self, row: Row) -> None:
        """
        Add a row and write the page.

        :param row: the result of a scenario.
        :raises Problem: when the page cannot be written.
        """
        self._sections.append(section(row))
        self._write(finished=False)

    def finish(self) -> None:
        """Write the page without the remark that the run is not complete."""
        self._write(finished=True)

    def _write(self, *, finished: bool) -> None:
        rows = [each.row for each in self._sections]
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        counts = Counter(row.outcome for row in rows)
        page = environment.get_template(TEMPLATE).render(
            sections=self._sections,
            finished=finished,
            outcomes=[(each, counts[each], MEANINGS[each]) for each in Outcome if counts[each]],
            builds={build.value: title for build, title in BUILDS.items()},
            facts=facts(rows, self._begun, time.monotonic() - self._clock, self._python),
            light=inline_svg.variables(dark=False),
            dark=inline_svg.variables(dark=True),
            duration=duration,
        )
        write_whole(self.path, page)


def facts(rows: Sequence[Row], begun: datetime, seconds: float, python: str) -> dict[str, str]:
    """
    Return the facts about a demonstration for the top of the page.

    :param rows: the results.
    :param begun: the time of the start.
    :param seconds: the duration.
    :param python: the Python version of the servers.
    :return: texts by their names.
    """
    databases = dict.fromkeys(f"{row.database} {row.version}" for row in rows if row.version)
    memory = psutil.virtual_memory().total / 2**30
    return {
        "Releases": ", ".join(dict.fromkeys(row.pair for row in rows)) + " (core+FAB)",
        "Machine": f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}",
        "Versions": ", ".join(
            (f"Python {python}", *databases, f"airflow-auth-patches {version('airflow-auth-patches')}")
        ),
        "Started": f"{begun:%-d %B %Y, %H:%M} UTC",
        "Duration": duration(seconds),
    }


def duration(seconds: float) -> str:
    """Return a duration for people: ``45 s`` or ``12 min 5 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def section(row: Row) -> Section:
    """
    Return what the page shows of a row, with its plots.

    :param row: the result of a scenario.
    """
    anchor = re.sub(r"[^a-z0-9]+", "-", f"{row.scenario.name}-{row.pair}-{row.database}".lower())
    seen: dict[str, Observation] = {
        build.value: observation for build in Build if (observation := getattr(row, build.value)) is not None
    }
    measured = seen if row.outcome is not Outcome.NOT_RUN else {}
    found = {build: {plot["title"]: plot for plot in each} for build, each in plot_data.of(measured).items()}
    # A plot that shows every build comes first.
    titles = sorted(
        dict.fromkeys(title for each in found.values() for title in each),
        key=lambda title: any(title not in each for each in found.values()),
    )
    drawings = [
        _draw({build: each[title] for build, each in found.items() if title in each}, f"{anchor}-{number}")
        for number, title in enumerate(titles)
    ]
    return Section(row, anchor, seen, drawings, _load_tests(row, anchor))


def _draw(plotted: Mapping[str, Plot], name: str) -> Drawing:
    """Draw a plot of several builds; the name is the prefix of its ids."""
    first = next(iter(plotted.values()))
    colors = plots.key([*plotted.values()])
    key = {meaning: inline_svg.variable(color) for meaning, color in colors.items()}
    builds = {}
    for build, drawing in plots.draw(plotted).items():
        text = f"{BUILDS[Build(build)]}: {plots.summary(plotted[build])}"
        builds[build] = Markup(inline_svg.convert(drawing, f"{name}-{build}", text))
    return Drawing(first["title"], key, builds)


def _load_tests(row: Row, anchor: str) -> dict[str, Markup]:
    """Return the drawings of the load tests of the scenario `ui-load`; none for other scenarios."""
    (data,) = report.as_data([row])
    recorded = figure.record([data], datetime.now(timezone.utc).date())
    drawings = {}
    for measured in recorded["pairs"].values() if recorded else ():
        lines = figure.points(measured["loads"])
        for number, quantity in enumerate(figure.QUANTITIES):
            with matplotlib.rc_context(plots.SETTINGS):
                drawing = Figure(
                    figsize=(plots.WIDTH, 4), layout=ConstrainedLayoutEngine(h_pad=0.06, w_pad=0.06)
                )
                figure.draw_quantity(drawing.subplots(), quantity, lines)
                drawing.legend(loc="outside lower left", frameon=False)
            text = f"{quantity} by number of browser sessions. " + "; ".join(
                f"{form}: {', '.join(f'{point[0]}: {point[number + 1]:.0f}' for point in line)}"
                for form, line in lines.items()
            )
            drawings[quantity] = Markup(inline_svg.convert(drawing, f"{anchor}-load-{number}", text))
    return drawings
