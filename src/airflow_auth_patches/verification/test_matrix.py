"""Fill the test matrix: run its cells, keep what each gave, and clear up after each pair."""

from __future__ import annotations

import datetime
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from airflow_auth_patches.installation import environments, pair_environments
from airflow_auth_patches.releases.releases import Pair
from airflow_auth_patches.util import disk, locks
from airflow_auth_patches.util.files import write_whole
from airflow_auth_patches.util.processes import run as run_program
from airflow_auth_patches.util.processes import workers
from airflow_auth_patches.util.progress import Progress, Silent
from airflow_auth_patches.verification import matrix_results
from airflow_auth_patches.verification.cells import Cell
from airflow_auth_patches.verification.matrix_results import Book, Outcome, Result, State

Run = Callable[[Cell], Outcome]
#: The environments that unit tests make, see `pair_environments.folder_of`.
KINDS = ("stock", "base", "patched", "alone")
#: Why what a run gave is not kept.
CHANGED = "something that it depends on changed while it ran"
#: Runs of pytest that one pair keeps busy, see `prove.few_at_once`.
AT_ONCE = 3
#: Has a file for each environment that is to be removed, with its path.
MADE = Path("build", "test-matrix", "made")
LOCK = Path("build", "test-matrix", "lock")
#: What is left for the next run: initialised databases, and upstream's tests as they were unpacked.
KEPT = ("build/databases", "build/upstream")


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def jobs_for(count: int) -> int:
    """Return how many pairs to run at once on so many cores: one for every three."""
    return max(1, count // AT_ONCE)


def interpreters(versions: Sequence[str]) -> dict[str, str | None]:
    """
    Look for Pythons on this machine.

    :return: ``{X.Y: X.Y.Z}``, or ``{X.Y: None}`` for one that is not there.
    """
    found: dict[str, str | None] = {}
    for version in versions:
        path = environments.interpreter(version)
        told = "import platform; print(platform.python_version())"
        found[version] = run_program([path, "-c", told], timeout=30).strip() if path else None
    return found


class Place:
    """
    Where the cells of a pair and Python run, one after the other: their environments.

    :param root: the checkout of this project.
    """

    def __init__(self, root: Path, pair: Pair, python: str, cells: Sequence[Cell]) -> None:
        self.waiting = deque(cells)
        self.folders = [pair_environments.folder_of(root, pair, python, kind) for kind in KINDS]
        self.folders.append(root / "build" / "upstream" / f"packages-{pair.name}-py{python}")
        # Those that were there before stay.
        self._made = {
            folder: root / MADE / folder.name for folder in self.folders if not (folder / ".ready").exists()
        }
        self._root = root

    def mark(self) -> None:
        """
        Note which environments are to go, for the next run if this one is killed.

        :raises Problem: when that cannot be written.
        """
        for folder, mark in self._made.items():
            write_whole(mark, str(folder.relative_to(self._root)))

    def clear(self) -> None:
        """Remove its environments, but for those that were there before."""
        for folder, mark in self._made.items():
            _remove(folder, mark)


def kept(root: Path) -> int:
    """
    Return how many bytes of the disk what is left for the next run takes.

    :param root: the checkout of this project.
    """
    return disk.used(root / folder for folder in KEPT).own


def clear_rests(root: Path) -> None:
    """
    Remove the environments that a killed run of the matrix has left; one runs at a time.

    :param root: the checkout of this project.
    """
    for mark in sorted((root / MADE).glob("*")):
        if mark.is_file():
            _remove(root / mark.read_text(encoding="utf-8"), mark)


def _remove(folder: Path, mark: Path) -> None:
    # This goes first: what an interruption leaves is then not taken for an environment.
    (folder / ".ready").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    mark.unlink(missing_ok=True)


def fill(
    root: Path,
    folder: Path,
    cells: Sequence[Cell],
    book: Book,
    run: Run,
    *,
    machine: Mapping[str, str | None],
    jobs: int = 1,
    again: bool = False,
    keep: bool = False,
    stopped: threading.Event | None = None,
    still_holds: Callable[[Cell], bool] = lambda _: True,
    written: Callable[[], None] = lambda: None,
    progress: Progress | None = None,
) -> list[Cell]:
    """
    Run the cells that are due, and keep what each gave as soon as it is whole.

    What passed and still holds is not run again. An interruption keeps the whole cells and nothing of those
    that were being run; their programs are ended, and the environments that were made go then too. So do
    those that a killed run has left.

    :param root: the checkout of this project, under whose ``build/envs`` the environments are.
    :param folder: the folder of the results.
    :param book: what is kept; the results are entered in it too.
    :param run: runs one cell; with several jobs, in several threads.
    :param machine: the Pythons of the cells, see :func:`interpreters`.
    :param jobs: how many pairs to run at once; the cells of one pair and Python follow each other.
    :param again: whether to run too what passed.
    :param keep: whether to leave the environments that were made.
    :param stopped: is set when an interruption is to end what ``run`` is doing.
    :param still_holds: tells whether a cell still depends on the same, see `cells.still_holds`; asked when
        it has been run.
    :param written: called after each cell, when its result is kept.
    :return: the cells that were run.
    :raises Problem: when a result cannot be written, or the matrix is being run in this checkout already.
    """
    progress, stopped = progress or Silent(), stopped or threading.Event()

    def enter(cell: Cell, result: Result) -> None:
        book[cell.name] = result
        matrix_results.write(folder, book)
        written()

    if not (again or any(matrix_results.is_due(cell, book) for cell in cells)):
        return []
    with locks.held(root / LOCK, "test-matrix"):
        clear_rests(root)
        book.update(matrix_results.read(folder))  # another run may have ended since
        due = [cell for cell in cells if again or matrix_results.is_due(cell, book)]
        able = [cell for cell in due if machine.get(cell.python)]
        for cell in due:
            if not machine.get(cell.python) and matrix_results.may_skip(cell, book):
                missing = f"Python {cell.python} is not on this machine"
                enter(cell, Result(State.SKIPPED, cell.fingerprint, _now(), reason=missing))
        groups = [(key, list(some)) for key, some in groupby(able, key=lambda cell: (cell.pair, cell.python))]
        live: list[Place] = []
        waiting = deque(groups)
        running: dict[Future[Result], tuple[Place, Cell]] = {}
        try:
            with (
                progress.task(f"cells of the matrix to run: {len(able)}", len(able)) as advance,
                workers(jobs) as pool,
            ):

                def begin(place: Place) -> None:
                    cell = place.waiting.popleft()
                    working = pool.submit(_run, cell, run, still_holds, place, live, keep, progress)
                    running[working] = (place, cell)

                try:
                    while waiting or running:
                        while waiting and len(running) < jobs:
                            (pair, python), some = waiting.popleft()
                            live.append(Place(root, pair, python, some))
                            if not keep:
                                live[-1].mark()
                            begin(live[-1])
                        # A signal that comes just before the wait is seen only after it.
                        for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                            place, cell = running.pop(future)
                            enter(cell, future.result())
                            advance(1)
                            if place.waiting:
                                begin(place)
                            else:
                                live.remove(place)
                except BaseException:
                    stopped.set()
                    raise
        finally:
            for place in live if not keep else ():
                place.clear()
    return able


def _run(
    cell: Cell,
    run: Run,
    still_holds: Callable[[Cell], bool],
    place: Place,
    live: Collection[Place],
    keep: bool,
    progress: Progress,
) -> Result:
    """Run one cell, measure its environments, and clear them when it is the last that needs them."""
    begun = time.monotonic()
    try:
        outcome = run(cell)
        state = State.FAILED if outcome.faults else State.PASSED
        result = Result(
            state, cell.fingerprint, _now(), counts=dict(outcome.counts), faults=tuple(outcome.faults)
        )
    except Exception as error:  # one cell that cannot be run does not end the others
        result = Result(State.ERROR, cell.fingerprint, _now(), reason=_one_line(error))
    if not still_holds(cell):
        result = Result(State.NOT_RUN, cell.fingerprint, _now(), reason=CHANGED)
    seconds = round(time.monotonic() - begun, 1)
    with progress.task(f"measuring the environments of {cell.pair.name}, and clearing up"):
        use = disk.used(place.folders)
        others = [folder for other in tuple(live) if other is not place for folder in other.folders]
        at_once = use.own + disk.used(others).own
        if not place.waiting and not keep:
            place.clear()
    return replace(result, seconds=seconds, own=use.own, shared=use.shared, at_once=at_once)


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _one_line(error: Exception) -> str:
    said = " ".join(str(error).split()) or repr(error)
    return said if type(error).__name__ == "Problem" else f"{type(error).__name__}: {said}"
