"""The disk usage of folders whose files have hard links elsewhere."""

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


def test_missing_folder_uses_nothing(tmp_path):
    assert used([]) == used([tmp_path / "nowhere"]) == Use(0, 0)


def test_hard_link_to_another_folder_is_shared_and_counts_once(tmp_path):
    cached = file(tmp_path / "cache" / "one")
    for name in ("stock", "patched"):
        (tmp_path / name).mkdir()
        os.link(cached, tmp_path / name / "one")
    folders = [tmp_path / "stock", tmp_path / "patched"]
    assert used(folders[:1]) == Use(blocks(folders[0]), blocks(cached))
    assert used(folders) == Use(blocks(*folders), blocks(cached))
    assert used([*folders, tmp_path / "cache"]) == Use(blocks(*folders, tmp_path / "cache", cached), 0)


def test_file_is_own_when_all_its_links_are_in_the_folders(tmp_path):
    one = file(tmp_path / "env" / "one")
    assert blocks(one) >= SIZE
    assert used([tmp_path / "env"]) == Use(blocks(one, one.parent), 0)
    (tmp_path / "env" / "other").mkdir()
    os.link(one, tmp_path / "env" / "other" / "one")
    assert used([tmp_path / "env"]) == Use(blocks(one, one.parent, one.parent / "other"), 0)
    assert used([tmp_path / "env" / "other"]) == Use(blocks(one.parent / "other"), blocks(one))


def test_symbolic_links_are_not_followed(tmp_path):
    elsewhere = file(tmp_path / "elsewhere" / "one")
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "lib").symlink_to(elsewhere.parent)
    found = used([tmp_path / "env"])
    assert found.shared == 0
    assert found.own < SIZE
