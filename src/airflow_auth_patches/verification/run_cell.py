"""Run one cell of the test matrix: the unit tests of its patches, their mutants, or upstream's tests."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util.progress import Progress, Silent
from airflow_auth_patches.verification import expectations, prove, unit_tests
from airflow_auth_patches.verification import upstream_runs as upstream
from airflow_auth_patches.verification.cells import Cell, Part
from airflow_auth_patches.verification.matrix_results import Outcome


@dataclass
class Runner:
    """
    A callable that runs a cell: unit tests, mutants or upstream's tests.

    :param root: the checkout of this project.
    :param stopped: set when the matrix is interrupted; a cell then stops after the current test file.
    """

    root: Path
    series: Series
    pins: Pins
    stopped: threading.Event
    progress: Progress = field(default_factory=Silent)
    _locks: dict[str, threading.Lock] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, cell: Cell) -> Outcome:
        """
        Run a cell.

        :raises Problem: when an environment cannot be created, or a run gives no report.
        :raises KeyboardInterrupt: when the matrix was interrupted.
        """
        return self._run_upstream(cell) if cell.part is Part.UPSTREAM else self._run_unit_tests(cell)

    def _run_unit_tests(self, cell: Cell) -> Outcome:
        mutants = cell.part is Part.MUTANTS
        rows = prove.prove(
            self.root,
            self.series,
            self.pins,
            cell.pair,
            cell.python,
            cell.patches,
            tests=not mutants,
            mutants=mutants,
            progress=self.progress,
        )
        results = []
        with closing(rows):
            for row in rows:
                if self.stopped.is_set():
                    raise KeyboardInterrupt
                results.append(row.result)
        return outcome_of(self.series.folder, results)

    def _run_upstream(self, cell: Cell) -> Outcome:
        # Pairs with the same provider unpack its tests into the same folder.
        with self._locks.setdefault(str(cell.pair.fab), threading.Lock()):
            found = upstream.run_provider_tests(
                self.root, self.series, self.pins, cell.pair, cell.python, progress=self.progress
            )
        if self.stopped.is_set():
            raise KeyboardInterrupt
        faults = [
            f"{test}: passes on stock, but not on the patched release: {found.patched.get(test, 'not run')}"
            for test in found.broken
        ]
        return Outcome(
            (*faults, *found.wrong),
            {
                "pass on stock": unit_tests.tally(found.stock).get("passed", 0),
                "pass when patched": unit_tests.tally(found.patched).get("passed", 0),
                "unsteady": len(found.unsteady),
            },
        )


def outcome_of(folder: Path, results: Sequence[unit_tests.Result]) -> Outcome:
    """
    Return the outcome of a cell from the results of its unit tests.

    :param folder: the folder of the series.
    :return: the faults and the counts: tests that failed on stock as expected (``failed_on_stock``), passed
        on stock as expected (``passed_on_stock``) and passed when patched (``passed_patched``), killed
        mutants (``mutants``), and patches whose tests pass with no other patch (``alone``).
    """
    counts: dict[str, int] = {}

    def count(word: str, number: int) -> None:
        counts[word] = counts.get(word, 0) + number

    for result in results:
        if result.what == "stock":
            expected = expectations.load(folder, result.slug)
            faulty = {line.partition(" ")[0] for line in result.wrong}
            count("failed_on_stock", sum(name not in faulty for name in expected.fails_on_stock))
            count("passed_on_stock", sum(name not in faulty for name in expected.regression))
        elif result.what == "patched":
            count("passed_patched", result.counts.get("passed", 0))
        elif result.what == "alone":
            count("alone", not result.wrong)
        else:
            count("mutants", not result.wrong)
    faults = tuple(f"{v.slug}, {v.what}: {fault}" for v in results for fault in v.wrong)
    return Outcome(faults if results else ("No test ran.",), counts)
