"""
The test matrix: one kind of test, on one pair of releases, on one Python version. ``tests/matrix`` runs it.

A cell that passed runs again when its fingerprint changes, which is a hash of its inputs.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from airflow_auth_patches.installation import environments
from airflow_auth_patches.installation.pair_environments import folder_of
from airflow_auth_patches.releases import releases
from airflow_auth_patches.releases.releases import Pair
from airflow_auth_patches.series import series as series_module
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Patch, Series, unlisted
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.verification import (
    expectations,
    inputs,
    prove,
    run_pytest,
    unit_tests,
    upstream,
    upstream_runs,
)

#: The Python version on which every pair runs, and those on which the default pairs run.
USUAL = "3.11"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
#: Increase this number when the same inputs give a different result: all cells then run again.
FORM = 3


class Part(str, Enum):
    """The kind of test that a cell runs."""

    TESTS = "tests"  #: the unit tests of the patches, on stock and patched
    MUTANTS = "mutants"  #: the same tests with each mutant, which must fail
    UPSTREAM = "upstream-tests"  #: upstream's own tests of the provider, on stock and patched


def usual_pythons(pair: Pair) -> tuple[str, ...]:
    """Return the Python versions on which a pair runs if no others are chosen."""
    wanted = PYTHONS if pair.default else (USUAL,)
    return tuple(version for version in pair.pythons if version in wanted) or pair.pythons[:1]


def folders(root: Path, pair: Pair, python: str) -> list[Path]:
    """Return the folders of the environments that the cells of a pair and Python version create."""
    made = [folder_of(root, pair, python, kind) for kind in ("stock", "base", "patched", "alone")]
    return [*made, upstream.packages_folder(root, pair, python)]


def fingerprint(root: Path, name: str, python: str, part: Part) -> str:
    """
    Return the SHA-256 of the inputs that determine the outcome of a cell, read from disk.

    The inputs are the patches that serve the pair, except their messages, their tests and expectations, the
    pins of the pair, the pytest plugin stub and the Python version.

    :param name: the name of the pair.
    :raises Problem: when a file is invalid, or the pair is not pinned.
    """
    series, pins = series_module.load(root / "patches"), releases.load(root / "patches")
    pair = pins.pair(name)
    # Includes patches that no `series` file lists: their tests must fail.
    every = (*series.patches, *unlisted(series.folder))
    patches = [patch for patch in every if patch.serves(pair.core) or patch.serves(pair.fab)]
    given: list[Any] = [
        [FORM, part.value, inputs.plugin_stub(root)],
        [environments.specification(pair, python), pair.base],
        [sorted(dict(release.hashes).items()) for release in (pair.core, pair.fab)],
        [[each.name, each.edits_sha256, each.requires, each.together_with] for each in patches],
        [patch in series.patches for patch in patches],
    ]
    if part is Part.UPSTREAM:
        listed = [entry.test for entry in upstream.load(series.folder) if entry.serves(pair.fab)]
        given.append([listed, upstream.PACKAGES, sorted(upstream.IGNORED)])
    else:
        paths = sorted({path for patch in patches for path in _files(series, patch)})
        given.append([[path, _digest(root / path)] for path in paths])
    if part is Part.MUTANTS:
        given.append(pair == pins.newest_pair)  # the only pair on which patches also run alone
    return hashlib.sha256(json.dumps(given).encode()).hexdigest()


def _files(series: Series, patch: Patch) -> Iterable[str]:
    """Return the files that the unit tests of a patch consist of, below the checkout."""
    yield f"patches/expectations/{patch.slug}.toml"
    yield from patch.tests
    try:
        yield expectations.load(series.folder, patch.slug).file
    except Problem:
        return  # the run reports it


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def run(project: Project, pair: Pair, python: str, part: Part) -> tuple[list[str], dict[str, int]]:
    """
    Run a cell.

    :return: the unexpected outcomes, one line each, and counts of tests, see :func:`summed`. For upstream's
        tests the counts are those that pass on stock and patched, and the unsteady ones.
    :raises Problem: when an environment cannot be created, or a run gives no report.
    """
    if part is not Part.UPSTREAM:
        tests, mutants = part is Part.TESTS, part is Part.MUTANTS
        rows = prove.prove(project, pair, python, tests=tests, mutants=mutants)
        return summed(project.series.folder, list(rows))
    found = upstream_runs.run_provider_tests(project, pair, python)
    faults = [
        f"{test}: passes on stock, but not on the patched release: {found.patched.get(test, 'not run')}"
        for test in found.broken
    ]
    return [*faults, *found.wrong], {
        "passed_stock": run_pytest.tally(found.stock).get("passed", 0),
        "passed_patched": run_pytest.tally(found.patched).get("passed", 0),
        "unsteady": len(found.unsteady),
    }


def summed(folder: Path, results: Sequence[unit_tests.Result]) -> tuple[list[str], dict[str, int]]:
    """
    Return the outcome of a cell from the results of its unit tests.

    :return: the unexpected outcomes, and the counts: tests that failed on stock as expected
        (``failed_on_stock``), passed on stock as expected (``passed_on_stock``) and passed when patched
        (``passed_patched``), killed mutants (``mutants``), and patches whose tests pass with no other patch
        (``alone``).
    """
    counts: Counter[str] = Counter()
    for result in results:
        if result.what == "stock":
            expected = expectations.load(folder, result.slug)
            faulty = {line.partition(" ")[0] for line in result.wrong}
            counts["failed_on_stock"] += len({*expected.fails_on_stock} - faulty)
            counts["passed_on_stock"] += len({*expected.regression} - faulty)
        elif result.what == "patched":
            counts["passed_patched"] += result.counts.get("passed", 0)
        else:
            counts["alone" if result.what == "alone" else "mutants"] += not result.wrong
    faults = [f"{result.slug}, {result.what}: {fault}" for result in results for fault in result.wrong]
    return faults if results else ["No test ran."], dict(counts)
