"""Errors that a user can act on: what is wrong, in one sentence, and what to do."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

#: The variable that makes the command line print the traceback of an unexpected error.
TRACEBACK = "AIRFLOW_AUTH_PATCHES_TRACEBACK"


class Exit(IntEnum):
    """The exit codes of the command line; 129, 130 and 143 are SIGHUP, Ctrl-C and SIGTERM."""

    OK = 0
    FAULT = 1  #: a check, lint or test failed, or a scenario of `demo` is not cured or not shown
    USAGE = 2  #: unknown value for an argument (patch, release, path), or a missing program
    REFUSED = 3  #: the installation or the tree is not in the required state; nothing was changed
    UNREACHABLE = 4  #: a release could not be fetched
    CORRUPT = 5  #: a fetched file does not have the pinned hash
    FAILED = 6  #: a program (pip, uv, git, airflow) failed; its changes were undone
    DAMAGED = 7  #: an installation did not end, and left the environment damaged; `repair` restores it
    UNEXPECTED = 70  #: an error that this tool does not expect, usually a fault of this tool


def without_credentials(text: str) -> str:
    """Return a text without the user names and passwords in its URLs."""
    # The second form is a password with a slash, which is not a port.
    return re.sub(r"(?<=://)(?:[^/\s]*@|[^/\s:@]*:(?!\d+/)[^\s@]*@)", "", text)


def unexpected(error: Exception) -> Problem:
    """Return the problem to report for an error that no module expected, with the place where it arose."""
    what, remedy = f"{type(error).__name__}: {first_line(error)}", "This is a fault of this tool."
    if isinstance(error, OSError) and error.strerror:
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        remedy = (
            "Check the permissions and the free disk space. If both are right, it is a fault of this tool."
        )
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return Problem(
        f"Unexpected error: {what} ({Path(frame.filename).name}, line {frame.lineno}).",
        f"{remedy} Report it with the output of the same command with {TRACEBACK}=1.",
        Exit.UNEXPECTED,
    )


def first_line(error: Exception) -> str:
    """Return the first line of an error message, because some messages contain a whole page."""
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")


class Problem(Exception):
    """
    An error that a user can understand and act on. Credentials in its URLs are removed.

    :param what: one sentence that says what is wrong, with the names involved.
    :param remedy: what to do; may be empty.
    :param exit_code: the exit code of the command line.
    """

    def __init__(self, what: str, remedy: str = "", exit_code: Exit = Exit.REFUSED) -> None:
        self.what, self.remedy = without_credentials(what), without_credentials(remedy)
        super().__init__(f"{self.what} {self.remedy}".strip())
        self.exit_code = exit_code


class UsageProblem(Problem):
    """An unknown value for an argument, or a missing program: a problem with the exit code `Exit.USAGE`."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy, Exit.USAGE)


@dataclass(frozen=True)
class Fault:
    """
    A fault in a file of the series.

    :param path: the file.
    :param line: the line number, from 1.
    :param what: one sentence that says what is wrong.
    """

    path: Path
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"
