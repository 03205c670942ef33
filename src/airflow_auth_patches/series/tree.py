"""A git tree of a release, at the monorepo's paths, with each patch as a commit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from airflow_auth_patches.releases.releases import Pins, Release
from airflow_auth_patches.series import hunks
from airflow_auth_patches.series.series import Patch
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.processes import attempt, run

#: The author and committer of every commit. The address does not exist.
IDENTITY = "airflow-auth-patches"
EMAIL = "airflow-auth-patches@users.noreply.example"
#: The tag of the commit below the patches.
BASE = "series-base"
#: The tag of the last patch after the import.
IMPORTED = "series-imported"
#: The tag of the last patch after an export.
EXPORTED = "series-exported"
NOTES = "refs/notes/patch"
FORMAT = (
    *("--zero-commit", "--full-index", "--no-signature", "--no-stat", "-N", "--stdout", "--no-renames"),
    *("--no-encode-email-headers", "--diff-algorithm=myers", "--unified=3", "--subject-prefix=PATCH"),
    *("--no-attach", "--no-thread", "--no-cover-letter", "--no-base", "--no-notes"),
)


@dataclass(frozen=True)
class Tree:
    """
    A git tree of a release.

    :param merged: the patches that the import merged three-way: ``{name: name of the form that was merged}``.
    """

    folder: Path
    release: Release
    merged: Mapping[str, str] = field(default_factory=dict)

    def git(self, *arguments: str | Path, date: str | None = None, stdin: str | None = None) -> str:
        """Run git in the tree, without the user's settings and git variables, and return its output."""
        env = {
            **{name: None for name in os.environ if name.startswith("GIT_")},
            "GIT_DIR": ".git",  # otherwise git searches parent folders if .git is missing or damaged
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": IDENTITY,
            "GIT_AUTHOR_EMAIL": EMAIL,
            "GIT_COMMITTER_NAME": IDENTITY,
            "GIT_COMMITTER_EMAIL": EMAIL,
            "GIT_AUTHOR_DATE": date or "2026-01-01T00:00:00+0000",
            "GIT_COMMITTER_DATE": date or "2026-01-01T00:00:00+0000",
        }
        return run(["git", *arguments], cwd=self.folder, env=env, stdin=stdin)

    def commit(self, message: str, date: str | None = None, author: str | None = None) -> None:
        """Commit everything in the tree; the default author is this project."""
        self.git("add", "--all", "--force")
        options = ("--quiet", "--no-verify", "--allow-empty", "--cleanup=verbatim", "-F", "-")
        by = f"--author={author or f'{IDENTITY} <{EMAIL}>'}"
        self.git("commit", *options, by, date=date, stdin=message)


def folder_of(root: Path, release: Release) -> Path:
    """Return the folder of a release's tree in the checkout of this project."""
    return root / "build" / "tree" / f"{release.distribution.folder}-{release.version}"


def added_files(root: Path, release: Release) -> dict[str, Path]:
    """Return ``{monorepo path: file in this project}`` of the files that the series adds to a release."""
    base = root / release.distribution.root
    files = (path for path in sorted(base.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root).as_posix(): path for path in files}


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a folder."""
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def merge_file(folder: Path, ours: bytes, base: bytes, theirs: bytes) -> bytes | None:
    """
    Merge one file as git does, and if that conflicts, merge changes of adjacent lines separately.

    :param folder: the folder for the three temporary files.
    :return: the merged file; ``None`` if both sides change the same lines.
    """
    if ours == base or base == theirs:
        return theirs if ours == base else ours
    for end in (b"\n", b"\n\x01\n"):  # an extra line after each line separates adjacent changes
        versions = {"ours": ours, "base": base, "theirs": theirs}
        write_files(folder, {name: text.replace(b"\n", end) for name, text in versions.items()})
        if attempt(["git", "merge-file", "--quiet", *versions], cwd=folder).returncode == 0:
            return (folder / "ours").read_bytes().replace(end, b"\n")
    return None


def commit_patch(tree: Tree, patch: Patch) -> None:
    """
    Apply a patch in a tree and commit it with its message and date.

    :raises Problem: if the patch does not apply.
    """
    edit(tree, patch)
    commit_edits(tree, patch)


def commit_edits(tree: Tree, patch: Patch) -> None:
    """Commit the files of a tree with the message, date and name of a patch."""
    tree.commit(f"{patch.subject}\n\n{patch.body}\n", date=patch.date)
    tree.git("notes", f"--ref={NOTES}", "add", "-m", patch.name, "HEAD")


def edit(tree: Tree, patch: Patch) -> None:
    """
    Apply a patch in a tree without a commit.

    :raises Problem: if the patch does not apply.
    """
    files = {
        path: (tree.folder / path).read_bytes() for path in patch.edits if (tree.folder / path).is_file()
    }
    try:
        write_files(tree.folder, hunks.apply_all(files, patch.edits))
    except hunks.HunkFault as fault:
        raise Problem(
            f"{patch.path}:{fault.line}: {patch.name} does not apply to {tree.release}: {fault.what}",
            fault.remedy,
        ) from fault


def format_commit(tree: Tree, commit: str, without: Mapping[str, object]) -> bytes:
    """
    Return a commit as a patch file, in the format of this series.

    :param without: the paths to leave out: the files that the series adds.
    """
    excluded = [f":(exclude){path}" for path in without]
    text = tree.git("format-patch", *FORMAT, "-1", commit, "--", ".", *excluded)
    return text.encode()


def format_edits(
    tree: Tree, before: Mapping[str, bytes], after: Mapping[str, bytes], message: str, date: str
) -> bytes:
    """
    Return edits as a patch file, in the format of this series.

    :param tree: a repository without a work tree; its branch is overwritten.
    :param before: ``{path: content}`` of the files to edit, in UTF-8.
    :param after: the same files and the files to add.
    :param message: the message of the patch with its trailers.
    :param date: the date of the patch, as in e-mails.
    """
    stream = []
    for text, files in (("before\n", before), (message, after)):
        stream.append(f"commit refs/heads/main\ncommitter {IDENTITY} <{EMAIL}> {date}\n{_data(text)}")
        stream += [f"M 100644 inline {path}\n{_data(each.decode())}" for path, each in files.items()]
    # The branch may be that of earlier edits, which the first commit does not follow.
    tree.git("fast-import", "--quiet", "--force", "--date-format=rfc2822", stdin="".join(stream))
    return format_commit(tree, "main", {})


def _data(text: str) -> str:
    return f"data {len(text.encode())}\n{text}\n"


def newest(patch: Patch, pins: Pins) -> Release:
    """Return the newest pinned release that a patch is for, from which the patch file is made."""
    return max((release for release in pins.releases if patch.serves(release)), key=lambda r: r.version)


def remember(tree: Tree, tag: str, root: Path, files: Iterable[Path]) -> None:
    """Save the project's files at the time of a tag, to detect later edits in the project."""
    saved = tree.folder / ".git" / tag
    write_files(saved, {file.relative_to(root).as_posix(): file.read_bytes() for file in files})
