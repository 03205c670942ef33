"""Import patches: write a release into a git tree, with each of its patches as a commit."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from airflow_auth_patches.releases.fetching import sources
from airflow_auth_patches.releases.releases import Release
from airflow_auth_patches.series.deriving import merge_onto
from airflow_auth_patches.series.exporting import refreshed
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.tree import (
    BASE,
    EMAIL,
    IDENTITY,
    IMPORTED,
    NOTES,
    Tree,
    added_files,
    commit_edits,
    commit_patch,
    folder_of,
    remember,
    write_files,
)
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.progress import SILENT, Progress


def import_patches(project: Project, release: Release, progress: Progress = SILENT) -> Tree:
    """
    Write a release into a git tree: its sdist at upstream's paths, our added files, its patches as commits.

    :return: the tree. It replaces an older tree that has no unsaved changes. A patch in range that does not
        apply is merged three-way, see :func:`.deriving.merge_onto`.
    :raises Problem: if a patch neither applies nor merges, or if the older tree has changes that are not in
        ``patches/`` or cannot be read by git. The older tree is not changed then.
    """
    folder = folder_of(project.root, release)
    if folder.exists():
        _refuse_if_worked_in(Tree(folder, release), project)
    partial, old = (folder.with_name(f".{folder.name}.{end}") for end in ("partial", "old"))
    for left in (partial, old):  # an import that was stopped leaves them
        if left.exists():
            shutil.rmtree(left)
    partial.mkdir(parents=True)
    try:
        with progress.task(f"importing the patches of {release}"):
            merged = _import(Tree(partial, release), project, sources(release, progress))
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    finally:
        for done_with in (partial, old):
            shutil.rmtree(done_with, ignore_errors=True)
    return Tree(folder, release, merged)


def _import(tree: Tree, project: Project, released: Mapping[str, bytes]) -> dict[str, str]:
    write_files(tree.folder, released)
    tree.git("init", "--quiet", "--initial-branch=main")
    tree.git("config", "notes.rewriteRef", NOTES)
    tree.git("config", "user.name", IDENTITY)
    tree.git("config", "user.email", EMAIL)
    tree.git("config", "core.autocrlf", "false")
    tree.commit(f"{tree.release} as released\n")
    added = added_files(project.root, tree.release).items()
    write_files(tree.folder, {path: file.read_bytes() for path, file in added})
    tree.commit("Files that the series adds\n")
    tree.git("tag", BASE)
    merged = {}
    for patch in project.series.serving(tree.release):
        try:
            commit_patch(tree, patch)
        except Problem:
            files = {
                path: (tree.folder / path).read_bytes()
                for path in {*released, *patch.edits}
                if (tree.folder / path).is_file()
            }
            found = merge_onto(project, patch.slug, tree.release, files)
            if found is None:
                raise
            source, content = found
            write_files(tree.folder, content)
            commit_edits(tree, patch)
            merged[patch.name] = source.name
    tree.git("tag", IMPORTED)
    patches = [patch.path for patch in project.series.serving(tree.release)]
    remember(tree, IMPORTED, project.root, [*added_files(project.root, tree.release).values(), *patches])
    return merged


def _refuse_if_worked_in(tree: Tree, project: Project) -> None:
    try:
        head, imported = tree.git("rev-parse", "HEAD", IMPORTED).split()
        changed = tree.git("status", "--porcelain")
        refs = ("--exclude=refs/notes/*", "--all", "--not", "HEAD", IMPORTED)
        elsewhere = tree.git("rev-list", "--max-count=1", *refs)
    except Problem as error:  # a repository that git cannot read may have unsaved changes
        raise Problem(
            f"Cannot tell whether {tree.folder} has unsaved changes: {error.what.rstrip('.')}.",
            error.remedy or "Copy what you need from that folder, and remove it.",
        ) from error
    if elsewhere:
        raise Problem(
            f"{tree.folder} has commits on another branch, or a stash.",
            "Move what you need to the branch main, export it with `refresh`, and remove the folder.",
        )
    if changed or (head != imported and refreshed(tree, project)):
        raise Problem(
            f"{tree.folder} has changes that are not in patches/.",
            f"Export them with `airflow-auth-patches refresh {tree.release}`, or remove the folder.",
        )
