"""
Check what a command needs before it starts, so that it does not fail after minutes.

The Makefile runs this file before anything is installed, so it uses only the standard library.
"""

from __future__ import annotations

import errno
import shutil
import sys
import tempfile
from pathlib import Path

from airflow_auth_patches.util.errors import Exit, Problem

#: What to do after an error of the operating system.
REMEDIES = {
    errno.ENOSPC: "Free some disk space and run it again.",
    errno.EDQUOT: "Free some disk space and run it again.",
    errno.EROFS: "Use a folder that you can write to.",
    errno.EACCES: "Check the permissions, or use a folder that you can write to.",
    errno.EPERM: "Check the permissions, or use a folder that you can write to.",
}


def explained(error: Exception) -> Problem | None:
    """
    Return an error of the file system as a `Problem`, or ``None`` for an error that the user cannot act on.

    :param error: for example a full disk, or a folder without write permission.
    """
    if not isinstance(error, OSError) or error.errno not in REMEDIES:
        return None
    where = f": {error.filename}" if error.filename else ""
    return Problem(f"{error.strerror}{where}.", REMEDIES[error.errno], Exit.FAILED)


def free_space(folder: Path, gigabytes: float) -> None:
    """
    Check that the disk of a folder has enough free space.

    :param folder: the folder, which may not exist yet.
    :param gigabytes: the space, in units of 10^9 bytes.
    :raises Problem: if the disk has less.
    """
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free / 1e9
    if free < gigabytes:
        raise Problem(
            f"The disk of {existing.absolute()} has {free:.1f} GB free, but {gigabytes:g} GB are needed.",
            "Free some disk space, or use a checkout on another disk.",
        )


def temporary_folder() -> Path:
    """
    Return the folder for temporary files: ``TMPDIR``, or ``/tmp`` and others if it cannot be written to.

    :raises Problem: if no such folder can be written to.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise Problem(
            "No folder for temporary files can be written to.",
            "Set TMPDIR to a folder that you can write to.",
        ) from error


def main(gigabytes: str) -> None:
    """
    Check what a target of the Makefile needs.

    :param gigabytes: the free disk space in the working folder.
    :raises SystemExit: with the exit code of the `Problem`, after its message is printed.
    """
    try:
        temporary_folder()
        free_space(Path(), float(gigabytes))
    except Problem as problem:
        sys.stderr.write(f"{problem}\n")
        sys.exit(int(problem.exit_code))


if __name__ == "__main__":
    main(sys.argv[1])
