"""Errors that a user can act on: what is wrong, in one sentence, and what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path


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


def without_credentials(text: str) -> str:
    """Return a text without the user names and passwords in its URLs."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)


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
