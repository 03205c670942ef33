"""`apply` in an environment on a small file system that becomes full."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_auth_patches.installation import installed, repair
from airflow_auth_patches.util.errors import Problem

STOCK = ["3.1.6", "3.3.0"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 80 MB, which is unmounted afterwards."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", folder]
    mounted = subprocess.run(words, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


QUICK, SLOW = (0, 8, 12, 48), (1, 2, 4, 6, 16, 24, 32, 40)


@pytest.mark.parametrize("free", [*QUICK, *(pytest.param(free, marks=pytest.mark.slow) for free in SLOW)])
def test_full_disk_leaves_a_working_or_a_repairable_airflow(small: Any, disk: Path, free: int) -> None:
    """The disk is full at another moment of the installation for each number of free pages of 4 KiB."""
    shutil.copytree(small.python.parents[1], disk / "env", symlinks=True)
    there = type(small)(disk / "env/bin/python", small.folder)
    assert there.versions == STOCK
    filler = disk / "filler"
    with filler.open("wb") as file:
        left = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        file.write(bytes(left - free * 4096))
    environment = {**os.environ, "TMPDIR": str(disk), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        there.apply_command, capture_output=True, text=True, check=False, env=environment, timeout=300
    )
    filler.unlink()
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or done.stderr.startswith("refused: "), done.stderr
    try:
        installed.look(there.python, there.pins)
    except Problem:
        assert done.returncode
        assert repair.repair(there.python, there.pins) is not None
    assert [version.partition("+")[0] for version in there.versions] == STOCK
    assert ("+" in there.versions[0]) is (done.returncode == 0)
