"""Managed processes always end with this process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from airflow_auth_patches.demo.managed import ManagedProcess, all_stopped
from airflow_auth_patches.util.errors import Problem

ProgramCode = Callable[..., str]


def start(code: str, folder: Path, **options: float) -> ManagedProcess:
    return ManagedProcess(
        [sys.executable, "-c", code], env=os.environ, cwd=folder, log=folder / "log", **options
    )


def test_stops_program_at_end_of_block(fifo: Any, program_code: ProgramCode, tmp_path: Path) -> None:
    with start(program_code(), tmp_path) as program:
        fifo.read_line()
        assert program.running
    assert not program.running
    fifo.wait_closed()


def test_kills_program_that_ignores_stop_signal(fifo: Any, program_code: ProgramCode, tmp_path: Path) -> None:
    with start(program_code(stubborn=True), tmp_path, grace=0.1):
        fifo.read_line()
    fifo.wait_closed()


def test_kills_child_of_program_that_ended(fifo: Any, program_code: ProgramCode, tmp_path: Path) -> None:
    with start(program_code(stays=False), tmp_path) as program:
        fifo.read_line()
        assert program.wait(60) == 0
    fifo.wait_closed()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_stops_program_when_parent_is_killed(
    fifo: Any, program_code: ProgramCode, tmp_path: Path, number: signal.Signals
) -> None:
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
    with subprocess.Popen([sys.executable, "-c", parent, tmp_path, program_code(stubborn=True)]) as process:
        fifo.read_line()
        process.send_signal(number)
        assert process.wait(60) == -number
    fifo.wait_closed()


#: Ends by itself only after another program was asked to end too.
MUTUAL = """
import os, signal, sys
ours, other = (os.open(path, os.O_RDWR) for path in {})
def ask(*_):
    os.write(other, b"asked")
    os.read(ours, 5)
    open({!r}, "w").close()
    os._exit(0)
signal.signal(signal.SIGTERM, ask)
open({!r}, "w").write("started\\n")
while True:
    signal.pause()
"""


def test_stops_all_programs_at_the_same_time(fifo: Any, tmp_path: Path) -> None:
    paths = [tmp_path / "one", tmp_path / "two"]
    for path in paths:
        os.mkfifo(path)
    with all_stopped():
        for path, other in (paths, paths[::-1]):
            files = (str(path), str(other))
            start(MUTUAL.format(files, f"{path}-ended", str(fifo.path)), tmp_path, grace=60)
            fifo.read_line()
    assert [(tmp_path / f"{path.name}-ended").exists() for path in paths] == [True, True]


@pytest.mark.parametrize(("code", "expected"), [("", 0), ("raise SystemExit(7)", 7)])
def test_returns_exit_code(tmp_path: Path, code: str, expected: int) -> None:
    with start(code, tmp_path) as program:
        assert program.wait(60) == expected


def test_returns_128_plus_signal_number(tmp_path: Path) -> None:
    with start("import os; os.kill(os.getpid(), 9)", tmp_path) as program:
        assert program.wait(60) == 137


def test_reports_missing_program(tmp_path: Path) -> None:
    with ManagedProcess(
        [tmp_path / "nothing"], env=os.environ, cwd=tmp_path, log=tmp_path / "log"
    ) as program:
        with pytest.raises(Problem, match=r"(?s)A test failed with exit code 127.*nothing: No such file"):
            program.finish(60, "A test")


def test_reports_output_of_failed_program(tmp_path: Path) -> None:
    with start("raise SystemExit('out of luck')", tmp_path) as program:
        with pytest.raises(Problem, match=r"(?s)A test failed with exit code 1:.*out of luck"):
            program.finish(60, "A test")


def test_stops_program_after_timeout(fifo: Any, program_code: ProgramCode, tmp_path: Path) -> None:
    with start(program_code(), tmp_path) as program:
        fifo.read_line()
        with pytest.raises(Problem, match=r"A test took longer than 0 s"):
            program.finish(0, "A test")
        fifo.wait_closed()


def test_memory_counts_the_program_and_no_other(fifo: Any, tmp_path: Path) -> None:
    mib = 1024 * 1024
    code = "import signal; data = b'x' * {}; open({!r}, 'w').write('allocated\\n'); signal.pause()"
    with ExitStack() as stack:
        programs = []
        for size in (0, 100 * mib):
            (tmp_path / f"{size}").mkdir()
            program = stack.enter_context(start(code.format(size, str(fifo.path)), tmp_path / f"{size}"))
            fifo.read_line()
            programs.append(program)
        small, large = (program.memory() for program in programs)
        assert 99 * mib < large - small < 105 * mib
    assert programs[0].memory() == 0
