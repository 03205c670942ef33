"""The environments of a pair: one that is not complete is created again."""

from __future__ import annotations

import fcntl
from types import SimpleNamespace

import pytest

from airflow_auth_patches.installation import environments, pair_environments
from airflow_auth_patches.util.errors import Problem

NEW = "3.3.2+3.10.2"


def test_environment_is_incomplete_and_locked_while_patches_are_applied(tmp_path, monkeypatch, project, pins):
    folder = pair_environments.folder_of(tmp_path, pins.pair(NEW), "3.11", "patched")
    folder.mkdir(parents=True)
    (folder / ".ready").write_text(environments.specification(pins.pair(NEW), "3.11"))
    seen: list[bool] = []

    def apply(*_: object, put_back: bool) -> None:
        assert not put_back
        seen.append((folder / ".ready").exists())
        with folder.with_name(f".{folder.name}.lock").open() as lock:
            with pytest.raises(BlockingIOError):  # another process that wants the environment waits
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if len(seen) == 2:
            raise Problem("no")

    monkeypatch.setattr(pair_environments.apply, "plan", lambda *_, **__: SimpleNamespace(pending=(1,)))
    monkeypatch.setattr(pair_environments.apply, "apply", apply)
    pair_environments.patched_environment(tmp_path, project, pins, pins.pair(NEW), "3.11")
    assert (folder / ".ready").exists()
    with pytest.raises(Problem):
        pair_environments.patched_environment(tmp_path, project, pins, pins.pair(NEW), "3.11")
    assert seen == [False, False]
    assert not (folder / ".ready").exists()


def test_environment_that_cannot_be_installed_is_removed(tmp_path, monkeypatch, pins, python):
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/simple/")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(Problem, match="uv pip install"):
        environments.make(pins.pair(NEW), python, tmp_path / "environment")
    assert not (tmp_path / "environment").exists()
