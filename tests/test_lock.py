"""One process at a time changes an environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_auth_patches.installation.lock import locked
from airflow_auth_patches.util.errors import Exit, Problem

TOOL = Path(sys.executable).parent / "airflow-auth-patches"


@pytest.mark.parametrize("command", ["status", "apply", "revert", "repair"])
def test_second_process_is_refused(small, command):
    words = [] if command == "status" else ["--no-wait"]
    with locked(small.python):
        done = subprocess.run(
            [TOOL, command, "--python", small.python, *words], capture_output=True, text=True, check=False
        )
    assert done.returncode == Exit.REFUSED
    assert f"Another process changes {small.python.parents[1]}." in done.stderr


@pytest.mark.operator_task(9, "Run `apply` twice at the same time", "`apply`")
def test_second_process_waits_and_says_so(small):
    with locked(small.python):
        process = subprocess.Popen(
            [TOOL, "repair", "--python", small.python],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr.readline().startswith("waiting for another process")
        assert process.poll() is None
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert output.endswith("Nothing is damaged: nothing to do.\n")


def test_readers_share_the_lock(small):
    with locked(small.python, shared=True), locked(small.python, shared=True, wait=False):
        pass


def test_lock_lasts_until_the_installer_of_a_killed_process_ends(small, tmp_path):
    os.mkfifo(tmp_path / "go")
    start = small.site / "pip/__main__.py"
    start.unlink()
    start.write_text(f"import os; os.kill(os.getppid(), 9); open({str(tmp_path / 'go')!r}).read()")
    assert subprocess.run(small.apply_command, check=False, timeout=300).returncode == -9
    with pytest.raises(Problem, match="Another process changes"), locked(small.python, wait=False):
        pass
    (tmp_path / "go").write_text("")
    with locked(small.python):
        pass
