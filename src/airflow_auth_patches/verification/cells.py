"""
The cells of the test matrix: what is run of which pair of releases on which Python.

A cell depends on the patches that serve its pair (what they edit and need, not what they say), their tests
and expectations, the pins of the pair, the stand-in plugin and the Python; their hash is its fingerprint.
What was run with another one is due again.
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
from airflow_auth_patches.series import series as series_room
from airflow_auth_patches.series.series import Patch, Series, unlisted
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.verification import expectations, inputs, upstream

#: The Pythons of the matrix, and the one on which every pair is run.
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
USUAL = "3.11"
#: To be raised when what a run of a cell shows becomes another: all are due then.
FORM = 2


class Part(str, Enum):
    """What is run in a cell."""

    TESTS = "tests"  #: the unit tests of its patches, on stock and patched
    MUTANTS = "mutants"  #: the same tests with each mutant, which they must kill
    UPSTREAM = "upstream-tests"  #: upstream's own, stock and patched


@dataclass(frozen=True)
class Cell:
    """
    One cell of the matrix.

    :param python: the Python version, as in ``3.11``.
    :param patches: the slugs of the patches that serve the pair.
    :param fingerprint: a SHA-256 of what the outcome depends on.
    """

    pair: Pair
    python: str
    part: Part
    patches: tuple[str, ...]
    fingerprint: str

    @property
    def name(self) -> str:
        """Pair, Python and part, as in ``3.3.2+3.8.0 3.11 tests``."""
        return f"{self.pair.name} {self.python} {self.part.value}"


def in_order(versions: Iterable[str]) -> list[str]:
    """Return Python versions without repetition, the oldest first."""
    return sorted(set(versions), key=lambda version: [int(number) for number in version.split(".")])


def supported(pair: Pair) -> tuple[str, ...]:
    """Return the Python versions that both releases of a pair support."""
    return tuple(version for version in pair.core.pythons if version in pair.fab.pythons)


def pythons_of(pair: Pair, pythons: Sequence[str] | None, every_python: bool) -> tuple[str, ...]:
    """
    Choose the Pythons of a pair, of those that both its releases support.

    :param pythons: exactly these; by default the usual one, and on a default pair all of the matrix.
    :param every_python: all of the matrix.
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
    Choose cells of the matrix, in the order of the pairs.

    :param root: the checkout of this project.
    :param pythons: see :func:`pythons_of`.
    :raises Problem: when no pair supports a named Python.
    """
    for version in pythons or ():
        if not any(version in supported(pair) for pair in pairs):
            there = in_order(each for pair in pairs for each in supported(pair))
            raise Problem(
                f"No pair that was chosen supports Python {version}.",
                f"They support {', '.join(there)}.",
                Exit.USAGE,
            )
    ground = Ground(root, series)
    found: list[Cell] = []
    for pair in pairs:
        patches = ground.serving(pair)
        slugs = tuple(dict.fromkeys(patch.slug for patch in patches))
        given = {part: ground.under(pair, part, patches) for part in parts}
        for version in in_order(pythons_of(pair, pythons, every_python)):
            for part in parts:  # one after the other: they share environments
                whole = json.dumps([FORM, version, given[part]], sort_keys=True)
                found.append(Cell(pair, version, part, slugs, hashlib.sha256(whole.encode()).hexdigest()))
    return found


def unsupported(pairs: Sequence[Pair], pythons: Sequence[str]) -> dict[str, list[str]]:
    """
    Name what :func:`choose` leaves out of what was asked for.

    :param pythons: those that were asked for by name.
    :return: ``{Python version: names of the pairs that do not support it}``, where there are some.
    """
    found = {
        version: [pair.name for pair in pairs if version not in supported(pair)]
        for version in in_order(pythons)
    }
    return {version: names for version, names in found.items() if names}


def still_holds(root: Path, folder: Path, cell: Cell) -> bool:
    """
    Tell whether a cell depends on the same as when it was chosen, with all read from the disk again.

    :param root: the checkout of this project.
    :param folder: the folder of the series.
    """
    try:
        pair = releases.load(folder).pair(cell.pair.name)
        (now,) = choose(root, series_room.load(folder), [pair], [cell.python], parts=[cell.part])
    except (Problem, OSError, ValueError):  # broken now
        return False
    return now.fingerprint == cell.fingerprint


class Ground:
    """
    What cells depend on, each file read once.

    :param root: the checkout of this project.
    """

    def __init__(self, root: Path, series: Series) -> None:
        self.root, self.series = root, series
        # Those in no `series` too: their tests must tell.
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
        """Return ``{path: SHA-256}``, or ``missing`` for a file that is not there."""
        for path in (folder / path for path in paths):
            if path not in self._digests:
                there = path.is_file()
                self._digests[path] = hashlib.sha256(path.read_bytes()).hexdigest() if there else "missing"
        return {path: self._digests[folder / path] for path in paths}

    def tests(self, patch: Patch) -> tuple[str, ...]:
        """Return the files that prove a patch."""
        if patch.slug not in self._tests:
            try:
                expected = expectations.load(self.series.folder, patch.slug)
                self._tests[patch.slug] = (expected.file,)
            except Problem:
                self._tests[patch.slug] = ()  # the run will tell
        return (*patch.tests, *self._tests[patch.slug])

    def under(self, pair: Pair, part: Part, patches: Sequence[Patch]) -> dict[str, Any]:
        """
        Return what the outcome of a cell depends on, but for its Python, as plain data.

        :param patches: those that serve the pair.
        """
        given: dict[str, Any] = {
            "part": part.value,
            "pair": [str(pair.core), dict(pair.core.hashes), str(pair.fab), dict(pair.fab.hashes)],
            "resolved": str(pair.exclude_newer),
            "beside": [*environments.EXTRAS, *pair.core.constraints, *pair.fab.constraints],
            "patches": [(patch.name, decisive(patch)) for patch in patches],
            "series": [patch.name for patch in patches if patch in self.series.patches],
            "standin": self.standin,
        }
        if pair.base:
            given["base"] = pair.base
        if part is Part.MUTANTS:
            given["newest"] = pair.name == self.newest.name  # where patches are proven alone too
        if part is Part.UPSTREAM:
            given["listed"] = [entry.test for entry in self.listed if entry.serves(pair.fab)]
            given["ran"] = [upstream.PACKAGES, sorted(upstream.IGNORED)]
        else:
            tests = sorted({path for patch in patches for path in self.tests(patch)})
            given["files"] = self.digests(self.root, tests)
            slugs = [f"expectations/{patch.slug}.toml" for patch in patches]
            given["expectations"] = self.digests(self.series.folder, slugs)
        return given


def decisive(patch: Patch) -> str:
    """
    Return a SHA-256 of what an outcome depends on in a patch that serves: its edits, and what it needs.

    What it says, to whom it applies elsewhere and what it cures decide nothing here.
    """
    whole = [patch.edits_sha256, patch.requires, patch.together_with]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()
