"""The tables and the JSON data of a demonstration."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from airflow_auth_patches.demo.load import Answer, Request, Result
from airflow_auth_patches.demo.outcomes import Measurement, Observation, Outcome
from airflow_auth_patches.demo.report import Row, as_data, brief, faults, table
from airflow_auth_patches.demo.scenarios import ALL, choose


def observation(*outcomes: str) -> Observation:
    answers = [Answer(Request("GET", "/"), outcome, number / 10) for number, outcome in enumerate(outcomes)]
    measurement = Measurement("30 at once", Result(answers, 2.5), deadline=15)
    failed = bool(measurement.result.failures)
    return Observation(str(measurement), failed, (measurement,), pool_timeouts=3, log_errors={"KeyError": 1})


def row(outcome: Outcome, name: str = "pool-distinct-tokens", pair: str = "") -> Row:
    (scenario,) = (scenario for scenario in ALL if scenario.name == name)
    logs = {kind: Path("build") / f"{kind}.log" for kind in ("stock", "patched")}
    stock, patched = observation("200", "500", "no answer"), observation("200", "200", "200")
    return Row(scenario, pair or scenario.pairs[0], stock, patched, outcome, logs)


def printed(rows: list[Row], width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table(rows))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("outcome", list(Outcome))
def test_table_contains_all_scenarios_and_fits_width(outcome: Outcome, width: int) -> None:
    text = printed([row(outcome, each.name, pair) for each in ALL for pair in each.pairs], width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "…" not in text
    words = " ".join(text.split())
    if width == 100:
        assert "(1 x 500, 1 no answer)" in words
        assert all(scenario.name in words for scenario in ALL)
    for word in ("scenario", "releases", "3.1.6", "+3.10.2", "outcome", outcome.value):
        assert word in words


def test_brief_table_fits_a_screen() -> None:
    sees = "5 at once: 10 of 10 fail (10 x 500); 20 at once: 20 of 20 fail (18 x 500, 2 no answer)"
    rows = [
        replace(row(Outcome.CURED, each.name, pair), stock=Observation(sees, failed=True))
        for each in choose([])
        for pair in each.pairs
    ]
    console = Console(file=io.StringIO(), width=100)
    console.print(brief(rows))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert len(lines) <= 30
    assert max(map(len, map(str.rstrip, lines))) <= 100
    assert "…" not in console.file.getvalue()
    words = " ".join(console.file.getvalue().split())
    assert all(each.name in words for each in choose([]))


def test_table_contains_deadline_and_pool_time_out() -> None:
    words = " ".join(
        line[:22].strip() for line in printed([row(Outcome.CURED)], 100).splitlines()
    )  # the first column
    assert "pool_timeout 5 s" in words
    assert "deadline 25 s" in words


def test_table_escapes_markup() -> None:
    observed = Observation("not measured: [red]ended[/] [/x]", failed=True)
    base = row(Outcome.NOT_CURED)
    text = printed([Row(base.scenario, base.pair, observed, observed, base.outcome, base.logs)], 100)
    assert "[red]ended[/]" in " ".join(text.split())


def test_reports_observation_with_minimal_patches() -> None:
    base = row(Outcome.CURED)
    both = replace(
        base,
        logs={**base.logs, "minimal": Path("build/minimal.log")},
        minimal=Observation("20 of 20 [fail]", failed=True),
        database="MariaDB",
    )
    words = " ".join(printed([both], 100).split())
    assert "with the minimal" in words  # the column is wrapped after it
    assert "20 of 20 [fail]" in words
    assert "MariaDB" in words
    data, plain = as_data([both, base])
    assert (data["database"], data["minimal"]["sees"]) == ("MariaDB", "20 of 20 [fail]")
    assert data["minimal"]["log"] == "build/minimal.log"
    assert (plain["database"], plain["minimal"]) == ("PostgreSQL", None)
    bad = replace(both, outcome=Outcome.NOT_CURED)
    assert faults([bad])[0].startswith("pool-distinct-tokens on 3.2.0+3.6.0 on MariaDB is not cured: ")


def test_reports_observation_with_plugin() -> None:
    base = row(Outcome.NOT_CURED)
    both = replace(
        base,
        logs={**base.logs, "plugin": Path("build/plugin.log")},
        plugin=Observation("60 of 60 [fail]", failed=True),
    )
    words = " ".join(printed([both], 100).split())
    assert "with the plugin:" in words
    assert "60 of 60 [fail]" in words
    data, plain = as_data([both, base])
    assert (data["plugin"]["sees"], data["plugin"]["log"]) == ("60 of 60 [fail]", "build/plugin.log")
    assert plain["plugin"] is None
    assert "; stock with the plugin: 60 of 60 [fail]; patched: " in faults([both])[0]


def test_faults_describe_unsuccessful_outcomes() -> None:
    assert faults([row(Outcome.CURED), row(Outcome.WORKS, "sequence")]) == []
    bad = [row(Outcome.NOT_CURED), row(Outcome.NOT_SHOWN), row(Outcome.BROKEN, "sequence")]
    for fault, name in zip(faults(bad), ("not cured", "not shown", "broken"), strict=True):
        assert f"is {name}: stock: 30 at once: 2 of 3 fail (1 x 500, 1 no answer); patched: " in fault


def test_data_is_json_serializable_and_complete() -> None:
    (data,) = json.loads(json.dumps(as_data([row(Outcome.CURED)])))
    assert (data["core"], data["fab"]) == ("3.2.0", "3.6.0")
    assert data["outcome"] == "cured"
    assert data["settings"]["pool_size"] == 3
    stock = data["stock"]
    assert (stock["failed"], stock["pool_timeouts"], stock["log_errors"]) == (True, 3, {"KeyError": 1})
    assert stock["log"] == "build/stock.log"
    assert stock["measurements"] == [
        {
            "name": "30 at once",
            "rounds": 1,
            "planned_rounds": 1,
            "requests": 3,
            "failed": 2,
            "unfinished": 1,
            "outcomes": {"200": 1, "500": 1, "no answer": 1},
            "deadline": 15,
            "wall": 2.5,
            "p50": 0.1,
            "p95": 0.19,
            "p99": 0.198,
        }
    ]
