"""What only one process of a checkout may do at a time."""

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
    Hold a lock for the length of a ``with`` block; the system frees it however the process ends.

    :param path: the file of the lock; it stays.
    :param what: who holds it, as in ``test-matrix``.
    :raises Problem: when another process holds it, which is named, or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise Problem(f"{path} cannot be written: {error}.", "Nothing was run.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = f"process {pid}" if (pid := file.read().strip()) else "another process"
            raise Problem(
                f"{what} is being run in this checkout already, by {holder}.",
                "Wait until it has ended, or end it. Nothing was changed.",
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
