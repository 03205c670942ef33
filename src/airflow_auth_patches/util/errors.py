"""What went wrong, in one sentence, and what to do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path


class Exit(IntEnum):
    """The exit codes of the command line; 129, 130 and 143 are SIGHUP, Ctrl-C and SIGTERM."""

    OK = 0
    FAULT = 1  #: a check, lint, unit test or cell has a fault, or `demo` what is not cured or not shown
    USAGE = 2  #: an argument that names nothing: a patch, a release, a path; or a program that is missing
    REFUSED = 3  #: the installation or the tree is not what it must be; nothing was changed
    UNREACHABLE = 4  #: a release could not be fetched
    CORRUPT = 5  #: a fetched file is not the one that is pinned
    FAILED = 6  #: a program that was called (pip, uv, git, airflow) failed; what it did was taken back


def without_credentials(text: str) -> str:
    """Return a text with no user name and password in its URLs."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)


class Problem(Exception):
    """
    An error that a user can understand and act on; credentials in its URLs are left out.

    :param what: one sentence on what is wrong, with the names of the things concerned.
    :param remedy: what to do, or nothing.
    :param exit_code: how the command line ends.
    """

    def __init__(self, what: str, remedy: str = "", exit_code: Exit = Exit.REFUSED) -> None:
        self.what, self.remedy = without_credentials(what), without_credentials(remedy)
        super().__init__(f"{self.what} {self.remedy}".strip())
        self.exit_code = exit_code


@dataclass(frozen=True)
class Fault:
    """
    Something wrong with the series.

    :param path: the file.
    :param line: the line, from 1.
    """

    path: Path
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"
