"""Programs that never outlive us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_auth_patches.demo.managed import ManagedProcess
from airflow_auth_patches.util.errors import Problem

Living = Callable[..., str]


def kept(code: str, folder: Path, **options: float) -> ManagedProcess:
    return ManagedProcess(
        [sys.executable, "-c", code], env=os.environ, cwd=folder, log=folder / "log", **options
    )


def test_ends_with_the_block(life: Any, living: Living, tmp_path: Path) -> None:
    with kept(living(), tmp_path) as program:
        life.line()
        assert program.running
    assert not program.running
    life.gone()


def test_kills_what_does_not_end(life: Any, living: Living, tmp_path: Path) -> None:
    with kept(living(stubborn=True), tmp_path, grace=0.1):
        life.line()
    life.gone()


def test_kills_a_child_that_was_left_behind(life: Any, living: Living, tmp_path: Path) -> None:
    with kept(living(stays=False), tmp_path) as program:
        life.line()
        assert program.wait(60) == 0
    life.gone()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_ends_with_its_parent(life: Any, living: Living, tmp_path: Path, number: signal.Signals) -> None:
    parent = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from airflow_auth_patches.demo.managed import ManagedProcess
        here = Path(sys.argv[1])
        command = [sys.executable, "-c", sys.argv[2]]
        program = ManagedProcess(command, env=os.environ, cwd=here, log=here / "log", grace=0.1)
        signal.pause()
        """
    )
    with subprocess.Popen([sys.executable, "-c", parent, tmp_path, living(stubborn=True)]) as process:
        life.line()
        process.send_signal(number)
        assert process.wait(60) == -number
    life.gone()


@pytest.mark.parametrize(("code", "expected"), [("", 0), ("raise SystemExit(7)", 7)])
def test_tells_the_exit_code(tmp_path: Path, code: str, expected: int) -> None:
    with kept(code, tmp_path) as program:
        assert program.wait(60) == expected


def test_tells_the_signal_that_ended_it(tmp_path: Path) -> None:
    with kept("import os; os.kill(os.getpid(), 9)", tmp_path) as program:
        assert program.wait(60) == 137


def test_names_a_program_that_is_not_there(tmp_path: Path) -> None:
    with ManagedProcess(
        [tmp_path / "nothing"], env=os.environ, cwd=tmp_path, log=tmp_path / "log"
    ) as program:
        with pytest.raises(Problem, match=r"(?s)A test failed with exit code 127.*nothing: No such file"):
            program.finish(60, "A test")


def test_tells_what_failed(tmp_path: Path) -> None:
    with kept("raise SystemExit('out of luck')", tmp_path) as program:
        with pytest.raises(Problem, match=r"(?s)A test failed with exit code 1:.*out of luck"):
            program.finish(60, "A test")


def test_ends_what_takes_too_long(life: Any, living: Living, tmp_path: Path) -> None:
    with kept(living(), tmp_path) as program:
        life.line()
        with pytest.raises(Problem, match=r"A test took longer than 0 s"):
            program.finish(0, "A test")
        life.gone()
