"""What came of the cells of the test matrix, kept in a file from one run to the next."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path

from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.files import write_whole
from airflow_auth_patches.verification.cells import Cell

FILE = "results.json"


class State(str, Enum):
    """How a cell stands."""

    PASSED = "passed"
    FAILED = "failed"  #: something is not as it must be
    ERROR = "error"  #: it could not be run: an environment could not be made
    SKIPPED = "skipped"  #: this machine does not have the Python
    NOT_RUN = "not run"  #: not yet, or not since something changed, or something changed while it ran


@dataclass(frozen=True)
class Outcome:
    """
    What a run of a cell gave.

    :param faults: what is not as it must be, a line each; empty when it passed.
    :param counts: how many tests were as they must be, by what they must be, such as ``red`` and
        ``green``; of upstream's, how many were unsteady too.
    """

    faults: tuple[str, ...]
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """
    What is kept of a cell.

    :param when: the end of its run in UTC, as in ``2026-11-21T15:30:00Z``.
    :param seconds: how long it took; the first of a pair and Python makes their environments.
    :param reason: why it is skipped or an error, in one line.
    :param own: bytes of its environments that are free once they are removed, see `disk.Use`.
    :param shared: bytes of its environments that uv's cache has too.
    :param at_once: the own bytes of all environments that were there at its end.
    """

    state: State
    fingerprint: str
    when: str
    seconds: float = 0.0
    counts: Mapping[str, int] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    reason: str = ""
    own: int = 0
    shared: int = 0
    at_once: int = 0


Book = dict[str, Result]


def known(cell: Cell, book: Mapping[str, Result]) -> Result | None:
    """Return what is kept of a cell if it still holds: nothing that it depends on has changed."""
    result = book.get(cell.name)
    return result if result is not None and result.fingerprint == cell.fingerprint else None


def is_due(cell: Cell, book: Mapping[str, Result]) -> bool:
    """Tell whether a cell is to be run: it did not pass, or not since something changed."""
    result = known(cell, book)
    return result is None or result.state is not State.PASSED


def may_skip(cell: Cell, book: Mapping[str, Result]) -> bool:
    """Tell whether a cell whose Python is missing is skipped: what a run of it gave is not forgotten."""
    result = known(cell, book)
    return result is None or result.state in (State.SKIPPED, State.NOT_RUN)


def state_of(cell: Cell, book: Mapping[str, Result]) -> tuple[State, str]:
    """Return how a cell stands, and the reason where there is one to tell."""
    result = known(cell, book)
    if result is not None:
        return result.state, result.reason
    old = book.get(cell.name)
    if old is None:
        return State.NOT_RUN, ""
    return State.NOT_RUN, f"{old.state.value} on {old.when[:10]}, and something that it depends on changed"


def holds(cells: Sequence[Cell], book: Mapping[str, Result]) -> bool:
    """Tell whether each cell has passed or is skipped, and not all are skipped."""
    states = {state_of(cell, book)[0] for cell in cells}
    return State.PASSED in states and states <= {State.PASSED, State.SKIPPED}


def read(folder: Path) -> Book:
    """
    Read what is kept.

    :param folder: the folder of the results.
    :return: ``{name of the cell: result}``; empty where nothing was run yet.
    :raises Problem: when the file is broken.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: Result(
                **{**entry, "state": State(entry["state"]), "faults": tuple(entry.get("faults", ()))}
            )
            for name, entry in raw.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Problem(f"{path} cannot be read: {error!r}.", "Remove it: its cells are run again.") from error


def write(folder: Path, book: Mapping[str, Result]) -> None:
    """
    Write what is kept, whole or not at all.

    :raises Problem: when it cannot be written.
    """
    data = {name: asdict(result) for name, result in book.items()}
    write_whole(folder / FILE, json.dumps(data, indent=1, sort_keys=True) + "\n")
