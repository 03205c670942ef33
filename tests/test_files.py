"""Writing a file atomically, and removing a folder."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.files import remove_folder, write_whole


def test_concurrent_writers_leave_one_whole_file(tmp_path):
    texts = [letter * 10_000 for letter in "abcd"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: write_whole(tmp_path / "file", texts[number % 4]), range(400)))
    assert (tmp_path / "file").read_text() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_file_that_cannot_be_written_is_a_problem(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Problem, match="cannot be written"):
        write_whole(tmp_path / "file" / "below", "text")


def test_removes_a_folder_but_not_what_its_links_lead_to(tmp_path):
    folder, kept = tmp_path / "folder", tmp_path / "kept"
    (folder / "a/b").mkdir(parents=True)
    kept.mkdir()
    for place in (folder, folder / "a/b", kept):
        (place / "file").write_text("text")
    (folder / "link").symlink_to(kept)
    (folder / "broken").symlink_to("nothing")
    remove_folder(folder)
    remove_folder(folder)  # it is missing now
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (kept / "file").read_text() == "text"
