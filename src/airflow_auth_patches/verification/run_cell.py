"""Run one cell of the test matrix: the proofs of its patches, their guards, or upstream's tests."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util.progress import Progress, Silent
from airflow_auth_patches.verification import proofs, prove, proving
from airflow_auth_patches.verification import upstream_runs as upstream
from airflow_auth_patches.verification.cells import Cell, Part
from airflow_auth_patches.verification.matrix_results import Outcome


@dataclass
class Runner:
    """
    Runs cells as they are meant: proofs, guards, upstream's tests.

    :param root: the checkout of this project.
    :param stopped: set when the matrix is interrupted; a cell then ends at its next proof.
    """

    root: Path
    series: Series
    pins: Pins
    stopped: threading.Event
    progress: Progress = field(default_factory=Silent)
    _laid: dict[str, threading.Lock] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, cell: Cell) -> Outcome:
        """
        Run a cell.

        :raises Problem: when an environment cannot be made, or a run gives no report.
        :raises KeyboardInterrupt: when the matrix was interrupted.
        """
        return self._judge(cell) if cell.part is Part.UPSTREAM else self._prove(cell)

    def _prove(self, cell: Cell) -> Outcome:
        guards = cell.part is Part.GUARDS
        rows = prove.prove(
            self.root,
            self.series,
            self.pins,
            cell.pair,
            cell.python,
            cell.patches,
            tests=not guards,
            guards=guards,
            progress=self.progress,
        )
        verdicts = []
        with closing(rows):
            for row in rows:
                if self.stopped.is_set():
                    raise KeyboardInterrupt
                verdicts.append(row.verdict)
        return outcome_of(self.series.folder, verdicts)

    def _judge(self, cell: Cell) -> Outcome:
        # Pairs with the same provider lay its tests into the same folder.
        with self._laid.setdefault(str(cell.pair.fab), threading.Lock()):
            found = upstream.judge(
                self.root, self.series, self.pins, cell.pair, cell.python, progress=self.progress
            )
        if self.stopped.is_set():
            raise KeyboardInterrupt
        faults = [
            f"{test}: passes on stock, patched it does not: {found.patched.get(test, 'not run')}"
            for test in found.broken
        ]
        return Outcome(
            (*faults, *found.wrong),
            {
                "pass on stock": proving.tally(found.stock).get("passed", 0),
                "pass when patched": proving.tally(found.patched).get("passed", 0),
                "unsteady": len(found.unsteady),
            },
        )


def outcome_of(folder: Path, verdicts: Sequence[proving.Verdict]) -> Outcome:
    """
    Sum proofs up.

    :param folder: the folder of the series.
    :return: counted are the tests that were ``red`` on stock as they must, those ``kept`` on stock, those
        ``green`` when patched, and the ``guards`` and patches ``alone`` that hold.
    """
    counts: dict[str, int] = {}

    def count(word: str, number: int) -> None:
        counts[word] = counts.get(word, 0) + number

    for verdict in verdicts:
        if verdict.what == "stock":
            proof = proofs.load(folder, verdict.slug)
            faulty = {line.partition(" ")[0] for line in verdict.wrong}
            count("red", sum(name not in faulty for name in proof.red))
            count("kept", sum(name not in faulty for name in proof.kept))
        elif verdict.what == "patched":
            count("green", verdict.counts.get("passed", 0))
        elif verdict.what == "alone":
            count("alone", not verdict.wrong)
        else:
            count("guards", not verdict.wrong)
    faults = tuple(f"{v.slug}, {v.what}: {fault}" for v in verdicts for fault in v.wrong)
    return Outcome(faults if verdicts else ("No proof was run.",), counts)
