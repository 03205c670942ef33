"""The figure of the load tests with browser sessions, and its recorded result."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from airflow_auth_patches.demo import figure
from airflow_auth_patches.demo.scenarios.ui_load import LARGE_POOL, NO_LIMIT, PATCHED, PLUGIN, STOCK
from airflow_auth_patches.util.errors import Problem

DAY = date(2026, 3, 1)


def load(form: str, sessions: int, rate: float, lost: int = 0) -> dict[str, Any]:
    return {
        "form": form,
        "sessions": sessions,
        "requests": 200,
        "lost": lost,
        "requests_per_second": rate,
    }


def seen(*loads: Mapping[str, Any], **more: float) -> dict[str, Any]:
    return {"details": {"seconds": 15.0, "patience": 10.0, "loads": list(loads), **more}}


def rows() -> list[dict[str, Any]]:
    """Return a demonstration with another scenario and `ui-load` on two pairs."""
    ui = {
        "scenario": "ui-load",
        "stock": seen(load(STOCK, 5, 40), load(STOCK, 30, 6, lost=100)),
        "plugin": seen(load(PLUGIN, 5, 99), load(PLUGIN, 30, 110)),
        "patched": seen(
            *(load(PATCHED, 5, 100), load(PATCHED, 30, 118), load(PATCHED, 30, 90), load(PATCHED, 30, 120)),
            *(load(LARGE_POOL, 5, 101), load(LARGE_POOL, 30, 117)),
            *(load(NO_LIMIT, 5, 98), load(NO_LIMIT, 30, 15, lost=50)),
            ratio=0.97,
        ),
    }
    other = {"scenario": "sequence", "core": "3.2.2", "fab": "3.6.5", "stock": {"details": {}}}
    return [
        {**other, "plugin": None, "patched": {"details": {}}},
        *({**ui, "core": core, "fab": fab} for core, fab in (("3.2.2", "3.6.5"), ("3.3.2", "3.10.2"))),
    ]


def test_record_contains_load_tests_of_every_server() -> None:
    recorded = json.loads(json.dumps(figure.record(rows(), DAY)))
    assert list(recorded["pairs"]) == ["3.2.2+3.6.5", "3.3.2+3.10.2"]
    assert (recorded["measured"], recorded["seconds"], recorded["patience"]) == ("2026-03-01", 15, 10)
    pair = recorded["pairs"]["3.3.2+3.10.2"]
    assert pair["ratio"] == 0.97
    assert {each["form"] for each in pair["loads"]} == {STOCK, PLUGIN, PATCHED, LARGE_POOL, NO_LIMIT}
    assert len(pair["loads"]) == 12


def test_record_omits_missing_measurements() -> None:
    first, second, third = rows()
    second["patched"] = {"details": {}}
    third.update({build: {"details": {}} for build in ("stock", "plugin", "patched")})
    recorded = figure.record([first, second, third], DAY)
    assert list(recorded["pairs"]) == ["3.2.2+3.6.5"]
    assert recorded["pairs"]["3.2.2+3.6.5"]["ratio"] is None
    assert figure.record([first, third], DAY) == {}


def test_draws_median_of_repeated_load_tests() -> None:
    lines = figure.points([*(load(PATCHED, 30, rate, lost) for rate, lost in ((118, 0), (90, 2), (120, 1)))])
    assert lines == {PATCHED: [(30, 118, 0.5)]}


def test_svg_is_valid_and_names_every_server_and_pair(tmp_path: Path) -> None:
    target = tmp_path / "a.svg"
    figure.draw(figure.record(rows(), DAY), target)
    root = ElementTree.parse(target).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = {"".join(each.itertext()).strip() for each in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {STOCK, PLUGIN, PATCHED, LARGE_POOL, NO_LIMIT} <= texts
    assert {f"requests/s: core {core}" for core in ("3.2.2, FAB 3.6.5", "3.3.2, FAB 3.10.2")} <= texts
    assert {"browser sessions", "lost requests, %: core 3.3.2, FAB 3.10.2", "5", "30"} <= texts


def test_same_data_gives_the_same_bytes(tmp_path: Path) -> None:
    recorded = figure.record(rows(), DAY)
    for name in ("a.svg", "b.svg"):
        figure.draw(recorded, tmp_path / name)
    text = (tmp_path / "a.svg").read_bytes()
    assert text == (tmp_path / "b.svg").read_bytes()
    assert b"dc:date" not in text
    assert b"Matplotlib" not in text


def test_demonstration_writes_result_and_figure_which_the_module_draws_again(tmp_path: Path) -> None:
    assert figure.write(rows(), tmp_path, DAY) == tmp_path / "ui-load.svg"
    assert figure.load(tmp_path / "ui-load.json") == figure.record(rows(), DAY)
    command = [sys.executable, "-m", figure.__name__, tmp_path / "ui-load.json", tmp_path / "again.svg"]
    subprocess.run(command, check=True, timeout=120)
    assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "ui-load.svg").read_bytes()


def test_demonstration_without_the_scenario_writes_nothing(tmp_path: Path) -> None:
    assert figure.write(rows()[:1], tmp_path, DAY) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"scenario": "other", "pairs": {"a+b": {}}}'])
def test_rejects_file_that_is_not_a_recorded_result(tmp_path: Path, text: str | None) -> None:
    result = tmp_path / "result.json"
    if text is not None:
        result.write_text(text)
    with pytest.raises(Problem, match="is not a recorded result of ui-load") as raised:
        figure.load(result)
    assert "Run `airflow-auth-patches" in raised.value.remedy
