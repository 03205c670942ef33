"""The tables for operators name the marked tests, and what kills leave."""

from __future__ import annotations

from airflow_auth_patches.verification.operator_tasks import kills, tasks

TESTS = """\
import pytest

@pytest.mark.operator_task(2, "Second", "`apply`")
@pytest.mark.slow
def test_second():
    pass

def test_not_marked():
    pass

@pytest.mark.operator_task(1, "First", "`status`")
def test_first(small):
    pass
"""


def test_marked_tests_are_listed_in_the_order_of_their_numbers(tmp_path):
    (tmp_path / "live").mkdir()
    (tmp_path / "live/test_it.py").write_text(TESTS)
    assert [line.split("|")[1:4] for line in tasks(tmp_path).splitlines()[2:]] == [
        [" First ", " `status` ", " `live/test_it.py::test_first` "],
        [" Second ", " `apply` ", " `live/test_it.py::test_second` "],
    ]


def test_kills_are_listed_with_what_they_leave(tmp_path):
    record = '[{"installer": "uv", "killed": "both", "stock": 1, "repaired": 2}]'
    (tmp_path / "kills.json").write_text(record)
    (line,) = kills(tmp_path / "kills.json").splitlines()[2:]
    assert line == "| uv | the tool and uv | 3 | 1 | 0 | 2 |"
