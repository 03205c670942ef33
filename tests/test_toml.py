"""A TOML file that is missing or broken gives one sentence that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_auth_patches.util import toml
from airflow_auth_patches.util.errors import Problem


def test_reads_tables(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text('[a]\nb = "ü"\n', encoding="utf-8")
    with toml.opened(path) as raw:
        assert raw == {"a": {"b": "ü"}}


def numbers(path: Path) -> list[int]:
    with toml.opened(path, "Write it again.") as raw:
        return [int(each) for each in raw["a"]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"a = ", "Invalid value"),
        (b"\xff", "can't decode"),
        (b"b = 1\n", "it lacks 'a'"),
        (b"a = 1\n", "not iterable"),
        (b"a = ['x']\n", "invalid literal"),
    ],
)
def test_refuses_broken_file_with_its_name_and_a_remedy(tmp_path, content, said):
    path = tmp_path / "x.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Problem, match=said) as told:
        numbers(path)
    assert str(told.value).startswith(f"{path} cannot be read: ")
    assert told.value.remedy == "Write it again."
