"""Check that each patch applies to every release that it serves, with the same result as ``git apply``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from airflow_auth_patches.releases.fetching import sources
from airflow_auth_patches.releases.releases import Release
from airflow_auth_patches.series import hunks, tree
from airflow_auth_patches.series.deriving import before
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Patch
from airflow_auth_patches.util.errors import Fault, Problem
from airflow_auth_patches.util.progress import Progress
from airflow_auth_patches.verification import expectations


def line_of(patch: Patch, start: str) -> int:
    """Return the 1-based number of the first line of a patch with this prefix, or 1 if there is none."""
    for number, line in enumerate(patch.content.decode().splitlines(), 1):
        if line.startswith(start):
            return number
    return 1


def same_files(patch: Patch, others: Sequence[Patch], project: Project) -> Sequence[Patch]:
    """Return the other forms of a patch that give the same files on every release that the patch serves."""
    try:
        for release in filter(patch.serves, project.releases):
            files = before(project.series, release, patch.slug, sources(release))
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


def applies(project: Project, release: Release, progress: Progress) -> Iterator[Fault]:
    """
    Check that the patches of a release apply to it and reverse, match ``git apply``, and compile.

    :return: the faults; the check stops at the first patch that does not apply.
    :raises Problem: when the release cannot be fetched.
    """
    files = dict(sources(release, progress))
    ours = tree.added_files(project.root, release)
    for path, file in ours.items():
        if path in files:
            yield Fault(file, 1, f"The sdist of {release} already has that file. Rename the added file.")
    for patch in project.series.serving(release):
        try:
            after = hunks.apply_all(files, patch.edits)
        except hunks.HunkFault as fault:
            yield Fault(patch.path, fault.line, f"The patch does not apply to {release}: {fault.what}")
            return  # later patches build on this one
        for path in sorted(patch.adds & ours.keys()):
            yield Fault(ours[path], 1, f"{patch.name} also adds that file. Keep one of the two.")
        try:
            back = hunks.apply_all(
                after, {path: [hunk.reversed() for hunk in edits] for path, edits in patch.edits.items()}
            )
            clean = all(back.get(path) == files.get(path) for path in patch.edits)
        except hunks.HunkFault:
            clean = False
        if not clean:
            yield Fault(
                patch.path, 1, f"The patch does not reverse cleanly on {release}. Correct its context lines."
            )
        yield from _compiles(patch, release, after)
        yield from (
            Fault(*fault) for fault in expectations.mutant_faults(project.series.folder, patch, after)
        )
        yield from _as_git(patch, release, files, after)
        files.update(after)


def _compiles(patch: Patch, release: Release, after: Mapping[str, bytes]) -> Iterator[Fault]:
    for path, content in after.items():
        if path.endswith(".py"):
            try:
                compile(content, path, "exec", dont_inherit=True)
            except SyntaxError as error:
                line = line_of(patch, f"+++ b/{path}")
                yield Fault(
                    patch.path,
                    line,
                    f"Patched {path} of {release} does not compile, line {error.lineno}: {error.msg}.",
                )


def _as_git(
    patch: Patch, release: Release, files: Mapping[str, bytes], after: Mapping[str, bytes]
) -> Iterator[Fault]:
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as name:
        work_tree = tree.Tree(Path(name), release)
        tree.write_files(work_tree.folder, {path: files[path] for path in patch.edits.keys() - patch.adds})
        try:
            work_tree.git("apply", patch.path.resolve())
        except Problem as problem:
            yield Fault(
                patch.path, 1, f"`git apply` rejects the patch on {release}: {problem.what.splitlines()[-1]}"
            )
            return
        for path in patch.edits:
            if (work_tree.folder / path).read_bytes() != after[path]:
                yield Fault(
                    patch.path,
                    line_of(patch, f"+++ b/{path}"),
                    f"On {release}, `git apply` writes a different file. Refresh the patch.",
                )
