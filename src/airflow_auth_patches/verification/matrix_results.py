"""The recorded results of the cells of the test matrix, in a file."""

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
    """The state of a cell."""

    PASSED = "passed"
    FAILED = "failed"  #: a test has an unexpected outcome
    ERROR = "error"  #: it could not run, for example because an environment could not be created
    SKIPPED = "skipped"  #: the Python version is not on this machine
    NOT_RUN = "not run"  #: no result, or the inputs changed after the run or during it


@dataclass(frozen=True)
class Outcome:
    """
    The outcome of one run of a cell.

    :param faults: the unexpected outcomes, one line each; empty if the cell passed.
    :param counts: the number of tests with the expected outcome, by kind, see `run_cell.outcome_of`; for
        upstream's tests also the number of flaky ones (``unsteady``).
    """

    faults: tuple[str, ...]
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """
    The recorded result of a cell.

    :param when: the end of its run in UTC, as in ``2026-11-21T15:30:00Z``.
    :param seconds: the run time; the first cell of a pair and Python version creates the environments.
    :param reason: why the cell was skipped or is in error, in one line.
    :param own: size of its environments in bytes, without links to uv's cache, see `disk.Use`.
    :param shared: size of the links to uv's cache in its environments, in bytes.
    :param at_once: size in bytes of all environments that existed at the end, without links.
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


Results = dict[str, Result]


def known(cell: Cell, results: Mapping[str, Result]) -> Result | None:
    """Return the recorded result of a cell if it is up to date, else ``None``."""
    result = results.get(cell.name)
    return result if result is not None and result.fingerprint == cell.fingerprint else None


def is_due(cell: Cell, results: Mapping[str, Result]) -> bool:
    """Check whether a cell must run: it has no up-to-date result, or it did not pass."""
    result = known(cell, results)
    return result is None or result.state is not State.PASSED


def may_skip(cell: Cell, results: Mapping[str, Result]) -> bool:
    """Check whether a cell can become skipped: the result of an earlier run is not overwritten."""
    result = known(cell, results)
    return result is None or result.state in (State.SKIPPED, State.NOT_RUN)


def state_of(cell: Cell, results: Mapping[str, Result]) -> tuple[State, str]:
    """Return the state of a cell, and the reason or an empty string."""
    result = known(cell, results)
    if result is not None:
        return result.state, result.reason
    old = results.get(cell.name)
    if old is None:
        return State.NOT_RUN, ""
    return State.NOT_RUN, f"{old.state.value} on {old.when[:10]}, but its inputs changed since"


def holds(cells: Sequence[Cell], results: Mapping[str, Result]) -> bool:
    """Check whether every cell passed or was skipped, and at least one passed."""
    states = {state_of(cell, results)[0] for cell in cells}
    return State.PASSED in states and states <= {State.PASSED, State.SKIPPED}


def read(folder: Path) -> Results:
    """
    Return the recorded results.

    :param folder: the folder of the results.
    :return: ``{name of the cell: result}``; empty if there is no file.
    :raises Problem: when the file is invalid.
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
        raise Problem(f"{path} cannot be read: {error!r}.", "Remove it, and run the cells again.") from error


def write(folder: Path, results: Mapping[str, Result]) -> None:
    """
    Write the recorded results. The file is replaced atomically.

    :raises Problem: when the file cannot be written.
    """
    data = {name: asdict(result) for name, result in results.items()}
    write_whole(folder / FILE, json.dumps(data, indent=1, sort_keys=True) + "\n")
