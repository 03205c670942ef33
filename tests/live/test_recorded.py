"""The recorded results of the demonstration."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from airflow_auth_patches.demo import recorded
from airflow_auth_patches.demo.outcomes import Observation, Outcome
from airflow_auth_patches.demo.report import Row, as_data
from airflow_auth_patches.demo.scenarios import ALL
from airflow_auth_patches.util.errors import Problem

NAMES = [scenario.name for scenario in ALL]
DAY = date(2026, 5, 1)


def data(name: str, sees: str = "0 of 20 fail", **changes: Any) -> Mapping[str, Any]:
    """Return a row of a demonstration as plain data."""
    (scenario,) = (each for each in ALL if each.name == name)
    stock = Observation("5 at once: 5 of 5 fail; a|b", failed=True, details={"loop": {"sites": []}})
    patched = Observation(sees, failed=False)
    logs = {build: Path("/somewhere") / f"{build}.log" for build in ("stock", "patched")}
    options = {"outcome": Outcome.CURED, **changes}
    (row,) = as_data([Row(scenario, scenario.pairs[0], stock, patched, logs=logs, **options)])
    return row


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "demonstration.json"


def test_replaces_rows_that_were_run_again_and_keeps_the_others(path: Path) -> None:
    recorded.record(path, [data("token-race", "old"), data("session-cleanup", "kept")], DAY, "3.11", NAMES)
    recorded.record(path, [data("token-race", "new")], date(2026, 6, 2), "3.12", NAMES)
    rows = recorded.read(path)
    assert [(row["scenario"], row["patched"]["sees"], row["measured"], row["python"]) for row in rows] == [
        ("session-cleanup", "kept", "2026-05-01", "3.11"),
        ("token-race", "new", "2026-06-02", "3.12"),
    ]


def test_keeps_row_when_database_is_missing_in_later_run(path: Path) -> None:
    recorded.record(path, [data("token-race", "measured")], DAY, "3.11", NAMES)
    recorded.record(path, [data("token-race", "absent", outcome=Outcome.NOT_RUN)], DAY, "3.11", NAMES)
    assert [row["patched"]["sees"] for row in recorded.read(path)] == ["measured"]


def test_drops_rows_of_scenarios_that_no_longer_exist(path: Path) -> None:
    recorded.record(path, [data("token-race"), data("session-cleanup")], DAY, "3.11", NAMES)
    recorded.record(path, [], DAY, "3.11", ["token-race"])
    assert [row["scenario"] for row in recorded.read(path)] == ["token-race"]


def test_records_numbers_and_call_sites_but_no_path(path: Path) -> None:
    row = dict(data("route-sweep"))
    site = {"kind": "statements", "site": "models/pool.py:f", "count": 3, "routes": {"GET /pools": 3}}
    loop = {"statements": 3, "exempt": {}, "sites": [site], "stops": {"/venv/lib/x.py:1": 1}}
    details = {"loop": loop, "slowest_version": 0.5, "told": {"a": "/x"}, "plots": [{"kind": "lag"}]}
    row["stock"] = {**row["stock"], "details": details}
    recorded.record(path, [row], DAY, "3.11", NAMES)
    (kept,) = recorded.read(path)
    assert kept["stock"]["details"] == {
        "loop": {"statements": 3},
        "sites": [["statements", "models/pool.py:f", 3]],
        "slowest_version": 0.5,
        "told": {},
    }
    assert "/somewhere" not in path.read_text()
    assert "/venv" not in path.read_text()


@pytest.mark.parametrize("text", ["", "{}1", '[{"scenario": "token-race"}]', "[1]", '"x"'])
def test_rejects_file_that_is_not_a_recorded_demonstration(text: str, path: Path) -> None:
    path.write_text(text)
    with pytest.raises(Problem, match="is not a recorded demonstration"):
        recorded.record(path, [data("token-race")], DAY, "3.11", NAMES)
    assert path.read_text() == text


def test_table_has_date_once_when_all_rows_share_it(path: Path) -> None:
    plugin = Observation("60 of 60", failed=False)
    rows = [dict(data("token-race")), dict(data("session-cleanup"))]
    rows[0]["plugin"] = {**rows[0]["stock"], "sees": plugin.sees}
    rows[1]["database"] = "MariaDB"
    recorded.record(path, rows, DAY, "3.11", NAMES)
    text = recorded.table(recorded.read(path))
    assert text.startswith("Measured on 1 May 2026 on ")
    assert "| scenario | releases | stock | patched |\n" in text
    assert (
        "| `token-race` | 3.1.6+3.3.0 | 5 at once: 5 of 5 fail<br>a\\|b<br>with the plugin: 60 of 60 |"
        in text
    )
    assert "| `session-cleanup` | 3.1.6+3.3.0 on MariaDB |" in text


def test_table_has_date_column_when_dates_differ(path: Path) -> None:
    recorded.record(path, [data("token-race")], DAY, "3.11", NAMES)
    recorded.record(path, [data("session-cleanup")], date(2026, 6, 2), "3.11", NAMES)
    text = recorded.table(recorded.read(path))
    assert "| scenario | releases | stock | patched | measured |\n" in text
    assert text.splitlines()[-1].endswith("| 1 May 2026 |")


def test_page_of_bug_contains_scenarios_that_show_it(path: Path) -> None:
    recorded.record(path, [data("token-race"), data("session-cleanup")], DAY, "3.11", NAMES)
    text = recorded.of_bugs(path, "dead-connection-500")
    assert text.startswith("- `session-cleanup`: 20 rounds")
    assert "token-race" not in text
    with pytest.raises(Problem, match="No recorded scenario shows no-such-bug"):
        recorded.of_bugs(path, "dead-connection-500", "no-such-bug")


def test_recorded_results_of_the_project_are_whole(root: Path) -> None:
    """Every scenario has a recorded outcome on each of its releases and databases, and all are good."""
    rows = recorded.read(root / recorded.FILE)
    assert {(row["scenario"], f"{row['core']}+{row['fab']}", row["database"]) for row in rows} == {
        (scenario.name, pair, database)
        for scenario in ALL
        for pair in scenario.pairs
        for database in scenario.databases
    }
    assert [row["scenario"] for row in rows if not Outcome(row["outcome"]).good] == []
