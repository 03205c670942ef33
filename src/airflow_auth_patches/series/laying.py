"""The way out of the round trip: a release laid out as a git tree, each of its patches a commit."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from airflow_auth_patches.releases.fetching import sources
from airflow_auth_patches.releases.releases import Pins, Release
from airflow_auth_patches.series.refreshing import refreshed
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.series.tree import (
    BASE,
    EMAIL,
    IDENTITY,
    LAID,
    NOTES,
    Tree,
    added_files,
    commit_patch,
    folder_of,
    remember,
    write_files,
)
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.progress import Progress, Silent


def lay(root: Path, series: Series, pins: Pins, release: Release, progress: Progress | None = None) -> Tree:
    """
    Lay out a release: its sdist at the upstream paths, our added files, its patches as commits.

    :param root: the checkout of this project.
    :return: the tree; one that was there is replaced, unless it holds work that is not in ``patches/``.
    :raises Problem: when a patch does not apply, or the tree that is there holds work or is none that git can
        read; it is then as it was.
    """
    folder = folder_of(root, release)
    if folder.exists():
        _refuse_if_worked_in(Tree(folder, release), series, pins)
    partial, old = (folder.with_name(f".{folder.name}.{end}") for end in ("partial", "old"))
    for left in (partial, old):  # by one that was ended
        if left.exists():
            shutil.rmtree(left)
    partial.mkdir(parents=True)
    try:
        with (progress or Silent()).task(f"laying out {release}"):
            _lay(Tree(partial, release), root, series, sources(release, progress))
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    finally:
        for done_with in (partial, old):
            shutil.rmtree(done_with, ignore_errors=True)
    return Tree(folder, release)


def _lay(tree: Tree, root: Path, series: Series, released: Mapping[str, bytes]) -> None:
    write_files(tree.folder, released)
    tree.git("init", "--quiet", "--initial-branch=main")
    tree.git("config", "notes.rewriteRef", NOTES)
    tree.git("config", "user.name", IDENTITY)
    tree.git("config", "user.email", EMAIL)
    tree.git("config", "core.autocrlf", "false")
    tree.commit(f"{tree.release} as released\n")
    added = added_files(root, tree.release).items()
    write_files(tree.folder, {path: file.read_bytes() for path, file in added})
    tree.commit("Files that the series adds\n")
    tree.git("tag", BASE)
    for patch in series.serving(tree.release):
        commit_patch(tree, patch)
    tree.git("tag", LAID)
    patches = [patch.path for patch in series.serving(tree.release)]
    remember(tree, LAID, root, [*added_files(root, tree.release).values(), *patches])


def _refuse_if_worked_in(tree: Tree, series: Series, pins: Pins) -> None:
    try:
        head, laid = tree.git("rev-parse", "HEAD", LAID).split()
        changed = tree.git("status", "--porcelain")
        refs = ("--exclude=refs/notes/*", "--all", "--not", "HEAD", LAID)
        aside = tree.git("rev-list", "--max-count=1", *refs)
    except Problem as error:  # what git cannot read may be work
        raise Problem(
            f"Whether {tree.folder} holds work cannot be told: {error.what.rstrip('.')}.",
            error.remedy or "Keep what you need of that folder, and remove it.",
        ) from error
    if aside:
        raise Problem(
            f"{tree.folder} has commits on another branch, or a stash.",
            "Bring what is to stay to the branch main, write it back with `refresh`, and remove the folder.",
        )
    if changed or (head != laid and refreshed(tree, series, pins)):
        raise Problem(
            f"{tree.folder} holds work that is not in patches/.",
            f"Write it back first: airflow-auth-patches refresh {tree.release}, or remove the folder.",
        )
