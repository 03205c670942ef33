"""Write a fix for main and for the branches of the older release lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_auth_patches.contribute import backports, pull_request
from airflow_auth_patches.contribute import export as commits_room
from airflow_auth_patches.contribute.backports import Variant
from airflow_auth_patches.contribute.export import Commit
from airflow_auth_patches.contribute.send import body_name, known_author, labels_of, usable, written
from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util.progress import Progress, Silent


@dataclass(frozen=True)
class Backported:
    """
    What was written.

    :param files: the commits, a folder for each branch, each with its body after it.
    :param notes: what the sender must know.
    :param differences: ``git range-diff`` of each line with the newest that takes the patches, by heading.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...]
    differences: dict[str, str]


def backport(
    root: Path,
    series: Series,
    pins: Pins,
    output: Path | None,
    names: Sequence[str],
    *,
    author: str | None = None,
    number: int | None = None,
    bodies: bool = False,
    progress: Progress | None = None,
) -> Backported:
    """
    Write some patches of core for main and for each older release line that they serve.

    :param root: the checkout of this project.
    :param output: the folder to write into, a folder for each branch; it is made, or is empty. ``None`` to
        write nothing, and only tell how the variants differ.
    :param names: slugs.
    :param author: who sends them, as ``Name <mail>``; by default who git says it is.
    :param number: the pull request to main.
    :param bodies: whether to write the body of a pull request beside each.
    :raises Problem: when one is of the provider, none goes to an older line, or the folder is not empty;
        nothing is written.
    """
    progress = progress or Silent()
    found = backports.variants(series, pins, names)
    author = known_author(author)
    if output is not None:
        usable(output)
    files: dict[str, bytes] = {}
    differences: dict[str, str] = {}
    newest: tuple[Variant, list[Commit]] | None = None
    for variant in found:
        line, release = variant.line, variant.line.release
        if not variant.patches:
            continue
        branch = None if line.newest else line.branch
        with progress.task(f"making {len(variant.patches)} commits for {line.branch}"):
            made = commits_room.commits(root, series, release, variant.patches, author, number, branch)
            difference = ""
            if newest is not None:
                difference = backports.range_diff((newest[0].line.release, newest[1]), (release, made))
                differences[f"{newest[0].line.branch}..{line.branch}"] = difference
        for commit in made:
            files[f"{line.branch}/{commit.name}"] = commit.content
            if bodies:
                text = pull_request.body(
                    root,
                    series,
                    pins,
                    release,
                    commit,
                    labels_of(series, pins, release, commit.patch),
                    number if newest and newest[0].line.newest else None,
                    difference if newest and newest[0].line.newest else "",
                )
                files[f"{line.branch}/{body_name(commit)}"] = text.encode()
        newest = newest or (variant, made)
    with written(output, files) as paths:
        pass
    return Backported(paths, tuple(_notes(series, found, number)), differences)


def _notes(series: Series, found: Sequence[Variant], number: int | None) -> list[str]:
    """Return what the sender must know before sending, a sentence or two each."""
    said = []
    for variant in found:
        line = variant.line
        said += [f"{slug} does not go to {line.branch}: {why}." for slug, why in variant.left.items()]
    older = [variant for variant in found if variant.patches and not variant.line.newest]
    for slug in dict.fromkeys(patch.slug for variant in found for patch in variant.patches):
        serving = [v.line for v in found if any(patch.slug == slug for patch in v.patches)]
        kind = commits_room.kind_of(series, next(p for v in found for p in v.patches if p.slug == slug))
        if kind not in (None, "bugfix"):
            said.append(f"{slug} is of the kind {kind}; the branches take bug fixes only, so ask first.")
        elif serving[0].newest:
            said.append(
                f"Labels for {slug} on its pull request to main: {', '.join(x.label for x in serving)}."
            )
        else:
            said.append(
                f"{slug} has no pull request to main that could take a label: "
                f"its own go to {', '.join(line.branch for line in serving)}."
            )
    made_on = ", ".join(f"for {each.line.branch} on {each.line.release.version}" for each in older)
    said.append(
        f"Made {made_on}: see that it applies there (--checkout, without --backports). "
        "`git am` keeps the branch in a title with --keep-non-patch only."
    )
    if number is None:
        said.append("The titles are without the number of the pull request to main: give it with --pr.")
    return said
