"""Compute how commits change a checkout of Airflow that differs from the release, without writing files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airflow_auth_patches.contribute.export import Commit
from airflow_auth_patches.releases.checkout import Checkout
from airflow_auth_patches.releases.fetching import sources
from airflow_auth_patches.releases.releases import Release
from airflow_auth_patches.series import hunks
from airflow_auth_patches.series.tree import merge_file
from airflow_auth_patches.util.errors import Problem


@dataclass(frozen=True)
class Moved:
    """
    A hunk that applies at another line than in the release.

    :param slug: the patch.
    :param path: the file.
    :param hunk: the number of the hunk in the file, from 1.
    :param offset: the number of lines, positive if it moved down.
    """

    slug: str
    path: str
    hunk: int
    offset: int

    def __str__(self) -> str:
        return f"{self.slug}: {self.path}: hunk {self.hunk} moved by {self.offset:+} lines"


@dataclass(frozen=True)
class Merged:
    """
    A file with rejected hunks that was merged three-way.

    :param slug: the patch.
    :param path: the file.
    :param hunks: the numbers of the rejected hunks in the file, from 1.
    """

    slug: str
    path: str
    hunks: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.slug}: {self.path}: {_numbered(self.hunks)} rejected, then merged three-way: review it"


@dataclass(frozen=True)
class Plan:
    """
    The commits to write.

    :param steps: each commit with the files that it changes: ``{monorepo path: content}``.
    :param told: the hunks that moved and the files that were merged.
    """

    steps: tuple[tuple[Commit, Mapping[str, bytes]], ...]
    told: tuple[Moved | Merged, ...]


def plan(checkout: Checkout, release: Release, commits: Sequence[Commit]) -> Plan:
    """
    Return the commits for a checkout, without writing anything.

    A hunk applies where its old text is, if that occurs exactly once. A file with a rejected hunk is merged
    three-way: the patched file of the release and the file of the checkout, based on the released file.

    :param release: the release on which the commits were made.
    :raises Problem: if the checkout already has the edits of a patch, or a patch does not apply. The message
        lists every file that conflicts.
    """
    released = dict(sources(release))
    now: dict[str, bytes] = {}
    steps: list[tuple[Commit, Mapping[str, bytes]]] = []
    told: list[Moved | Merged] = []
    for commit in commits:
        patch = commit.patch
        changed: dict[str, bytes] = {}
        wrong: list[str] = []
        for path, edits in patch.edits.items():
            if path in patch.adds:
                continue
            ours = now[path] if path in now else checkout.read(path)
            if ours is None:
                wrong.append(f"{path}: the checkout has no such file")
                continue
            theirs = hunks.apply(released[path], edits)
            try:
                found = hunks.places(ours, edits)
            except hunks.HunkFault:
                lost = tuple(number for number, hunk in enumerate(edits, 1) if not _fits(ours, hunk))
                merged = merge_file(checkout.scratch, ours, released[path], theirs)
                if merged is None:
                    wrong.append(f"{path}: {_numbered(lost)} rejected, and a three-way merge conflicts")
                elif merged != ours:
                    changed[path] = merged
                    told.append(Merged(patch.slug, path, lost))
            else:
                changed[path] = hunks.apply(ours, edits)
                original = hunks.places(released[path], edits)
                told += [
                    Moved(patch.slug, path, number, line - before)
                    for number, (line, before) in enumerate(zip(found, original, strict=True), 1)
                    if line != before
                ]
            released[path], now[path] = theirs, changed.get(path, ours)
        created = hunks.apply_all(released, {path: patch.edits[path] for path in sorted(patch.adds)})
        released.update(created)
        fresh, in_the_way = _new_to(checkout, now, created)
        changed.update(fresh)
        now.update(fresh)
        wrong += in_the_way
        if not wrong and not changed:
            raise Problem(
                f"{checkout.path} already has the edits of {patch.slug}.",
                "Name only the other patches with --patch.",
            )
        fresh, in_the_way = _new_to(checkout, now, commit.added)
        changed.update(fresh)
        now.update(fresh)
        wrong += in_the_way
        if wrong:
            raise Problem(
                f"{patch.name} does not apply to {checkout.path}, and nothing was changed:\n"
                + "\n".join(f"  {line}" for line in wrong),
                "Name a commit nearer to the release with --at, or apply the patch by hand: `git am --3way`.",
            )
        steps.append((commit, changed))
    return Plan(tuple(steps), tuple(told))


def _new_to(
    checkout: Checkout, now: Mapping[str, bytes], files: Mapping[str, bytes]
) -> tuple[dict[str, bytes], list[str]]:
    """
    Return which files that a commit adds are new to a checkout.

    :param now: ``{path: content}`` after the earlier commits.
    :param files: ``{path: content}`` of the files that the commit adds. A file that the checkout has with the
        same content is not new.
    :return: the new files, and a message for each file that cannot be added.
    """
    fresh: dict[str, bytes] = {}
    wrong: list[str] = []
    for path, content in files.items():
        there = now[path] if path in now else checkout.read(path)
        if there is None and checkout.entry(path) is not None:
            wrong.append(f"{path}: the checkout has a folder or link with that name")
        elif there is not None and there != content:
            wrong.append(f"{path}: the checkout has a file with that name and other content")
        elif there is None:
            fresh[path] = content
    return fresh, wrong


def _fits(content: bytes, hunk: hunks.Hunk) -> bool:
    try:
        hunks.places(content, [hunk])
    except hunks.HunkFault:
        return False
    return True


def _numbered(numbers: Sequence[int]) -> str:
    if not numbers:
        return "overlapping hunks"
    return f"hunk{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
