"""Lock an environment, so that one process at a time changes it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_auth_patches.installation.installed import prefix_of
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.progress import Progress, Silent

#: The descriptors of the locks that this process has. The installers that it runs inherit them.
held: set[int] = set()


@contextmanager
def locked(
    python: Path, progress: Progress | None = None, *, shared: bool = False, wait: bool = True
) -> Iterator[None]:
    """
    Lock an environment during a ``with`` block.

    The lock is on the folder of the environment, so it leaves no file. It belongs to this process and to the
    programs that inherit the descriptor: if this process is killed while pip runs, it lasts until pip ends.
    A file system that has no locks is not locked.

    :param python: the interpreter of the environment.
    :param shared: whether other processes may have the lock too, if theirs is shared.
    :param wait: whether to wait for other processes.
    :raises Problem: REFUSED if another process has the lock and ``wait`` is false, or as `look` does.
    """
    prefix = prefix_of(python)
    descriptor = os.open(prefix, os.O_RDONLY)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if not wait:
                raise Problem(
                    f"Another process changes {prefix}.", "Run the command again when it ended."
                ) from error
            with (progress or Silent()).task(f"waiting for another process that changes {prefix}"):
                fcntl.flock(descriptor, kind)
        except OSError:
            pass
        held.add(descriptor)
        yield
    finally:
        held.discard(descriptor)
        os.close(descriptor)
