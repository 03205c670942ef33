"""The data of plots, the figures that are drawn from it, and their conversion to SVG elements."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from airflow_auth_patches.demo import inline_svg, plot_data, plots
from airflow_auth_patches.demo.load import NO_ANSWER, Answer, Request, Result
from airflow_auth_patches.demo.outcomes import Measurement, Observation

SVG = "{http://www.w3.org/2000/svg}"
#: The loop is late by 20 ms and then blocked for 8 s.
LAGS = [(0.5, 0.02), (1.0, 8.0), (9.1, 0.01)]
LAG = plot_data.lag({"dag_tag locked": LAGS}, {"dag_tag locked": (0.9, 9.0)})
CALM = plot_data.lag({"dag_tag locked": [(0.5, 0.01)]}, {"dag_tag locked": (0.9, 9.0)})
CURVE = plot_data.curve("Memory", "requests", "MiB", {"tokens": [(0, 0), (10, 5.5)]}, limit=2)
BARS = plot_data.bars("Calls", {"SQL statements": 7, "waits": 0}, "calls")
OUTCOMES = plot_data.outcomes({"5 at once": (2, {"500": 5, NO_ANSWER: 3}), "20 at once": (20, {})})
LATENCIES = plot_data.latencies({"load": [0.3, 0.1, 0.2, 5.0]})
EVERY = {each["kind"]: each for each in (LAG, CURVE, BARS, OUTCOMES, LATENCIES)}


def measurement(*outcomes: str) -> Measurement:
    answers = [Answer(Request("GET", "/"), outcome, number / 10) for number, outcome in enumerate(outcomes)]
    return Measurement("5 at once", Result(answers, 2.5), deadline=15)


def texts(svg: str) -> set[str]:
    root = ElementTree.fromstring(svg)
    return {"".join(each.itertext()).strip() for each in root.iter(f"{SVG}text")}


def line(figure: Figure, panel: int = 0) -> list[tuple[float, float]]:
    """Return the corners of the first line of a panel."""
    drawn = figure.axes[panel].lines[0]
    return [(float(x), float(y)) for x, y in zip(drawn.get_xdata(), drawn.get_ydata(), strict=True)]


def test_plots_are_json_serializable() -> None:
    assert json.loads(json.dumps([*EVERY.values()])) == [*EVERY.values()]


def test_observation_has_plots_of_scenario_and_of_its_measurements() -> None:
    stock = Observation.of([measurement("200", "500", NO_ANSWER)], details={"plots": [BARS]})
    patched = Observation.of([measurement("200", "200", "200")])
    assert plot_data.of({"stock": stock, "patched": patched}) == {
        "stock": [BARS, plot_data.outcomes({"5 at once": (1, {"500": 1, NO_ANSWER: 1})})],
        "patched": [plot_data.outcomes({"5 at once": (3, {})})],
    }


def test_latencies_are_left_out_for_few_requests_and_for_requests_one_by_one() -> None:
    many, few = (measurement(*["200"] * count) for count in (plot_data.LEAST_TIMED, 20))

    def kinds(*measured: Measurement, own: Sequence[plot_data.Plot] = ()) -> list[list[str]]:
        plots = plot_data.of(
            {
                str(number): Observation.of([each], details={"plots": own})
                for number, each in enumerate(measured)
            }
        )
        return [[plot["kind"] for plot in each] for each in plots.values()]

    assert kinds(many, few) == [["outcomes", "latencies"]] * 2
    assert kinds(few, few) == [["outcomes"]] * 2
    assert kinds(many, own=[CURVE]) == [["curve", "outcomes"]]


def test_single_load_test_with_sessions_has_outcomes() -> None:
    load = {"form": "30 sessions", "sessions": 30, "round": 0, "lost": 5, "outcomes": {"200": 9, "500": 5}}
    plots = plot_data.of(
        {str(count): Observation("seen", failed=True, details={"loads": [load] * count}) for count in (1, 2)}
    )
    assert plots == {"1": [plot_data.outcomes({"30 sessions": (9, {"500": 5})})], "2": []}


def test_observation_without_measurements_has_no_plots() -> None:
    seen = Observation("not measured: the server ended", failed=True)
    assert plot_data.of({"stock": seen}) == {"stock": []}


def test_long_run_keeps_highest_lags() -> None:
    points = [[number / 10, 0.001] for number in range(3000)]
    points[1234][1] = 4.2
    kept = plot_data.highest(points)
    assert len(kept) <= plot_data.MOST_POINTS
    assert points[1234] in kept
    assert kept == sorted(kept)
    assert plot_data.highest([]) == []


def test_latencies_give_percentage_of_requests_that_took_at_most_that_long() -> None:
    (drawn,) = LATENCIES["lines"]
    assert drawn["points"] == [[0.1, 25.0], [0.2, 50.0], [0.3, 75.0], [5.0, 100.0], [5.0, 100.0]]
    (many,) = plot_data.latencies({"load": [number / 1000 for number in range(1, 5001)]})["lines"]
    assert len(many["points"]) <= plot_data.MOST_POINTS + 1
    assert many["points"][-1] == [5.0, 100.0]


def test_lag_increases_while_loop_is_blocked() -> None:
    figure = plots.draw({"stock": LAG})["stock"]
    assert line(figure) == [
        *((0.5, 0.0), (0.52, 0.02), (0.52, 0.0)),
        *((1.0, 0.0), (9.0, 8.0), (9.0, 0.0)),
        *((9.1, 0.0), (9.11, 0.01), (9.11, 0.0)),
    ]
    assert figure.axes[0].get_title(loc="left") == "dag_tag locked: up to 8.00 s"


def test_lag_shades_time_of_disturbance() -> None:
    panel = plots.draw({"stock": LAG})["stock"].axes[0]
    (shaded,) = panel.patches
    assert (shaded.get_x(), shaded.get_width()) == (0.9, pytest.approx(8.1))


@pytest.mark.parametrize("kind", EVERY)
def test_builds_have_the_same_scales(kind: str) -> None:
    small: dict[str, Any] = {
        "lag": CALM,
        "curve": plot_data.curve("Memory", "requests", "MiB", {"tokens": [(0, 0), (5, 0.5)]}, limit=2),
        "bars": plot_data.bars("Calls", {"SQL statements": 0, "waits": 0}, "calls"),
        "outcomes": plot_data.outcomes({"5 at once": (2, {}), "20 at once": (2, {})}),
        "latencies": plot_data.latencies({"load": [0.1, 0.1]}),
    }
    figures = plots.draw({"stock": EVERY[kind], "patched": small[kind]})
    limits = {(each.axes[0].get_xlim(), each.axes[0].get_ylim()) for each in figures.values()}
    assert len(limits) == 1


def test_bars_have_given_lengths() -> None:
    outcomes, calls = (plots.draw({"stock": each})["stock"].axes[0] for each in (OUTCOMES, BARS))
    assert [bar.get_width() for bar in outcomes.patches] == [2, 5, 3, 20]
    assert [bar.get_x() for bar in outcomes.patches] == [0, 2, 7, 0]
    assert [bar.get_width() for bar in calls.patches] == [7]


def test_long_texts_of_a_bar_are_on_two_lines() -> None:
    def heights(name: str) -> list[float]:
        plot = plot_data.outcomes({name: (0, {"500": 50, NO_ANSWER: 30}), "other": (8, {})})
        panel = plots.draw({"stock": plot})["stock"].axes[0]
        return [text.get_position()[1] for text in panel.texts]

    short, long = heights("few"), heights("with the revocation check")
    assert short[0] == short[1]
    assert long[0] < long[1] < long[2] == long[3]


def test_key_names_the_colors_that_occur() -> None:
    none_fails = plot_data.outcomes({"5 at once": (2, {})})
    assert list(plots.key([none_fails])) == ["as expected"]
    assert list(plots.key([none_fails, OUTCOMES])) == ["as expected", "failed", "no answer"]
    assert list(plots.key([LAG])) == ["database disturbed"]
    assert plots.key([plot_data.lag({"sweep": LAGS})]) == {}
    assert plots.key([CURVE]) == {}


def test_curve_has_given_points_and_its_limit() -> None:
    figure = plots.draw({"stock": CURVE})["stock"]
    assert line(figure) == [(0, 0), (10, 5.5)]
    assert list(figure.axes[0].lines[1].get_ydata()) == [2, 2]


@pytest.mark.parametrize(
    ("plot", "expected"),
    [
        (LAG, {"dag_tag locked: up to 8.00 s", "lag, s", "seconds"}),
        (CURVE, {"limit 2", "requests", "MiB"}),
        (BARS, {"SQL statements", "7 calls", "waits", "0 calls"}),
        (OUTCOMES, {"5 at once: 10", "5 x 500, 3 no answer", "20 at once: 20", "all as expected"}),
        (LATENCIES, {"seconds", "% of requests"}),
    ],
    ids=[*EVERY],
)
def test_svg_contains_values_as_text(plot: plot_data.Plot, expected: set[str]) -> None:
    (figure,) = plots.draw({"patched": plot}).values()
    assert expected <= texts(inline_svg.convert(figure, "a", "A plot."))


@pytest.mark.parametrize(
    ("plot", "expected"),
    [
        (LAG, "Event-loop lag. dag_tag locked: up to 8.00 s."),
        (CURVE, "Memory. tokens: from 0 to 5.5 MiB, at most 5.5."),
        (BARS, "Calls. SQL statements: 7 calls; waits: 0 calls."),
        (
            OUTCOMES,
            "Requests by outcome. 5 at once: 5 x 500, 3 no answer; 20 at once: all as expected.",
        ),
        (LATENCIES, "Latencies. load: up to 5.00 s."),
    ],
    ids=[*EVERY],
)
def test_summary_has_important_values(plot: plot_data.Plot, expected: str) -> None:
    assert plots.summary(plot) == expected


@pytest.mark.parametrize("kind", EVERY)
def test_svg_colors_follow_scheme(kind: str) -> None:
    """Only CSS variables that are defined for both schemes."""
    (figure,) = plots.draw({"stock": EVERY[kind]}).values()
    svg = inline_svg.convert(figure, "a", "A plot.")
    light, dark = (inline_svg.variables(dark=dark) for dark in (False, True))
    assert light.keys() == dark.keys()
    assert {part.split(")")[0] for part in svg.split("var(")[1:]} <= light.keys()
    assert ": #" not in svg


def test_svg_describes_itself_and_has_only_used_ids_with_its_prefix() -> None:
    (figure,) = plots.draw({"stock": CURVE}).values()
    svg = inline_svg.convert(figure, "a<b", 'A "plot" <of> values.')
    root = ElementTree.fromstring(svg)
    ids = [each.attrib["id"] for each in root.iter() if "id" in each.attrib]
    assert len(ids) == len(set(ids))
    assert all(each.startswith("a<b-") for each in ids)
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-labelledby"] == root[0].attrib["id"]
    assert root[0].text == 'A "plot" <of> values.'
    assert "viewBox" in root.attrib
    assert "width" not in root.attrib


def test_same_data_gives_the_same_svg() -> None:
    first, second = (inline_svg.convert(plots.draw({"stock": LAG})["stock"], "a", "A plot.") for _ in "ab")
    assert first == second
