"""Check that each patch applies to every release that it serves, with the same result as ``git apply``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from airflow_auth_patches.releases.releases import Release
from airflow_auth_patches.series import hunks, tree
from airflow_auth_patches.series.deriving import before
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Patch
from airflow_auth_patches.util.errors import Fault, Problem
from airflow_auth_patches.verification import expectations

#: The edited files that a patch was found to give, by the patch file and the files before it.
Sound = dict[tuple[Path, bytes, frozenset[tuple[str, bytes]]], Mapping[str, bytes]]


def line_of(patch: Patch, start: str) -> int:
    """Return the 1-based number of the first line of a patch with this prefix, or 1 if there is none."""
    lines = enumerate(patch.content.decode().splitlines(), 1)
    return next((number for number, line in lines if line.startswith(start)), 1)


def same_files(
    project: Project, patch: Patch, released: Mapping[Release, Mapping[str, bytes]]
) -> Sequence[Patch]:
    """
    Return the other forms of a patch that give the same files on every release that the patch serves.

    :param released: the files of each release that the series edits: ``{monorepo path: content}``.
    """
    others = [other for other in project.series.forms(patch.slug) if other is not patch]
    try:
        for release in filter(patch.serves, released):
            files = before(project.series, release, patch.slug, released[release])
            after = {**files, **hunks.apply_all(files, patch.edits)}
            others = [other for other in others if _after(files, other) == after]
    except hunks.HunkFault:
        return ()
    return others


def _after(files: Mapping[str, bytes], patch: Patch) -> Mapping[str, bytes] | None:
    """Return the files after a patch is applied; ``None`` if it does not apply."""
    try:
        return {**files, **hunks.apply_all(files, patch.edits)}
    except hunks.HunkFault:
        return None


def applies(
    project: Project, release: Release, released: Mapping[str, bytes], sound: Sound
) -> Iterator[Fault]:
    """
    Check that the patches of a release apply to it and reverse, match ``git apply``, and compile.

    :param released: the files of the release, at least those that the series edits or adds:
        ``{monorepo path: content}``.
    :param sound: the results of other releases, to which those of this one are added: a patch without faults
        is not checked again on the same files.
    :return: the faults; the check stops at the first patch that does not apply.
    """
    files = dict(released)
    ours = tree.added_files(project.root, release)
    for path, file in ours.items():
        if path in files:
            yield Fault(file, 1, f"The sdist of {release} already has that file. Rename the added file.")
    for patch in project.series.serving(release):
        edited = frozenset((path, files[path]) for path in patch.edits.keys() & files.keys())
        key = (patch.path, patch.content, edited)
        after = sound.get(key)
        if after is None:
            try:
                after = hunks.apply_all(files, patch.edits)
            except hunks.HunkFault as fault:
                yield Fault(patch.path, fault.line, f"The patch does not apply to {release}: {fault.what}")
                return  # later patches build on this one
            found = [
                *_reverses(patch, release, files, after),
                *_compiles(patch, release, after),
                *expectations.mutant_faults(project.series.folder, patch, after),
                *_as_git(patch, release, files, after),
            ]
            yield from found
            if not found:
                sound[key] = after
        for path in sorted(patch.adds & ours.keys()):
            yield Fault(ours[path], 1, f"{patch.name} also adds that file. Keep one of the two.")
        files.update(after)


def _reverses(
    patch: Patch, release: Release, files: Mapping[str, bytes], after: Mapping[str, bytes]
) -> Iterator[Fault]:
    try:
        restored = hunks.apply_all(after, hunks.reversed_edits(patch.edits))
        clean = all(restored.get(path) == files.get(path) for path in patch.edits)
    except hunks.HunkFault:
        clean = False
    if not clean:
        yield Fault(
            patch.path, 1, f"The patch does not reverse cleanly on {release}. Correct its context lines."
        )


def _compiles(patch: Patch, release: Release, after: Mapping[str, bytes]) -> Iterator[Fault]:
    for path, content in after.items():
        if path.endswith(".py"):
            try:
                compile(content, path, "exec", dont_inherit=True)
            except SyntaxError as error:
                line = line_of(patch, f"+++ b/{path}")
                what = f"Patched {path} of {release} does not compile, line {error.lineno}: {error.msg}."
                yield Fault(patch.path, line, what)


def _as_git(
    patch: Patch, release: Release, files: Mapping[str, bytes], after: Mapping[str, bytes]
) -> Iterator[Fault]:
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as name:
        work_tree = tree.Tree(Path(name), release)
        tree.write_files(work_tree.folder, {path: files[path] for path in patch.edits.keys() - patch.adds})
        try:
            work_tree.git("apply", patch.path.resolve())
        except Problem as problem:
            what = f"`git apply` rejects the patch on {release}: {problem.what.splitlines()[-1]}"
            yield Fault(patch.path, 1, what)
            return
        for path in patch.edits:
            if (work_tree.folder / path).read_bytes() != after[path]:
                what = f"On {release}, `git apply` writes a different file. Refresh the patch."
                yield Fault(patch.path, line_of(patch, f"+++ b/{path}"), what)
