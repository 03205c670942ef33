"""Run one scenario from the command line on real servers, as `make demo` does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.live
TOOL = Path(sys.executable).parent / "airflow-auth-patches"
COMMAND = [str(TOOL), "demo", "--only", "session-cleanup", "--json"]


def strays(mark: str) -> list[str]:
    """Return the processes, but this one, whose environment has the mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and mark in process.environ().get("END_TO_END", ""):
                found.append(process.name())
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def test_scenario_is_cured_and_leaves_no_process(tmp_path):
    environment = {**os.environ, "END_TO_END": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=False, timeout=900, env=environment)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["scenario"], row["outcome"]) == ("session-cleanup", "cured")
    stock, patched = (row[side]["measurements"][0] for side in ("stock", "patched"))
    assert stock["outcomes"] == {"500": 20}
    assert patched["outcomes"] == {"200": 20}
    assert row["patched"]["warnings"] == 0  # with user-session nothing is left open that could fail to close
    assert strays(str(tmp_path)) == []


@pytest.mark.slow
def test_ctrl_c_leaves_no_process(tmp_path):
    environment = {**os.environ, "END_TO_END": str(tmp_path), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:  # without a terminal each step is told in a line
            if line.startswith("session-cleanup on 3.1.6+3.3.0: stock"):
                break
        assert "postgres" in strays(str(tmp_path))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=300)
    assert process.returncode == 130
    assert strays(str(tmp_path)) == []
