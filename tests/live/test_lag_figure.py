"""The figure of the event-loop lag while tables are locked, and its recorded result."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from airflow_auth_patches.demo import figure, lag_figure, plot_data
from airflow_auth_patches.util.errors import Problem

DAY = date(2026, 3, 1)


def seen(*lags: float) -> dict[str, Any]:
    """Return an observation with the highest lag while each of two tables is locked."""
    runs = {name: [(0.5, lag)] for name, lag in zip(("a locked", "b locked"), lags, strict=False)}
    return {"details": {"plots": [plot_data.lag(runs, dict.fromkeys(runs, (0.4, 8.4)))] if runs else []}}


def row(core: str, stock: Sequence[float] = (8, 7.5), scenario: str = "table-locked") -> dict[str, Any]:
    return {
        "scenario": scenario,
        "core": core,
        "fab": "3.10.2",
        "stock": seen(*stock),
        "patched": seen(0.01, 0.02),
    }


def test_record_contains_lag_of_both_builds_on_each_pair() -> None:
    rows = [row("3.2.2"), row("3.3.2"), row("3.3.2", scenario="peer-silent"), row("3.3.1", stock=())]
    recorded = json.loads(json.dumps(lag_figure.record(rows, DAY)))
    assert list(recorded["pairs"]) == ["3.2.2+3.10.2", "3.3.2+3.10.2"]
    assert (recorded["scenario"], recorded["measured"]) == ("table-locked", "2026-03-01")
    lags = recorded["pairs"]["3.3.2+3.10.2"]
    assert [lags[build]["runs"][0]["points"] for build in ("stock", "patched")] == [[[0.5, 8]], [[0.5, 0.01]]]
    assert lag_figure.record(rows[2:], DAY) == {}


@pytest.mark.parametrize("stock", [(8, 7.5), (8,)], ids=["both", "the server hung after the first"])
def test_svg_is_valid_and_names_tables_builds_and_newest_pair(tmp_path: Path, stock: Sequence[float]) -> None:
    target = tmp_path / "a.svg"
    lag_figure.draw(lag_figure.record([row("3.2.2"), row("3.3.2", stock)], DAY), target)
    root = ElementTree.parse(target).getroot()
    texts = {"".join(each.itertext()).strip() for each in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {
        "Event-loop lag: core 3.3.2, FAB 3.10.2",
        "stock, a locked: up to 8.00 s",
        "patched, a locked: up to 0.01 s",
        "patched, b locked: up to 0.02 s",
    } <= texts
    assert ("stock, b locked: up to 7.50 s" in texts) is (len(stock) == 2)


def test_demonstration_writes_result_which_the_module_draws(tmp_path: Path) -> None:
    rows = [row("3.2.2"), row("3.3.2")]
    lag_figure.write(rows, tmp_path, DAY)
    result = tmp_path / "table-locked.json"
    assert figure.load(result, lag_figure.SCENARIO) == lag_figure.record(rows, DAY)
    lag_figure.draw(lag_figure.record(rows, DAY), tmp_path / "a.svg")
    command = [sys.executable, "-m", lag_figure.__name__, result, tmp_path / "b.svg"]
    subprocess.run(command, check=True, timeout=120)
    text = (tmp_path / "a.svg").read_bytes()
    assert text == (tmp_path / "b.svg").read_bytes()
    assert b"dc:date" not in text


def test_demonstration_without_the_scenario_writes_nothing(tmp_path: Path) -> None:
    lag_figure.write([row("3.3.2", scenario="peer-silent")], tmp_path, DAY)
    assert list(tmp_path.iterdir()) == []


def test_rejects_result_of_another_scenario(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    result.write_text('{"scenario": "ui-load", "pairs": {"a+b": {}}}')
    with pytest.raises(Problem, match="is not a recorded result of table-locked"):
        figure.load(result, lag_figure.SCENARIO)
