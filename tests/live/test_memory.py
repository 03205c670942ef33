"""The memory of a group of processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_auth_patches.demo.memory import resident

MIB = 1024 * 1024
#: Has a child that takes that many bytes, and says when it has them; both wait until their input ends.
PARENT = """\
import subprocess, sys
code = "import sys; memory = b'x' * int(sys.argv[1]); print('there', flush=True); sys.stdin.read()"
child = subprocess.Popen([sys.executable, "-c", code, sys.argv[1]])
child.wait(30)
"""


@contextmanager
def family(size: int) -> Iterator[int]:
    """Start a process with a child of that size, and give their group."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        assert parent.stdout.readline() == b"there\n"
        yield parent.pid
        parent.stdin.close()
        parent.wait(30)


def test_children_are_counted_and_no_other_group() -> None:
    with family(0) as small, family(100 * MIB) as large:
        assert 99 * MIB < resident(large) - resident(small) < 105 * MIB


def test_a_group_that_is_gone_has_none() -> None:
    with family(0) as group:
        assert resident(group) > 0
    assert resident(group) == 0
