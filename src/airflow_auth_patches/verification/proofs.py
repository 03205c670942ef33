"""
What the proofs of a patch say: the place of each of its tests, and its guards.

``patches/proofs/SLUG.toml`` gives each unit test of a patch its place: ``red`` fails on stock by an
assertion, ``new-surface`` uses what the patch adds and says nothing on stock, ``kept`` passes on both. Each
``[[guard]]`` is a piece of the patched file, what it is without its guard, and the tests that then fail.
With ``alone``, the tests pass too where the patch is the only one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from airflow_auth_patches.series.series import Patch
from airflow_auth_patches.util import toml
from airflow_auth_patches.util.errors import Problem


@dataclass(frozen=True)
class Guard:
    """
    A guard of a patch.

    :param path: the monorepo path of the patched file.
    :param old: its text with the guard, which occurs once.
    :param new: the text without the guard.
    :param red: the tests that fail without it.
    """

    name: str
    path: str
    old: str
    new: str
    red: tuple[str, ...]


@dataclass(frozen=True)
class Proof:
    """
    What ``patches/proofs/SLUG.toml`` says.

    :param alone: whether the tests are to pass with no other patch too.
    """

    path: Path
    file: str
    red: tuple[str, ...]
    new_surface: tuple[str, ...]
    kept: tuple[str, ...]
    guards: tuple[Guard, ...]
    alone: bool = False

    def guards_of(self, patch: Patch) -> tuple[Guard, ...]:
        """Return the guards in the files that a form of the patch edits."""
        return tuple(guard for guard in self.guards if guard.path in patch.edits)


def load(folder: Path, slug: str) -> Proof:
    """
    Read the proofs of a patch.

    :param folder: the folder of the series.
    :raises Problem: when the file is missing or broken.
    """
    path = folder / "proofs" / f"{slug}.toml"
    with toml.opened(path, "Write it as docs/series.md says.") as raw:
        guards = tuple(
            Guard(g["name"], g["path"], g["old"], g["new"], tuple(g["red"])) for g in raw.get("guard", ())
        )
        return Proof(
            path,
            raw["file"],
            tuple(raw["red"]),
            tuple(raw.get("new-surface", ())),
            tuple(raw.get("kept", ())),
            guards,
            raw.get("alone", False),
        )


def test_names(file: Path) -> set[str]:
    """Return the names of the tests in a file, those of a class without its name."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def faults(root: Path, folder: Path, patch: Patch) -> Iterator[tuple[Path, int, str]]:
    """
    Tell what is wrong with the proofs of a patch, without running them.

    :return: file, line and fault.
    """
    try:
        proof = load(folder, patch.slug)
    except Problem as problem:
        yield patch.path, 1, problem.what
        return
    if patch.tests != (proof.file,):
        yield proof.path, 1, f"`file` is {proof.file}, but the patch's Tests trailer says otherwise."
    if not (root / proof.file).is_file():
        return
    listed = [*proof.red, *proof.new_surface, *proof.kept]
    names = test_names(root / proof.file)
    for name in sorted(names - set(listed)):
        yield proof.path, 1, f"{name} has no place: red, new-surface or kept."
    for name in sorted(set(listed) - names):
        yield proof.path, 1, f"{name} is not in {proof.file}."
    for name in sorted({name for name in listed if listed.count(name) > 1}):
        yield proof.path, 1, f"{name} has two places."
    if patch.cures and not proof.red:
        yield proof.path, 1, "A patch that cures a bug has at least one red test."
    for guard in proof.guards:
        if not {name.partition("[")[0] for name in guard.red} <= names:
            yield proof.path, 1, f"The guard {guard.name} names tests that are not in {proof.file}."


def guard_faults(folder: Path, patch: Patch, after: Mapping[str, bytes]) -> Iterator[tuple[Path, int, str]]:
    """
    Tell which guards of a patch are not in the patched files exactly once.

    A variant may leave out a file, whose guards then have no place in it; the newest form leaves out none.

    :param after: the patched files, by monorepo path.
    :return: file, line and fault.
    """
    try:
        proof = load(folder, patch.slug)
    except Problem:
        return  # told by faults()
    for guard in proof.guards if patch.variant is None else proof.guards_of(patch):
        found = after.get(guard.path, b"").decode().count(guard.old)
        if found != 1:
            yield (
                proof.path,
                1,
                f"The text of the guard {guard.name!r} occurs {found} times in the patched file.",
            )
