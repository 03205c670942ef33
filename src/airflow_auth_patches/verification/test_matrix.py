"""Run the cells of the test matrix, record their results, and remove the environments of each pair."""

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
from airflow_auth_patches.verification.matrix_results import Outcome, Result, Results, State

Run = Callable[[Cell], Outcome]
#: The environments that unit tests create, see `pair_environments.folder_of`.
KINDS = ("stock", "base", "patched", "alone")
#: The reason when the outcome of a run is discarded.
CHANGED = "its inputs changed during the run"
#: Concurrent pytest runs per pair, see `prove.few_at_once`.
AT_ONCE = 3
#: Folder with one file for each environment to remove; the file contains its path.
MADE = Path("build", "test-matrix", "made")
LOCK = Path("build", "test-matrix", "lock")
#: Caches for the next run: initialised databases, and the unpacked tests of upstream.
CACHES = ("build/databases", "build/upstream")


def cores() -> int:
    """Return the number of CPU cores that this process can use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def jobs_for(count: int) -> int:
    """Return the number of pairs to run concurrently: one for every three cores, at least one."""
    return max(1, count // AT_ONCE)


def interpreters(versions: Sequence[str]) -> dict[str, str | None]:
    """
    Return the full versions of the Python interpreters on this machine.

    :return: ``{X.Y: X.Y.Z}``, or ``{X.Y: None}`` for a missing one.
    """
    found: dict[str, str | None] = {}
    for version in versions:
        path = environments.interpreter(version)
        code = "import platform; print(platform.python_version())"
        found[version] = run_program([path, "-c", code], timeout=30).strip() if path else None
    return found


class Workspace:
    """
    The environments in which the cells of a pair and Python version run, in sequence.

    :param root: the checkout of this project.
    """

    def __init__(self, root: Path, pair: Pair, python: str, cells: Sequence[Cell]) -> None:
        self.waiting = deque(cells)
        self.folders = [pair_environments.folder_of(root, pair, python, kind) for kind in KINDS]
        self.folders.append(root / "build" / "upstream" / f"packages-{pair.name}-py{python}")
        # Environments that existed before are not removed.
        self._made = {
            folder: root / MADE / folder.name for folder in self.folders if not (folder / ".ready").exists()
        }
        self._root = root

    def mark(self) -> None:
        """
        Record which environments to remove, so that the next run removes them if this one is killed.

        :raises Problem: when a file cannot be written.
        """
        for folder, mark in self._made.items():
            write_whole(mark, str(folder.relative_to(self._root)))

    def clear(self) -> None:
        """Remove the environments, except those that existed before."""
        for folder, mark in self._made.items():
            _remove(folder, mark)


def cache_size(root: Path) -> int:
    """
    Return the size of the caches for the next run, in bytes.

    :param root: the checkout of this project.
    """
    return disk.used(root / folder for folder in CACHES).own


def remove_leftovers(root: Path) -> None:
    """
    Remove the environments that a killed run of the matrix left. The caller holds the lock of the matrix.

    :param root: the checkout of this project.
    """
    for mark in sorted((root / MADE).glob("*")):
        if mark.is_file():
            _remove(root / mark.read_text(encoding="utf-8"), mark)


def _remove(folder: Path, mark: Path) -> None:
    # Remove the marker first, so that a partly removed folder is not used as an environment.
    (folder / ".ready").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    mark.unlink(missing_ok=True)


def fill(
    root: Path,
    folder: Path,
    cells: Sequence[Cell],
    results: Results,
    run: Run,
    *,
    available: Mapping[str, str | None],
    jobs: int = 1,
    again: bool = False,
    keep: bool = False,
    stopped: threading.Event | None = None,
    unchanged: Callable[[Cell], bool] = lambda _: True,
    written: Callable[[], None] = lambda: None,
    progress: Progress | None = None,
) -> list[Cell]:
    """
    Run the cells that are due, and record the result of each cell when it is finished.

    A cell that passed and whose inputs have not changed does not run again. An interruption stops the running
    cells without a result; the results of finished cells are recorded. The environments that this run created
    are removed at the end, also after an interruption, as are those that a killed run left.

    :param root: the checkout of this project, with the environments in ``build/envs``.
    :param folder: the folder of the results.
    :param results: the recorded results; new results are added to it.
    :param run: runs one cell; with several jobs, in several threads.
    :param available: the Python interpreters on this machine, see :func:`interpreters`.
    :param jobs: the number of pairs to run concurrently; cells of a pair and Python version run in sequence.
    :param again: whether to also run cells that passed.
    :param keep: whether to keep the environments that this run creates.
    :param stopped: set when an interruption must stop ``run``.
    :param unchanged: checks, after the run of a cell, that its inputs are the same, see
        `cells.inputs_unchanged`.
    :param written: called after each cell, when its result is recorded.
    :return: the cells that ran.
    :raises Problem: when a result cannot be written, or the matrix already runs in this checkout.
    """
    progress, stopped = progress or Silent(), stopped or threading.Event()

    def record(cell: Cell, result: Result) -> None:
        results[cell.name] = result
        matrix_results.write(folder, results)
        written()

    if not (again or any(matrix_results.is_due(cell, results) for cell in cells)):
        return []
    with locks.held(root / LOCK, "test-matrix"):
        remove_leftovers(root)
        results.update(matrix_results.read(folder))  # another run may have ended in the meantime
        due = [cell for cell in cells if again or matrix_results.is_due(cell, results)]
        able = [cell for cell in due if available.get(cell.python)]
        for cell in due:
            if not available.get(cell.python) and matrix_results.may_skip(cell, results):
                missing = f"Python {cell.python} is not on this machine"
                record(cell, Result(State.SKIPPED, cell.fingerprint, _now(), reason=missing))
        groups = [(key, list(some)) for key, some in groupby(able, key=lambda cell: (cell.pair, cell.python))]
        live: list[Workspace] = []
        waiting = deque(groups)
        running: dict[Future[Result], tuple[Workspace, Cell]] = {}
        try:
            with (
                progress.task(f"cells of the matrix to run: {len(able)}", len(able)) as advance,
                workers(jobs) as pool,
            ):

                def begin(workspace: Workspace) -> None:
                    cell = workspace.waiting.popleft()
                    working = pool.submit(_run, cell, run, unchanged, workspace, live, keep, progress)
                    running[working] = (workspace, cell)

                try:
                    while waiting or running:
                        while waiting and len(running) < jobs:
                            (pair, python), some = waiting.popleft()
                            live.append(Workspace(root, pair, python, some))
                            if not keep:
                                live[-1].mark()
                            begin(live[-1])
                        # A signal that arrives just before the wait is handled only after it: use a time-out.
                        for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                            workspace, cell = running.pop(future)
                            record(cell, future.result())
                            advance(1)
                            if workspace.waiting:
                                begin(workspace)
                            else:
                                live.remove(workspace)
                except BaseException:
                    stopped.set()
                    raise
        finally:
            for workspace in live if not keep else ():
                workspace.clear()
    return able


def _run(
    cell: Cell,
    run: Run,
    unchanged: Callable[[Cell], bool],
    workspace: Workspace,
    live: Collection[Workspace],
    keep: bool,
    progress: Progress,
) -> Result:
    """Run one cell, measure its environments, and remove them if no other cell needs them."""
    begun = time.monotonic()
    try:
        outcome = run(cell)
        state = State.FAILED if outcome.faults else State.PASSED
        result = Result(
            state, cell.fingerprint, _now(), counts=dict(outcome.counts), faults=tuple(outcome.faults)
        )
    except Exception as error:  # the other cells continue
        result = Result(State.ERROR, cell.fingerprint, _now(), reason=_one_line(error))
    if not unchanged(cell):
        result = Result(State.NOT_RUN, cell.fingerprint, _now(), reason=CHANGED)
    seconds = round(time.monotonic() - begun, 1)
    with progress.task(f"measuring and removing the environments of {cell.pair.name}"):
        use = disk.used(workspace.folders)
        others = [folder for other in tuple(live) if other is not workspace for folder in other.folders]
        at_once = use.own + disk.used(others).own
        if not workspace.waiting and not keep:
            workspace.clear()
    return replace(result, seconds=seconds, own=use.own, shared=use.shared, at_once=at_once)


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or repr(error)
    return text if type(error).__name__ == "Problem" else f"{type(error).__name__}: {text}"
