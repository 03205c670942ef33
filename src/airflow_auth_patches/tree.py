"""The round trip: a release in a git tree with its patches as commits, and those commits written back."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from airflow_auth_patches import hunks
from airflow_auth_patches.errors import Exit, Problem
from airflow_auth_patches.fetching import sources
from airflow_auth_patches.processes import run
from airflow_auth_patches.progress import Progress, Silent
from airflow_auth_patches.releases import Pins, Release
from airflow_auth_patches.series import Patch, Series, series_order

#: Who every patch is from, and commits; its address is none.
IDENTITY = "airflow-auth-patches"
EMAIL = "airflow-auth-patches@users.noreply.example"
#: The commit below the patches.
BASE = "series-base"
#: The last of them, as they were laid.
LAID = "series-laid"
#: The last of them, as they were written back.
WRITTEN = "series-written"
NOTES = "refs/notes/patch"
FORMAT = (
    "--zero-commit",
    "--full-index",
    "--no-signature",
    "--no-stat",
    "-N",
    "--stdout",
    "--no-renames",
    "--no-encode-email-headers",
    "--diff-algorithm=myers",
    "--unified=3",
    "--subject-prefix=PATCH",
    "--no-attach",
    "--no-thread",
    "--no-cover-letter",
    "--no-base",
    "--no-notes",
)


@dataclass(frozen=True)
class Tree:
    """
    A laid out release.

    :param folder: the git tree.
    :param release: what is in it.
    """

    folder: Path
    release: Release

    def git(self, *arguments: str | Path, date: str | None = None, stdin: str | None = None) -> str:
        """Run git in the tree, free of the user's settings and of his own git, and return what it printed."""
        env = {
            **{name: None for name in os.environ if name.startswith("GIT_")},
            "GIT_DIR": ".git",  # never one above, where that is missing or spoiled
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
        """Commit everything in the tree, by default as this project."""
        self.git("add", "--all", "--force")
        self.git(
            "commit",
            "--quiet",
            "--no-verify",
            "--allow-empty",
            "--cleanup=verbatim",
            f"--author={author or f'{IDENTITY} <{EMAIL}>'}",
            "-F",
            "-",
            date=date,
            stdin=message,
        )


def folder_of(root: Path, release: Release) -> Path:
    """Return the folder of a release's tree below the checkout of this project."""
    return root / "build" / "tree" / f"{release.distribution.folder}-{release.version}"


def added_files(root: Path, release: Release) -> dict[str, Path]:
    """Return the files that the series adds to a distribution: ``{monorepo path: file in this project}``."""
    base = root / release.distribution.root
    files = (path for path in sorted(base.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root).as_posix(): path for path in files}


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a folder."""
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


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
    _remember(tree, LAID, root, [*added_files(root, tree.release).values(), *patches])


def commit_patch(tree: Tree, patch: Patch) -> None:
    """
    Apply a patch in a tree and commit it with its message and date.

    :raises Problem: when it does not apply.
    """
    edit(tree, patch)
    tree.commit(f"{patch.subject}\n\n{patch.body}\n", date=patch.date)
    tree.git("notes", f"--ref={NOTES}", "add", "-m", patch.name, "HEAD")


def edit(tree: Tree, patch: Patch) -> None:
    """
    Apply a patch in a tree, and commit nothing.

    :raises Problem: when it does not apply.
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


def _semantic(content: bytes) -> bytes:
    """Return a patch without blob hashes, line numbers and section heads, which differ by release."""
    content = re.sub(rb"(?m)^index [0-9a-f]{40}\.\.[0-9a-f]{40}( \d+)?$", b"index", content)
    return re.sub(rb"(?m)^@@ -\d+(,\d+)? \+\d+(,\d+)? @@.*$", rb"@@ \1 \2", content)


def format_commit(tree: Tree, commit: str, without: Mapping[str, object]) -> bytes:
    """
    Return a commit as a patch file in the one form of this series.

    :param without: paths to leave out: the files that the series adds.
    """
    excluded = [f":(exclude){path}" for path in without]
    text = tree.git("format-patch", *FORMAT, "-1", commit, "--", ".", *excluded)
    return text.encode()


def refreshed(tree: Tree, series: Series, pins: Pins) -> dict[Path, bytes]:
    """
    Work out what the commits of a tree would write.

    A patch is kept as its newest release gives it; on the others, one whose commit is the same in all but
    blob hashes and line numbers stays as it is, so an untouched tree of any release changes nothing. What
    was edited here alone, since the tree was laid or written back, stays too. A commit that is new gets a
    file named for its subject.

    :return: ``{file: content}`` of the files of this project that differ, patches and added files, and
        ``series`` where a patch is new.
    :raises Problem: when something is not committed, a patch has no commit any more, or a new commit has the
        name of another, or something was edited both here and in the tree.
    """
    root = series.folder.parent
    status = tree.git("status", "--porcelain")
    if status:
        raise Problem(f"{tree.folder} has changes that are not committed.", "Commit or remove them.")
    dist = tree.release.distribution
    writes: dict[Path, bytes] = {}
    added = added_files(root, tree.release)
    order = series_order(series.folder, dist)
    tags = [tag for tag in (LAID, WRITTEN) if tree.git("tag", "--list", tag)]
    edited = set(tree.git("diff", "--name-only", LAID, "HEAD").splitlines())
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
    known = {patch.name: patch for patch in series.serving(tree.release)}
    for commit in _commits(tree, "HEAD"):
        content = format_commit(tree, commit, added)
        if b"\ndiff --git " not in content:
            continue
        name = _name_of(tree, commit)
        patch = known.pop(name, None)
        target = series.folder / dist.folder / f"{name}.patch"
        if patch:
            if _stays(patch, content, tree.release, pins):
                continue
            before = [forms[name] for forms in formed if name in forms]
            if not _to_write(tree, root, target, content, before):
                continue
        if target in writes or (patch is None and target.exists()):
            raise Problem(
                f"The commit {commit[:10]} would become {target.relative_to(root)}, which is another's.",
                f"Give it another subject, or make one commit of both: git rebase -i {BASE}.",
            )
        writes[target] = content
        if (slug := name.partition("~")[0]) not in order:
            order.append(slug)
            writes[series.folder / dist.folder / "series"] = "".join(f"{s}\n" for s in order).encode()
    if known:
        raise Problem(
            f"The tree has no commit of {', '.join(known)} any more.",
            "If that patch is to go, remove its file and its line in `series`, and lay the tree again.",
        )
    return writes


def _commits(tree: Tree, end: str) -> list[str]:
    return tree.git("rev-list", "--reverse", f"{BASE}..{end}").split()


def _to_write(tree: Tree, root: Path, file: Path, there: bytes, before: Collection[bytes]) -> bool:
    """
    Tell whether what a tree has is to take the place of a file of the project.

    :param there: what the tree has.
    :param before: what it had when it was laid, and when it was written back.
    :raises Problem: when both were edited since.
    """
    here = file.read_bytes()
    copies = [tree.folder / ".git" / tag / file.relative_to(root) for tag in (LAID, WRITTEN)]
    known = [copy.read_bytes() for copy in copies if copy.is_file()]
    if there == here or (known and here not in known and there in before):
        return False
    if known and here not in known:
        raise Problem(
            f"{file.relative_to(root)} was edited in {tree.folder}, and here since that was laid out.",
            "Take one of the edits back, or move the tree away, lay it again and bring its edit there.",
        )
    return True


def _remember(tree: Tree, tag: str, root: Path, files: Iterable[Path]) -> None:
    """Keep what the project has now, beside a tag of the tree, to tell later what was edited here."""
    kept = tree.folder / ".git" / tag
    write_files(kept, {file.relative_to(root).as_posix(): file.read_bytes() for file in files})


def newest(patch: Patch, pins: Pins) -> Release:
    """Return the newest pinned release that a patch serves: the one that its bytes are made from."""
    return max((release for release in pins.releases if patch.serves(release)), key=lambda r: r.version)


def _stays(patch: Patch, content: bytes, release: Release, pins: Pins) -> bool:
    return newest(patch, pins) != release and _semantic(patch.content) == _semantic(content)


def _name_of(tree: Tree, commit: str) -> str:
    try:
        return tree.git("notes", f"--ref={NOTES}", "show", commit).strip()
    except Problem:
        subject = tree.git("log", "-1", "--format=%s", commit)
        return re.sub(r"[^a-z0-9]+", "-", subject.lower()).strip("-")


def refresh(root: Path, series: Series, pins: Pins, release: Release) -> list[Path]:
    """
    Write the commits of a release's tree back to the series.

    :param root: the checkout of this project.
    :return: the files that were written; empty for an untouched tree.
    :raises Problem: when there is no tree, or as :func:`refreshed` does; nothing is written then.
    """
    tree = Tree(folder_of(root, release), release)
    if not (tree.folder / ".git").is_dir():
        raise Problem(
            f"There is no tree of {release}.",
            f"Lay it first: airflow-auth-patches tree {release}",
            Exit.USAGE,
        )
    writes = refreshed(tree, series, pins)
    for path, content in writes.items():
        partial = path.with_name(f".{path.name}.new")
        partial.write_bytes(content)
        partial.replace(path)
    tree.git("tag", "--force", WRITTEN, "HEAD")
    _remember(tree, WRITTEN, root, writes)
    return list(writes)
