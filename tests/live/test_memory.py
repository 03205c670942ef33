"""The memory of a process group."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_auth_patches.demo.memory import resident

MIB = 1024 * 1024
#: Starts a child that allocates memory and prints a line. Both processes wait for the end of their input.
PARENT = """\
import subprocess, sys
code = "import sys; memory = b'x' * int(sys.argv[1]); print('allocated', flush=True); sys.stdin.read()"
child = subprocess.Popen([sys.executable, "-c", code, sys.argv[1]])
child.wait(30)
"""


@contextmanager
def family(size: int) -> Iterator[int]:
    """Start a process with a child of the given size, and yield their process group."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        assert parent.stdout.readline() == b"allocated\n"
        yield parent.pid
        parent.stdin.close()
        parent.wait(30)


def test_counts_children_but_no_other_group() -> None:
    with family(0) as small, family(100 * MIB) as large:
        assert 99 * MIB < resident(large) - resident(small) < 105 * MIB


def test_returns_zero_for_ended_group() -> None:
    with family(0) as group:
        assert resident(group) > 0
    assert resident(group) == 0
