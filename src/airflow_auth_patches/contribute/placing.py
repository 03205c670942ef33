"""What commits make of a checkout of Airflow that is not the release: worked out, and nothing written."""

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
    A hunk that stands at another line than in the release.

    :param hunk: its number in the file, from 1.
    :param offset: by how many lines, down if positive.
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
    A file in which hunks had no place, and a merge with the release's found one.

    :param hunks: their numbers in the file, from 1.
    """

    slug: str
    path: str
    hunks: tuple[int, ...]

    def __str__(self) -> str:
        return (
            f"{self.slug}: {self.path}: {_numbered(self.hunks)} had no place; merged three-way, so look at it"
        )


@dataclass(frozen=True)
class Plan:
    """
    What the commits will be.

    :param steps: each commit with the files it changes: ``{monorepo path: content}``.
    :param told: what is not where the release has it.
    """

    steps: tuple[tuple[Commit, Mapping[str, bytes]], ...]
    told: tuple[Moved | Merged, ...]


def plan(checkout: Checkout, release: Release, commits: Sequence[Commit]) -> Plan:
    """
    Work out what commits make of a checkout, and write nothing.

    A hunk goes where its old text is, if that is at one place only. A file in which one has no place is
    merged three-way: what the patch makes of the release's file, with what the checkout has in its place.

    :param release: what the commits were made on.
    :raises Problem: when the checkout has what a patch does already, or it cannot be applied; with every
        file that is in the way.
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
                    wrong.append(f"{path}: {_numbered(lost)} had no place, and a three-way merge conflicts")
                elif merged != ours:
                    changed[path] = merged
                    told.append(Merged(patch.slug, path, lost))
            else:
                changed[path] = hunks.apply(ours, edits)
                stood = hunks.places(released[path], edits)
                told += [
                    Moved(patch.slug, path, number, line - before)
                    for number, (line, before) in enumerate(zip(found, stood, strict=True), 1)
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
                f"{checkout.path} has what {patch.slug} does already.", "Name the others with --patch."
            )
        fresh, in_the_way = _new_to(checkout, now, commit.added)
        changed.update(fresh)
        now.update(fresh)
        wrong += in_the_way
        if wrong:
            raise Problem(
                f"{patch.name} does not apply to {checkout.path}, and nothing was changed:\n"
                + "\n".join(f"  {line}" for line in wrong),
                "Name a commit nearer to the release with --at, or apply it by hand: `git am --3way`.",
            )
        steps.append((commit, changed))
    return Plan(tuple(steps), tuple(told))


def _new_to(
    checkout: Checkout, now: Mapping[str, bytes], files: Mapping[str, bytes]
) -> tuple[dict[str, bytes], list[str]]:
    """
    Work out which files that a commit adds are new to a checkout.

    :param now: what the commits before it made of their files.
    :param files: the files that it adds. One that the checkout has with the same content is not new.
    :return: the new files, and a line for each that cannot be added.
    """
    fresh: dict[str, bytes] = {}
    wrong: list[str] = []
    for path, content in files.items():
        there = now[path] if path in now else checkout.read(path)
        if there is None and checkout.entry(path) is not None:
            wrong.append(f"{path}: the checkout has something else of that name")
        elif there is not None and there != content:
            wrong.append(f"{path}: the checkout has another one")
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
        return "hunks, one above the other,"
    return f"hunk{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
