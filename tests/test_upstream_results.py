"""The recorded results of upstream's own tests."""

from __future__ import annotations

from datetime import date

import pytest

from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.verification import upstream_results
from airflow_auth_patches.verification.upstream import Comparison

ONE = "1 passed, 1 failed, 1 skipped"
DAY = date(2026, 5, 1)
STOCK = {"t.py::a": "passed", "t.py::b": "failed: assert 0", "t.py::c": "skipped"}
SAME = Comparison(STOCK, STOCK)
BROKEN = Comparison(STOCK, {**STOCK, "t.py::a": "failed: assert 1"}, broken=("t.py::a",))


def test_replaces_the_same_tests_and_releases_and_keeps_the_others(tmp_path):
    path = tmp_path / "results" / "tests.json"
    upstream_results.record(path, "1.0+2.0", None, DAY, BROKEN)
    upstream_results.record(path, "1.0+2.0", "0123456789", DAY, SAME)
    upstream_results.record(path, "1.0+2.0", None, date(2026, 6, 2), SAME)
    assert [(row["tests"], row["measured"]) for row in upstream_results.read(path)] == [
        ("core", "2026-05-01"),
        ("provider", "2026-06-02"),
    ]


def test_table_has_the_counts_and_the_number_of_newly_failing_tests(tmp_path):
    path = tmp_path / "tests.json"
    upstream_results.record(path, "1.0+2.0", None, DAY, BROKEN)
    upstream_results.record(path, "1.1+2.0", "0123456789", DAY, SAME)
    assert upstream_results.table(path).splitlines()[2:] == [
        f"| core, commit `0123456789` | 1.1+2.0 | {ONE} | {ONE} | 0 | 2026-05-01 |",
        f"| provider's sdist | 1.0+2.0 | {ONE} | 0 passed, 2 failed, 1 skipped | 1 | 2026-05-01 |",
    ]


@pytest.mark.parametrize("text", ["", "[1]", '[{"tests": "core"}]'])
def test_refuses_a_file_that_is_no_record(text, tmp_path):
    path = tmp_path / "tests.json"
    path.write_text(text)
    with pytest.raises(Problem, match="is not a recorded result of upstream's tests"):
        upstream_results.record(path, "1.0+2.0", None, DAY, SAME)
    assert path.read_text() == text


def test_recorded_results_have_no_newly_failing_test(root):
    rows = upstream_results.read(root / upstream_results.FILE)
    assert {row["pair"] for row in rows if row["tests"] == "provider"} >= {"3.1.6+3.3.0", "3.3.2+3.10.2"}
    assert [(row["pair"], row["newly_failing"]) for row in rows if row["newly_failing"]] == []
