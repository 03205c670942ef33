"""
The cells of the test matrix: one kind of test, on one pair of releases, on one Python version.

The fingerprint of a cell is a hash of its inputs: the patches that serve its pair (their edits and required
patches, not their messages), their tests and expectations, the pins of the pair, the pytest plugin stub and
the Python version. When the fingerprint changes, the recorded result is outdated and the cell runs again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from airflow_auth_patches.installation import environments
from airflow_auth_patches.releases import releases
from airflow_auth_patches.releases.releases import Pair
from airflow_auth_patches.series import series as series_module
from airflow_auth_patches.series.series import Patch, Series, unlisted
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.verification import expectations, inputs, upstream

#: The Python versions of the matrix, and the one on which every pair runs.
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
USUAL = "3.11"
#: Increase this number when the same inputs give a different result: all recorded results are then outdated.
FORM = 2


class Part(str, Enum):
    """The kind of test that a cell runs."""

    TESTS = "tests"  #: the unit tests of the patches, on stock and patched
    MUTANTS = "mutants"  #: the same tests with each mutant, which must fail
    UPSTREAM = "upstream-tests"  #: upstream's own tests, on stock and patched


@dataclass(frozen=True)
class Cell:
    """
    One cell of the matrix.

    :param python: the Python version, as in ``3.11``.
    :param patches: the slugs of the patches that serve the pair.
    :param fingerprint: the SHA-256 of the inputs that determine the outcome.
    """

    pair: Pair
    python: str
    part: Part
    patches: tuple[str, ...]
    fingerprint: str

    @property
    def name(self) -> str:
        """The pair, the Python version and the part, as in ``3.3.2+3.8.0 3.11 tests``."""
        return f"{self.pair.name} {self.python} {self.part.value}"


def in_order(versions: Iterable[str]) -> list[str]:
    """Return Python versions without duplicates, the oldest first."""
    return sorted(set(versions), key=lambda version: [int(number) for number in version.split(".")])


def supported(pair: Pair) -> tuple[str, ...]:
    """Return the Python versions that both releases of a pair support."""
    return tuple(version for version in pair.core.pythons if version in pair.fab.pythons)


def pythons_of(pair: Pair, pythons: Sequence[str] | None, every_python: bool) -> tuple[str, ...]:
    """
    Return the Python versions on which a pair runs. Both its releases support each of them.

    :param pythons: exactly these versions. By default: the usual one, or on a default pair all of the matrix.
    :param every_python: whether to return all versions of the matrix.
    """
    able = supported(pair)
    if pythons is not None:
        return tuple(version for version in dict.fromkeys(pythons) if version in able)
    known = tuple(version for version in PYTHONS if version in able)
    if every_python or pair.default or USUAL not in known:
        return known or able[-1:]
    return (USUAL,)


def choose(
    root: Path,
    series: Series,
    pairs: Sequence[Pair],
    pythons: Sequence[str] | None = None,
    *,
    every_python: bool = False,
    parts: Sequence[Part] = (Part.TESTS,),
) -> list[Cell]:
    """
    Return the chosen cells of the matrix, in the order of the pairs.

    :param root: the checkout of this project.
    :param pythons: see :func:`pythons_of`.
    :raises Problem: when no pair supports one of the given Python versions.
    """
    for version in pythons or ():
        if not any(version in supported(pair) for pair in pairs):
            possible = in_order(each for pair in pairs for each in supported(pair))
            raise Problem(
                f"No chosen pair supports Python {version}.",
                f"Choose one of {', '.join(possible)}.",
                Exit.USAGE,
            )
    cell_inputs = CellInputs(root, series)
    found: list[Cell] = []
    for pair in pairs:
        patches = cell_inputs.serving(pair)
        slugs = tuple(dict.fromkeys(patch.slug for patch in patches))
        given = {part: cell_inputs.of(pair, part, patches) for part in parts}
        for version in in_order(pythons_of(pair, pythons, every_python)):
            for part in parts:  # in sequence: the parts share environments
                whole = json.dumps([FORM, version, given[part]], sort_keys=True)
                found.append(Cell(pair, version, part, slugs, hashlib.sha256(whole.encode()).hexdigest()))
    return found


def unsupported(pairs: Sequence[Pair], pythons: Sequence[str]) -> dict[str, list[str]]:
    """
    Return the requested combinations that :func:`choose` leaves out.

    :param pythons: the requested Python versions.
    :return: ``{Python version: names of the pairs that do not support it}``, without empty entries.
    """
    found = {
        version: [pair.name for pair in pairs if version not in supported(pair)]
        for version in in_order(pythons)
    }
    return {version: names for version, names in found.items() if names}


def inputs_unchanged(root: Path, folder: Path, cell: Cell) -> bool:
    """
    Check whether the inputs of a cell are the same as when it was chosen. Reads all of them from disk again.

    :param root: the checkout of this project.
    :param folder: the folder of the series.
    """
    try:
        pair = releases.load(folder).pair(cell.pair.name)
        (now,) = choose(root, series_module.load(folder), [pair], [cell.python], parts=[cell.part])
    except (Problem, OSError, ValueError):  # a file is invalid now
        return False
    return now.fingerprint == cell.fingerprint


class CellInputs:
    """
    The inputs of cells. Each file is read once.

    :param root: the checkout of this project.
    """

    def __init__(self, root: Path, series: Series) -> None:
        self.root, self.series = root, series
        # Includes patches that no `series` file lists: their tests must fail.
        self.patches = (*series.patches, *unlisted(series.folder))
        self.listed = upstream.load(series.folder)
        self.newest = releases.load(series.folder).newest_pair
        self._digests: dict[Path, str] = {}
        self._tests: dict[str, tuple[str, ...]] = {}
        self.standin = inputs.standin(root)

    def serving(self, pair: Pair) -> list[Patch]:
        """Return the patches that serve a pair."""
        return [patch for patch in self.patches if patch.serves(pair.core) or patch.serves(pair.fab)]

    def digests(self, folder: Path, paths: Sequence[str]) -> dict[str, str]:
        """Return ``{path: SHA-256}``, with ``missing`` for a file that does not exist."""
        for path in (folder / path for path in paths):
            if path not in self._digests:
                exists = path.is_file()
                self._digests[path] = hashlib.sha256(path.read_bytes()).hexdigest() if exists else "missing"
        return {path: self._digests[folder / path] for path in paths}

    def tests(self, patch: Patch) -> tuple[str, ...]:
        """Return the test files of a patch."""
        if patch.slug not in self._tests:
            try:
                expected = expectations.load(self.series.folder, patch.slug)
                self._tests[patch.slug] = (expected.file,)
            except Problem:
                self._tests[patch.slug] = ()  # the run reports the problem
        return (*patch.tests, *self._tests[patch.slug])

    def of(self, pair: Pair, part: Part, patches: Sequence[Patch]) -> dict[str, Any]:
        """
        Return the inputs of a cell, except the Python version, as JSON-serializable data.

        :param patches: the patches that serve the pair.
        """
        given: dict[str, Any] = {
            "part": part.value,
            "pair": [str(pair.core), dict(pair.core.hashes), str(pair.fab), dict(pair.fab.hashes)],
            "resolved": str(pair.exclude_newer),
            "beside": [*environments.EXTRAS, *pair.core.constraints, *pair.fab.constraints],
            "patches": [(patch.name, patch_digest(patch)) for patch in patches],
            "series": [patch.name for patch in patches if patch in self.series.patches],
            "standin": self.standin,
        }
        if pair.base:
            given["base"] = pair.base
        if part is Part.MUTANTS:
            given["newest"] = pair.name == self.newest.name  # the only pair on which patches also run alone
        if part is Part.UPSTREAM:
            given["listed"] = [entry.test for entry in self.listed if entry.serves(pair.fab)]
            given["ran"] = [upstream.PACKAGES, sorted(upstream.IGNORED)]
        else:
            tests = sorted({path for patch in patches for path in self.tests(patch)})
            given["files"] = self.digests(self.root, tests)
            slugs = [f"expectations/{patch.slug}.toml" for patch in patches]
            given["expectations"] = self.digests(self.series.folder, slugs)
        return given


def patch_digest(patch: Patch) -> str:
    """
    Return the SHA-256 of the parts of a patch that affect an outcome: its edits and the patches it needs.

    The message, the ``Applies-To`` range and the cured bugs do not affect an outcome.
    """
    whole = [patch.edits_sha256, patch.requires, patch.together_with]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()
