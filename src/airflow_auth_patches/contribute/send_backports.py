"""Export patches of core for main and for the branches of the older release lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from airflow_auth_patches.contribute import backports, export, pull_request
from airflow_auth_patches.contribute.backports import Variant
from airflow_auth_patches.contribute.export import Commit
from airflow_auth_patches.contribute.send import Exported, body_name, known_author, labels_of, usable, written
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util.progress import SILENT, Progress


def backport(
    project: Project,
    output: Path | None,
    names: Sequence[str],
    *,
    author: str | None = None,
    number: int | None = None,
    bodies: bool = False,
    news: bool = True,
    progress: Progress = SILENT,
) -> Exported:
    """
    Export patches of core for main and for each older release line that they are for.

    :param output: the folder to write into, new or empty; it gets a folder for each branch. ``None`` to write
        no files and only return the differences.
    :param author: the author, as ``Name <mail>``; by default git's user.
    :param number: the number of the pull request to main.
    :param bodies: whether to write the body of a pull request for each commit.
    :param news: whether to add the newsfragments.
    :raises Problem: if a patch is for the provider, no patch goes to an older line, or the folder is not
        empty. Nothing is written then.
    """
    found = backports.variants(project, names)
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
            made = export.commits(project, release, variant.patches, author, number, branch, news=news)
            difference = ""
            if newest is not None:
                difference = backports.range_diff((newest[0].line.release, newest[1]), (release, made))
                differences[f"{newest[0].line.branch}..{line.branch}"] = difference
        for commit in made:
            files[f"{line.branch}/{commit.name}"] = commit.content
            if bodies and line.served:
                text = pull_request.body(
                    project,
                    release,
                    commit,
                    labels_of(project, release, commit.patch) if line.newest else (),
                    number if newest and newest[0].line.newest else None,
                    difference if newest and newest[0].line.newest else "",
                )
                files[f"{line.branch}/{body_name(commit)}"] = text.encode()
        newest = newest or (variant, made)
    with written(output, files) as paths:
        pass
    return Exported(paths, tuple(_notes(project.series, found, number)), differences=differences)


def _notes(series: Series, found: Sequence[Variant], number: int | None) -> list[str]:
    """Return notes for the sender, one or two sentences each."""
    said = []
    for variant in found:
        line = variant.line
        said += [f"{slug} does not go to {line.branch}: {why}." for slug, why in variant.left.items()]
    older = [variant for variant in found if variant.patches and not variant.line.newest]
    retired = [variant.line.branch for variant in older if not variant.line.served]
    if retired:
        said.append(
            f"Upstream releases nothing from {', '.join(retired)}: their commits are for those who build "
            "these lines. Open no pull request with them."
        )
    for slug in dict.fromkeys(patch.slug for variant in found for patch in variant.patches):
        serving = [v.line for v in found if v.line.served and any(p.slug == slug for p in v.patches)]
        labels = [line.label for line in serving if line.label]
        kind = export.kind_of(series, next(p for v in found for p in v.patches if p.slug == slug))
        if kind not in (None, "bugfix"):
            said.append(f"{slug} is of the kind {kind}. The branches accept only bug fixes, so ask first.")
        elif serving and serving[0].newest:
            said.append(f"Labels for {slug} on its pull request to main: {', '.join(labels) or 'none'}.")
        elif serving:
            said.append(
                f"{slug} is not for main, so no label can backport it. "
                f"Open a pull request to {', '.join(line.branch for line in serving)}."
            )
    made_on = ", ".join(f"for {each.line.branch} on {each.line.release.version}" for each in older)
    said.append(
        f"The commits are made {made_on}: check that they apply to the branch (--checkout, without "
        "--backports). `git am` keeps the branch name in a title only with --keep-non-patch."
    )
    if number is None:
        said.append("The titles lack the number of the pull request to main: add it with --pr.")
    return said
