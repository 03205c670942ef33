"""The repository that is named is the one that is meant, also inside a hook of another."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_auth_patches.contribute import branch, worktree
from airflow_auth_patches.releases.checkout import commit_of
from airflow_auth_patches.releases.releases import CORE, DISTRIBUTIONS, Pins


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=A Sender", "-c", "user.email=sender@example.org")
    command = ["git", "-C", str(folder), *who, *arguments]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=plain).stdout


def airflow(folder: Path) -> Path:
    """Make a checkout of Airflow, on a branch with one commit of its own."""
    for dist in DISTRIBUTIONS:
        package = folder / dist.root / "src" / dist.package
        package.mkdir(parents=True)
        (package / "__init__.py").write_text('__version__ = "3.3.2"\n')
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "as released")
    git(folder, "switch", "--quiet", "--create", folder.name)
    (folder / CORE.root / "src" / CORE.package / f"{folder.name}.py").write_text("x = 1\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "Change")
    return folder


def held(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a checkout, with git's variables as a hook of another checkout has them; that stays as it is."""
    named, callers = airflow(tmp_path / "named"), airflow(tmp_path / "callers")
    before = held(callers)
    monkeypatch.setenv("GIT_DIR", str(callers / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(callers))
    monkeypatch.setenv("GIT_INDEX_FILE", str(callers / ".git/index"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(callers / ".git/objects"))
    monkeypatch.setenv("GIT_PREFIX", "")
    yield named
    assert held(callers) == before


def test_a_branch_is_looked_at_where_it_is_named(named: Path) -> None:
    found = branch.look(named)
    assert (found.checkout, found.name) == (named, "named")
    assert found.changed == ("airflow-core/src/airflow/named.py",)
    assert list(branch.blobs(found)) == ["airflow/named.py"]


def test_a_branch_is_made_where_it_is_named(named: Path, pins: Pins) -> None:
    release = pins.release("apache-airflow-core==3.3.2")
    commit = commit_of(named, release)
    with worktree.applied(named, commit, release, []) as applied:
        assert (applied.folder / "airflow-core/src/airflow/named.py").read_bytes() == b"x = 1\n"
        worktree.create_branch(named, "made", applied.head)
    assert git(named, "rev-parse", "made") == git(named, "rev-parse", "named") == f"{commit}\n"
