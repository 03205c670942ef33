"""The part of the lint that applies patches: on every release in range, with the bytes that git gives."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from airflow_auth_patches.releases.fetching import sources
from airflow_auth_patches.releases.releases import Pins, Release
from airflow_auth_patches.series import hunks, tree
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util.errors import Fault, Problem
from airflow_auth_patches.util.progress import Progress
from airflow_auth_patches.verification import expectations


def line_of(patch: Patch, start: str) -> int:
    """Return the number of the first line of a patch that starts so, from 1; 1 where none does."""
    for number, line in enumerate(patch.content.decode().splitlines(), 1):
        if line.startswith(start):
            return number
    return 1


def _before(series: Series, release: Release, patch: Patch) -> dict[str, bytes]:
    """Return the files of a release with the patches before this one applied."""
    files = dict(sources(release))
    for earlier in series.serving(release):
        if earlier.slug == patch.slug:
            break
        files.update(hunks.apply_all(files, earlier.edits))
    return files


def could_be_one(patch: Patch, other: Patch, series: Series, pins: Pins) -> bool:
    """Tell whether another form of a patch gives the same bytes on every release that the patch serves."""
    try:
        for release in pins.releases:
            if patch.serves(release):
                files = _before(series, release, patch)
                if {**files, **hunks.apply_all(files, patch.edits)} != {
                    **files,
                    **hunks.apply_all(files, other.edits),
                }:
                    return False
    except hunks.HunkFault:
        return False
    return True


def applies(root: Path, series: Series, release: Release, progress: Progress) -> Iterator[Fault]:
    """
    Check the patches of a release on it: they apply and reverse, as git does it, and leave what compiles.

    :param root: the checkout of this project.
    :return: every fault; those of the patches after one that does not apply are not told.
    :raises Problem: when the release cannot be fetched.
    """
    files = dict(sources(release, progress))
    ours = tree.added_files(root, release)
    for path, file in ours.items():
        if path in files:
            yield Fault(file, 1, f"{release} has that file in its sdist: an added file takes a new name.")
    for patch in series.serving(release):
        try:
            after = hunks.apply_all(files, patch.edits)
        except hunks.HunkFault as fault:
            yield Fault(patch.path, fault.line, f"It does not apply to {release}: {fault.what}")
            return  # those after it build on it
        for path in sorted(patch.adds & ours.keys()):
            yield Fault(ours[path], 1, f"{patch.name} adds that file too: keep one of the two.")
        try:
            back = hunks.apply_all(
                after, {path: [hunk.reversed() for hunk in edits] for path, edits in patch.edits.items()}
            )
            clean = all(back.get(path) == files.get(path) for path in patch.edits)
        except hunks.HunkFault:
            clean = False
        if not clean:
            yield Fault(patch.path, 1, f"It does not reverse cleanly on {release}.")
        yield from _compiles(patch, release, after)
        yield from (Fault(*fault) for fault in expectations.mutant_faults(series.folder, patch, after))
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
                    f"{path} of {release} does not compile, line {error.lineno}: {error.msg}.",
                )


def _as_git(
    patch: Patch, release: Release, files: Mapping[str, bytes], after: Mapping[str, bytes]
) -> Iterator[Fault]:
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as name:
        laid = tree.Tree(Path(name), release)
        tree.write_files(laid.folder, {path: files[path] for path in patch.edits.keys() - patch.adds})
        try:
            laid.git("apply", patch.path.resolve())
        except Problem as problem:
            yield Fault(
                patch.path, 1, f"`git apply` does not take it on {release}: {problem.what.splitlines()[-1]}"
            )
            return
        for path in patch.edits:
            if (laid.folder / path).read_bytes() != after[path]:
                yield Fault(
                    patch.path,
                    line_of(patch, f"+++ b/{path}"),
                    f"On {release}, `git apply` gives other bytes.",
                )
