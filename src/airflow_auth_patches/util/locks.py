"""Locks for work that only one process of a checkout may do at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_auth_patches.util.errors import Problem


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """
    Hold a lock during a ``with`` block. The operating system releases it when the process ends.

    :param path: the lock file, which is not removed.
    :param what: the name of the work, as in ``test-matrix``.
    :raises Problem: if another process holds the lock, or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise Problem(
            f"{path} cannot be written: {error}.", "Check the permissions of its folder. Nothing was run."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = f"process {pid}" if (pid := file.read().strip()) else "another process"
            raise Problem(
                f"{what} is already running in this checkout ({holder}).",
                "Wait until it ends, or stop it. Nothing was changed.",
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
