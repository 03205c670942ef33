"""A test whose database is not installed is skipped, and fails if every database is required."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PLUGIN = "from airflow_auth_patches.demo import mariadb\n\nmariadb.SEARCH_PATH = ''\n"
TEST = "tests/live/test_databases.py::test_reports_why_it_does_not_start[MariaDB-ibdata1-nonsense]"


@pytest.mark.parametrize(
    ("every", "ended", "said"),
    [(None, 0, "SKIPPED [1] tests/conftest.py"), ("1", 1, "FAILED tests/live/test_databases.py")],
)
def test_missing_database_skips_a_test_unless_every_one_is_required(root, tmp_path, every, ended, said):
    (tmp_path / "without_mariadb.py").write_text(PLUGIN)
    variables = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{root / 'src'}",
        "AUTH_PATCHES_EVERY_DATABASE": every or "",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rsf", "-p", "without_mariadb", "-p", "no:cacheprovider", TEST],
        cwd=root,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == ended, done.stdout
    assert said in done.stdout
    assert "MariaDB is not installed: mariadbd was not found. Install it: apt-get install" in done.stdout
