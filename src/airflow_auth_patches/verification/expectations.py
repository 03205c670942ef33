"""
The expected outcomes of a patch's unit tests, and its mutants: ``patches/expectations/SLUG.toml``.

Each test is in one of three lists. ``fails-on-stock``: the test fails on stock releases, by an assertion.
``new-api``: the test uses what the patch adds, so its outcome on stock does not matter. ``regression``: the
test passes on stock and patched. Each ``[[mutant]]`` replaces a piece of the patched file and names the tests
that must fail then. With ``alone``, the tests also pass when no other patch is applied.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_auth_patches.series import series
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Patch
from airflow_auth_patches.util import toml
from airflow_auth_patches.util.errors import Fault, Problem

FOLDER = "expectations"
KEYS = {"file", "alone", "fails-on-stock", "new-api", "regression", "mutant"}
MUTANT_KEYS = {"name", "path", "old", "new", "killed-by", "forms"}


@dataclass(frozen=True)
class Mutant:
    """
    A change that removes one safeguard from a patched file.

    :param path: the monorepo path of the patched file.
    :param old: the text to replace, which occurs once.
    :param new: the text without the safeguard.
    :param killed_by: the tests that fail with the mutant, at least one.
    :param forms: the forms of the patch that have the safeguard in these words; empty for all.
    """

    name: str
    path: str
    old: str
    new: str
    killed_by: tuple[str, ...]
    forms: tuple[str, ...] = ()

    def of(self, patch: Patch) -> bool:
        """Check whether the form of the patch has the safeguard in these words."""
        return not self.forms or patch.name in self.forms


@dataclass(frozen=True)
class Expectations:
    """
    The content of ``patches/expectations/SLUG.toml``.

    :param path: that file.
    :param file: the monorepo path of the unit tests.
    :param alone: whether the tests also pass when no other patch is applied.
    """

    path: Path
    file: str
    fails_on_stock: tuple[str, ...]
    new_api: tuple[str, ...]
    regression: tuple[str, ...]
    mutants: tuple[Mutant, ...]
    alone: bool = False

    @property
    def tests(self) -> tuple[str, ...]:
        """All tests."""
        return *self.fails_on_stock, *self.new_api, *self.regression

    def mutants_of(self, patch: Patch) -> tuple[Mutant, ...]:
        """Return the mutants of this form of the patch, in the files that it edits."""
        return tuple(mutant for mutant in self.mutants if mutant.path in patch.edits and mutant.of(patch))


def load(folder: Path, slug: str) -> Expectations:
    """
    Read the expectations of a patch.

    :raises Problem: when the file is missing or invalid, has an unknown key, or a mutant that no test kills.
    """
    path = folder / FOLDER / f"{slug}.toml"
    with toml.opened(path, "Correct it. docs/series.md describes its format.") as raw:
        _known(raw, KEYS)
        return Expectations(
            path,
            raw["file"],
            tuple(raw["fails-on-stock"]),
            tuple(raw.get("new-api", ())),
            tuple(raw.get("regression", ())),
            tuple(map(_mutant, raw.get("mutant", ()))),
            raw.get("alone", False),
        )


def _mutant(raw: Mapping[str, Any]) -> Mutant:
    _known(raw, MUTANT_KEYS)
    if not raw["killed-by"]:
        raise ValueError(f"the mutant {raw['name']!r} is killed by no test")
    killed_by, forms = tuple(raw["killed-by"]), tuple(raw.get("forms", ()))
    return Mutant(raw["name"], raw["path"], raw["old"], raw["new"], killed_by, forms)


def _known(raw: Mapping[str, Any], keys: set[str]) -> None:
    if unknown := sorted(set(raw) - keys):
        raise ValueError(f"unknown key {unknown[0]!r}; the keys are {', '.join(sorted(keys))}")


def summary(expected: Expectations, patch: Patch) -> str:
    """Return a sentence that counts a patch's tests and mutants, for a pull request or a docs page."""
    counted = (
        (len(expected.fails_on_stock), "fails", "fail", "without this change, by an assertion on behaviour"),
        (len(expected.regression), "passes", "pass", "with it and without it"),
        (len(expected.new_api), "is", "are", "on what it adds"),
    )
    parts = [
        f"{number} {one if number == 1 else many} {when}" for number, one, many, when in counted if number
    ]
    text = f"Of the unit tests that come with it, {'; '.join(parts)}."
    mutants = len(expected.mutants_of(patch))
    if mutants == 1:
        text += " A named test fails without its one safeguard."
    elif mutants:
        text += (
            f" Each of its {mutants} safeguards (a lock, a second check) was removed in turn, and a named "
            "test failed each time."
        )
    return text


def summaries(folder: Path, *slugs: str) -> str:
    """
    Return the summaries of patches as a Markdown list, for the page of a bug.

    :raises Problem: when the series cannot be read.
    """
    patches = {patch.slug: patch for patch in series.load(folder).patches if patch.variant is None}
    return "\n".join(f"- `{slug}`: {summary(load(folder, slug), patches[slug])}" for slug in slugs)


def test_names(file: Path) -> set[str]:
    """Return the names of the tests in a file. Methods are returned without the name of their class."""
    return {*_test_names(file.read_text(encoding="utf-8"))}


@functools.lru_cache(maxsize=128)  # all forms of a patch have the same tests
def _test_names(code: str) -> frozenset[str]:
    return frozenset(
        node.name
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


def faults(project: Project, patch: Patch) -> Iterator[Fault]:
    """Check the expectations of a patch against its trailers and its test file, without running the tests."""
    try:
        expected = load(project.series.folder, patch.slug)
    except Problem as problem:
        yield Fault(patch.path, 1, problem.what)
    else:
        yield from (Fault(expected.path, 1, what) for what in _faults(project.root, expected, patch))


def _faults(root: Path, expected: Expectations, patch: Patch) -> Iterator[str]:
    if patch.tests != (expected.file,):
        yield f"`file` is {expected.file}, but the patch's Tests trailer names another file."
    if not (root / expected.file).is_file():
        return
    names = test_names(root / expected.file)
    for name in sorted(names - set(expected.tests)):
        yield f"{name} is in no list. Add it to fails-on-stock, new-api or regression."
    for name in sorted(set(expected.tests) - names):
        yield f"{name} is not in {expected.file}."
    for name in sorted({name for name in expected.tests if expected.tests.count(name) > 1}):
        yield f"{name} is listed twice. Remove one entry."
    if patch.cures and not expected.fails_on_stock:
        yield "The patch cures a bug, but no test fails on stock. Add one to fails-on-stock."
    for mutant in expected.mutants:
        if not {name.partition("[")[0] for name in mutant.killed_by} <= names:
            yield f"The mutant {mutant.name} names a test that is not in {expected.file}."
        for form in mutant.forms:
            if not patch.path.with_name(f"{form}.patch").is_file():
                yield f"The mutant {mutant.name} names the form {form}, which does not exist."


def mutant_faults(folder: Path, patch: Patch, after: Mapping[str, bytes]) -> Iterator[Fault]:
    """
    Check that the text that each mutant replaces occurs exactly once in the patched files.

    A variant that does not edit a file skips the mutants of that file. The newest form must have all mutants
    but those of other forms.

    :param after: the patched files, by monorepo path.
    """
    try:
        expected = load(folder, patch.slug)
    except Problem:
        return  # faults() reports it
    newest = filter(lambda mutant: mutant.of(patch), expected.mutants)
    for mutant in newest if patch.variant is None else expected.mutants_of(patch):
        count = after.get(mutant.path, b"").decode().count(mutant.old)
        if count != 1:
            what = (
                f"The text of the mutant {mutant.name!r} occurs {count} times in the patched file, not once."
            )
            yield Fault(expected.path, 1, what)
