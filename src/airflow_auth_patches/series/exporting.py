"""Export patches: write the commits of a release's git tree back to the series."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from airflow_auth_patches.releases.releases import Distribution, Release
from airflow_auth_patches.series import hunks
from airflow_auth_patches.series.deriving import derive
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import patch_of, series_order
from airflow_auth_patches.series.tree import (
    BASE,
    EXPORTED,
    IMPORTED,
    NOTES,
    Tree,
    added_files,
    folder_of,
    format_commit,
    newest,
    remember,
)
from airflow_auth_patches.util.errors import Problem, UsageProblem


def refreshed(tree: Tree, project: Project) -> dict[Path, bytes]:
    """
    Return the files that an export of a tree would write.

    The bytes of a patch come from its newest release. In the tree of another release, a commit that differs
    from its patch only in blob hashes and line numbers changes nothing, so that an unchanged tree of any
    release exports nothing. A file that changed in the project and not in the tree since the last import or
    export is not overwritten. A new commit becomes a patch file that is named for its subject.

    :return: ``{file: content}`` of the files of this project that differ: patches, added files, and
        ``series`` if a patch is new.
    :raises Problem: if the tree has uncommitted changes, the commit of a patch is missing, a new commit has
        the name of another patch, a file was edited both in the project and in the tree, or a commit cannot
        become a patch.
    """
    root, folder = project.root, project.series.folder / tree.release.distribution.folder
    status = tree.git("status", "--porcelain")
    if status:
        raise Problem(f"{tree.folder} has uncommitted changes.", "Commit or discard them.")
    dist = tree.release.distribution
    writes: dict[Path, bytes] = {}
    added = added_files(root, tree.release)
    order = series_order(project.series.folder, dist)
    tags = [tag for tag in (IMPORTED, EXPORTED) if tree.git("tag", "--list", tag)]
    edited = set(tree.git("diff", "--name-only", IMPORTED, "HEAD").splitlines())
    for path, file in added.items():
        if path in edited and (tree.folder / path).is_file():
            there = (tree.folder / path).read_bytes()
            before = [tree.git("show", f"{tag}:{path}").encode() for tag in tags]
            if _to_write(tree, root, file, there, before):
                writes[file] = there
    formed = [
        {_name_of(tree, commit): format_commit(tree, commit, added) for commit in _commits(tree, tag)}
        for tag in tags
    ]
    known = {patch.name: patch for patch in project.series.serving(tree.release)}
    for commit in _commits(tree, "HEAD"):
        content = format_commit(tree, commit, added)
        if b"\ndiff --git " not in content:
            continue
        name = _name_of(tree, commit)
        patch = known.pop(name, None)
        target = folder / f"{name}.patch"
        if patch:
            here = newest(patch, project.releases) == tree.release
            if not here and _semantic(patch.content) == _semantic(content):
                continue
            before = [forms[name] for forms in formed if name in forms]
            if not _to_write(tree, root, target, content, before):
                continue
        if target in writes or (patch is None and target.exists()):
            raise Problem(
                f"The commit {commit[:10]} would become {target.relative_to(root)}, which belongs to another "
                "patch or commit.",
                f"Give it another subject, or squash both commits: git rebase -i {BASE}.",
            )
        _refuse_if_no_patch(dist, commit, content)
        writes[target] = content
        if (slug := name.partition("~")[0]) not in order:
            order.append(slug)
            writes[folder / "series"] = "".join(f"{s}\n" for s in order).encode()
    if known:
        raise Problem(
            f"The tree has no commit for {', '.join(known)}.",
            "Restore the commit. To remove the patch, remove its file and its line in `series`, and import "
            "the patches again with `airflow-auth-patches tree`.",
        )
    return writes


def _refuse_if_no_patch(dist: Distribution, commit: str, content: bytes) -> None:
    """
    Check that a commit can become a patch of the series.

    :param content: the commit as a patch file.
    :raises Problem: if the series cannot read the patch, or the patch adds a file that is not installed.
    """
    try:
        edits = hunks.parse(content)
    except hunks.HunkFault as fault:
        raise Problem(
            f"The commit {commit[:10]} cannot become a patch. {fault.what}",
            f"Change the commit: git rebase -i {BASE}.",
        ) from fault
    for path, each in edits.items():
        if each[0].creates and not dist.installs(path):
            raise Problem(
                f"The commit {commit[:10]} adds {path}, which {dist.name} does not install.",
                f"Remove it from the commit: git rebase -i {BASE}. Put a new test or news fragment into this "
                "project, at the same path, and import the patches again with `airflow-auth-patches tree`.",
            )


def _commits(tree: Tree, end: str) -> list[str]:
    return tree.git("rev-list", "--reverse", f"{BASE}..{end}").split()


def _to_write(tree: Tree, root: Path, file: Path, there: bytes, before: Collection[bytes]) -> bool:
    """
    Check whether the content in a tree must replace a file of the project.

    :param there: the content in the tree.
    :param before: its content after the import, and after the last export.
    :raises Problem: if both were edited since then.
    """
    here = file.read_bytes()
    copies = [tree.folder / ".git" / tag / file.relative_to(root) for tag in (IMPORTED, EXPORTED)]
    known = [copy.read_bytes() for copy in copies if copy.is_file()]
    if there == here or (known and here not in known and there in before):
        return False
    if known and here not in known:
        raise Problem(
            f"{file.relative_to(root)} was edited both in {tree.folder} and in this checkout.",
            "Undo one of the edits. To keep both, move the tree away, import the patches again with "
            "`airflow-auth-patches tree`, and repeat the edit of the old tree in the new one.",
        )
    return True


def _semantic(content: bytes) -> bytes:
    """Return a patch without blob hashes, line numbers and section headings, which depend on the release."""
    content = re.sub(rb"(?m)^index [0-9a-f]{40}\.\.[0-9a-f]{40}( \d+)?$", b"index", content)
    return re.sub(rb"(?m)^@@ -\d+(,\d+)? \+\d+(,\d+)? @@.*$", rb"@@ \1 \2", content)


def _name_of(tree: Tree, commit: str) -> str:
    try:
        return tree.git("notes", f"--ref={NOTES}", "show", commit).strip()
    except Problem:
        subject = tree.git("log", "-1", "--format=%s", commit)
        return re.sub(r"[^a-z0-9]+", "-", subject.lower()).strip("-")


def refresh(project: Project, release: Release | None) -> list[Path]:
    """
    Export the commits of a release's tree to the series, and derive the older forms of each patch.

    :param release: the release of the tree; with ``None`` no tree is read, and all older forms are derived.
    :return: the files that were written; empty for an unchanged tree.
    :raises Problem: if there is no tree, if an edit would be lost because its form is derived from a newer
        one, and as :func:`refreshed` does. Nothing is written then.
    """
    if release is None:
        return _write({form.patch.path: form.content for form in derive(project)})
    tree = Tree(folder_of(project.root, release), release)
    if not (tree.folder / ".git").is_dir():
        raise UsageProblem(
            f"There is no tree of {release}.", f"Create it first: airflow-auth-patches tree {release}"
        )
    writes = refreshed(tree, project)
    done = _write({**writes, **_followers(project, writes)})
    tree.git("tag", "--force", EXPORTED, "HEAD")
    remember(tree, EXPORTED, project.root, writes)
    return done


def _followers(project: Project, writes: Mapping[Path, bytes]) -> dict[Path, bytes]:
    """
    Return the patch files that change because of the exported ones.

    :param writes: the files that the tree exports.
    :raises Problem: if the tree edits a form that is derived from a newer form.
    """
    edited = [
        patch_of(patch.path, patch.distribution, writes[patch.path]) if patch.path in writes else patch
        for patch in project.series.patches
    ]
    slugs = {patch.slug for patch in edited if patch.path in writes}
    series = dataclasses.replace(project.series, patches=tuple(edited))
    forms = derive(dataclasses.replace(project, series=series), slugs)
    for form in forms:
        if form.source and form.lost and form.patch.path in writes:
            what = "The edits" if form.lost == "edits" else "The message"
            raise Problem(
                f"{what} of {form.patch.name} would be lost, because it is derived from {form.source.name}.",
                f"Edit {form.source.name} in the tree of {newest(form.source, project.releases)}"
                + (", or add the trailer `By-Hand: REASON` above `Tests:`." if form.lost == "edits" else "."),
            )
    return {form.patch.path: form.content for form in forms}


def _write(files: Mapping[Path, bytes]) -> list[Path]:
    """Write the files that differ, and return their paths."""
    done = [path for path, content in files.items() if not path.exists() or path.read_bytes() != content]
    for path in done:
        partial = path.with_name(f".{path.name}.new")
        partial.write_bytes(files[path])
        partial.replace(path)
    return done
