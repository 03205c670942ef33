"""How much of the disk is counted, where files have links elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

from airflow_auth_patches.util.disk import Use, used

SIZE = 64 * 1024


def blocks(*paths: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in paths)


def file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(SIZE))
    return path


def test_what_is_not_there_takes_nothing(tmp_path):
    assert used([]) == used([tmp_path / "nowhere"]) == Use(0, 0)


def test_a_file_with_one_link_is_own(tmp_path):
    one = file(tmp_path / "env" / "lib" / "one")
    assert blocks(one) >= SIZE
    assert used([tmp_path / "env"]) == Use(blocks(one, one.parent, tmp_path / "env"), 0)


def test_a_file_that_the_cache_has_too_is_shared_and_counted_once(tmp_path):
    cached = file(tmp_path / "cache" / "one")
    for name in ("stock", "patched"):
        (tmp_path / name).mkdir()
        os.link(cached, tmp_path / name / "one")
    folders = [tmp_path / "stock", tmp_path / "patched"]
    assert used(folders[:1]) == Use(blocks(folders[0]), blocks(cached))
    assert used(folders) == Use(blocks(*folders), blocks(cached))
    assert used([*folders, tmp_path / "cache"]) == Use(blocks(*folders, tmp_path / "cache", cached), 0)


def test_a_file_whose_links_are_all_in_the_folders_is_their_own(tmp_path):
    one = file(tmp_path / "env" / "one")
    (tmp_path / "env" / "other").mkdir()
    os.link(one, tmp_path / "env" / "other" / "one")
    assert used([tmp_path / "env"]) == Use(blocks(one, one.parent, one.parent / "other"), 0)
    assert used([tmp_path / "env" / "other"]) == Use(blocks(one.parent / "other"), blocks(one))


def test_symbolic_links_are_not_followed(tmp_path):
    elsewhere = file(tmp_path / "elsewhere" / "one")
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "lib").symlink_to(elsewhere.parent)
    (tmp_path / "env" / "lib64").symlink_to("lib")
    found = used([tmp_path / "env"])
    assert found.shared == 0
    assert found.own < SIZE
