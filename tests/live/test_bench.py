"""The benchmark: the order of its rounds, servers that lose requests, and its recorded results."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from airflow_auth_patches.demo import bench, bench_figure, bench_results
from airflow_auth_patches.demo.bench import LARGE_POOL, PATCHED, PLUGIN, SERVERS, STOCK
from airflow_auth_patches.demo.bench_loads import LOADS, Load, Sample
from airflow_auth_patches.demo.server import Server
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.progress import Silent

PAIR = "3.3.2+3.10.2"


def sample(rate: float, lost: int = 0) -> Sample:
    return Sample(60, lost, rate, 0.1, 0.2, 0.3, 0.05)


def measured(**rates: Sequence[float]) -> dict[str, Any]:
    """Return recorded rounds of a load on each server; stock loses every request."""
    names = {"stock": STOCK, "plugin": PLUGIN, "patched": PATCHED, "large": LARGE_POOL}
    servers = {
        names[name]: [
            {"round": number, **sample(rate, 60 if name == "stock" else 0).data()}
            for number, rate in enumerate(values, 1)
        ]
        for name, values in rates.items()
    }
    return {
        "measured": "2026-11-30",
        "cpus": 2,
        "machine": "x86_64",
        "rounds": 5,
        "loads": {"one-token": {"about": "60 requests", "servers": servers}},
    }


@pytest.fixture
def recorded() -> dict[str, Any]:
    return measured(
        stock=(2.0, 0.0),
        plugin=(50.0, 51.0, 49.0, 50.0, 52.0),
        patched=(100.0, 102.0, 98.0, 101.0, 100.0),
        large=(100.0, 90.0, 110.0, 105.0, 95.0),
    )


@pytest.fixture
def run(fake: Callable[[str], Environment], pins: Pins, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    environment = fake("serves")

    def measure(load: Load, rounds: int) -> dict[str, Any]:
        found = bench.measure(
            pins.pair(PAIR),
            environment,
            environment,
            [load],
            rounds=rounds,
            logs=tmp_path / "logs",
            progress=Silent(),
        )
        return found["loads"][load.name]["servers"]

    return measure


def test_servers_are_measured_in_turn_and_in_reverse(run: Callable[..., dict[str, Any]]) -> None:
    order: list[str] = []

    def record_name(server: Server, _: Sequence[int]) -> Sample:
        order.append(server.name)
        return sample(1.0)

    found = run(Load("load", "", record_name), 3)
    assert len(set(order)) == len(SERVERS)
    assert order[4:8] == order[3::-1] == order[:7:-1]
    assert {name: [each["round"] for each in samples] for name, samples in found.items()} == {
        key: [1, 2, 3] for key in SERVERS
    }


def test_a_server_that_loses_requests_is_restarted_and_measured_twice(
    run: Callable[..., dict[str, Any]],
) -> None:
    processes: Counter[tuple[str, int]] = Counter()

    def lose(server: Server, _: Sequence[int]) -> Sample:
        plugin = server.settings.admission_plugin
        assert server.healthy()
        processes[server.name, server.log.read_text().count("serving")] += 1
        return sample(1.0, 5 if plugin else 0)

    found = run(Load("load", "", lose), 4)
    assert {name: len(samples) for name, samples in found.items()} == {
        **dict.fromkeys(SERVERS, 4),
        PLUGIN: 2,
    }
    # The second round of the server that lost requests ran on a new process.
    assert sorted(processes.values()) == [1, 1, 4, 4, 4]


def test_settings_of_the_servers() -> None:
    load = LOADS[0]
    assert bench.settings_of(STOCK, load) == bench.settings_of(PATCHED, load) == load.settings
    assert bench.settings_of(PLUGIN, load).admission_plugin
    assert bench.settings_of(LARGE_POOL, load).pool_size == 40


def test_ratio_is_shown_only_if_the_interval_excludes_1(recorded: dict[str, Any]) -> None:
    rows = {row.server: row.cells() for row in bench_results.rows(recorded)}
    assert rows[STOCK][2:4] == ["1.0", "120 of 120"]
    assert rows[PLUGIN][-1].startswith("0.5")
    assert rows[PATCHED][-1].startswith("not shown (0.89 to 1.13)")
    # Only the rounds in which stock served a request count.
    assert rows[PATCHED][-2] == "50 (50 to 50)"
    assert rows[LARGE_POOL][-1] == "-"


def test_recording_a_load_keeps_the_other_loads_and_pairs(tmp_path: Path, recorded: dict[str, Any]) -> None:
    file = tmp_path / "bench.json"
    bench_results.record(file, PAIR, recorded, "3.11")
    bench_results.record(file, "3.2.2+3.6.5", recorded, "3.11")
    newer = {**recorded, "loads": {"ui-load": recorded["loads"]["one-token"]}}
    bench_results.record(file, PAIR, newer, "3.11")
    found = bench_results.read(file)
    assert {pair: list(each["loads"]) for pair, each in found.items()} == {
        "3.2.2+3.6.5": ["one-token"],
        PAIR: ["one-token", "ui-load"],
    }
    table = bench_results.table(found, PAIR)
    assert "Core 3.3.2 with provider 3.10.2, Python 3.11" in table
    assert len(table.splitlines()) == 2 + 2 + 2 * len(SERVERS)


@pytest.mark.parametrize("text", ["", "[]", '{"pairs": {"3.3.2+3.10.2": {}}}'])
def test_reports_a_file_that_is_not_a_recorded_benchmark(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bench.json"
    file.write_text(text)
    with pytest.raises(Problem, match="is not a recorded benchmark"):
        bench_results.read(file)


def test_rows_are_serializable(recorded: dict[str, Any]) -> None:
    (row,) = (row for row in bench_results.rows(recorded) if row.server == PATCHED)
    ratio = json.loads(json.dumps(row.data()))["ratios"][STOCK]
    assert ratio == {"median": 50.0, "low": 50.0, "high": 50.0, "shown": True}


def test_figure_has_a_place_for_each_ratio_and_is_reproducible(
    tmp_path: Path, recorded: dict[str, Any]
) -> None:
    files = tmp_path / "first.svg", tmp_path / "second.svg"
    for file in files:
        bench_figure.draw({PAIR: recorded, "3.2.2+3.6.5": recorded}, file)
    first, second = (file.read_text() for file in files)
    assert first == second
    for text in ("one-token", "core 3.3.2, FAB 3.10.2", "core 3.2.2, FAB 3.6.5", STOCK, PLUGIN, PATCHED):
        assert f">{text}<" in first
    changed = measured(stock=(2.0, 0.0), plugin=(5.0,), patched=(100.0,), large=(100.0, 90.0))
    bench_figure.draw({PAIR: changed, "3.2.2+3.6.5": recorded}, files[1])
    assert files[1].read_text() != first
