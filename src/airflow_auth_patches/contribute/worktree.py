"""Apply commits to a user's checkout of Airflow with `git am --3way`, in a temporary worktree of it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from airflow_auth_patches.contribute.export import Commit
from airflow_auth_patches.releases.checkout import PLAIN, worktree
from airflow_auth_patches.releases.fetching import sources
from airflow_auth_patches.releases.releases import Release
from airflow_auth_patches.series import hunks
from airflow_auth_patches.series.tree import write_files
from airflow_auth_patches.util import git
from airflow_auth_patches.util.errors import Problem, UsageProblem

#: Git's messages in English, because they are read and shown.
ENGLISH = {"LC_ALL": "C", "LANGUAGE": None}
ALREADY = "the checkout already has its edits"


@dataclass(frozen=True)
class Applied:
    """
    The result of `git am --3way` for some commits.

    :param folder: the worktree, with the commits that apply.
    :param head: the id of the last commit.
    :param notes: what to review: hunks that moved, and files that were merged three-way.
    :param failed: ``{slug: reasons}`` of the patches that are not in the worktree.
    """

    folder: Path
    head: str
    notes: tuple[str, ...]
    failed: Mapping[str, Sequence[str]]


@contextmanager
def applied(
    checkout: Path, commit: str, release: Release, commits: Sequence[Commit], *, files: bool = True
) -> Iterator[Applied]:
    """
    Apply each commit that applies, in a temporary worktree of a checkout.

    A commit that conflicts is left out, as is one whose patch requires it.

    :param release: the release on which the commits were made.
    :param files: whether the worktree needs all its files, not only those that the commits change.
    :return: a context manager that gives the worktree and the result.
    :raises Problem: if git fails for another reason than a conflict.
    """
    with (
        worktree(checkout, commit, files=files) as folder,
        tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as mails,
    ):
        _write_bases(folder, Path(mails), release, commits)
        for each in commits:
            _write_files(folder, (*each.patch.edits, *each.added))
        notes: list[str] = []
        failed: dict[str, Sequence[str]] = {}
        for each in commits:
            slug = each.patch.slug
            lacking = [name for name in each.patch.requires if failed.get(name, (ALREADY,)) != (ALREADY,)]
            if lacking:
                failed[slug] = (f"it requires {', '.join(lacking)}",)
            elif reasons := _apply(folder, Path(mails), each, notes):
                failed[slug] = reasons
        yield Applied(folder, git.run(folder, "rev-parse", "HEAD").strip(), tuple(notes), failed)


def _write_bases(folder: Path, scratch: Path, release: Release, commits: Sequence[Commit]) -> None:
    """Write the blobs that the patches edit, the bases of three-way merges, which the checkout may lack."""
    files = dict(sources(release))
    bases: dict[str, bytes] = {}
    for commit in commits:
        for path in commit.patch.edits:
            if path in files:
                bases[f"bases/{len(bases)}"] = files[path]
        files |= hunks.apply_all(files, commit.patch.edits)
    write_files(scratch, bases)
    names = "".join(f"{scratch / name}\n" for name in bases)
    git.run(folder, *PLAIN, "hash-object", "-w", "--no-filters", "--stdin-paths", stdin=names)


def _write_files(folder: Path, paths: Iterable[str]) -> None:
    """Write files from the index into the worktree, because a merge refuses to change those that differ."""
    names = git.run(folder, *PLAIN, "ls-files", "--", *paths)
    git.run(folder, *PLAIN, "checkout-index", "--index", "--force", "--stdin", stdin=names)


def _apply(folder: Path, mails: Path, commit: Commit, notes: list[str]) -> tuple[str, ...]:
    """
    Apply one commit.

    :param notes: the list to which notes are added.
    :return: why it does not apply; empty if it does.
    """
    slug, mail = commit.patch.slug, mails / commit.name
    mail.write_bytes(commit.content)
    name, _, address = commit.author.removesuffix(">").rpartition(" <")
    env = {**ENGLISH, "GIT_COMMITTER_NAME": name, "GIT_COMMITTER_EMAIL": address}
    before = git.run(folder, "rev-parse", "HEAD").strip()
    check = git.attempt(folder, *PLAIN, "apply", "--cached", "--check", "--verbose", mail, env=env)
    done = git.attempt(
        folder, *PLAIN, "am", "--3way", "--keep-cr", "--no-scissors", "--no-message-id", mail, env=env
    )
    if done.returncode:
        files = (*commit.patch.edits, *commit.added)
        found = re.findall(r"(?m)^CONFLICT .*", done.stdout)
        found += [
            f"{path}: the checkout has a folder with that name" for path in files if (folder / path).is_dir()
        ]
        git.run(folder, *PLAIN, "am", "--skip", env=env)
        git.run(folder, *PLAIN, "clean", "-d", "--force", "--quiet", "-x")
        _write_files(folder, files)
        return tuple(found) or (f"`git am` failed: {done.stderr.strip()}",)
    if not git.run(folder, *PLAIN, "diff", "--name-only", before, "HEAD", "--", *commit.patch.edits):
        git.run(folder, *PLAIN, "reset", "--quiet", "--keep", before)
        return (ALREADY,)
    if not check.returncode:
        for told in re.split(r"(?m)^Checking patch ", check.stderr)[1:]:
            path, *lines = told.splitlines()
            notes += [f"{slug}: {path.removesuffix('...')}: {line}" for line in lines if "offset" in line]
    notes += [
        f"{slug}: {path}: merged three-way, because the patch did not apply: review it"
        for path in re.findall(r"(?m)^Auto-merging (.*)", done.stdout)
    ]
    return ()


def refusal(checkout: Path, result: Applied, count: int) -> Problem:
    """Return the error that names each patch that does not apply, with every file that conflicts."""
    lines = [f"  {slug}: {reason}" for slug, reasons in result.failed.items() for reason in reasons]
    return Problem(
        f"{len(result.failed)} of {count} patches cannot be applied to {checkout}, and nothing was changed:\n"
        + "\n".join(lines),
        "Leave these patches out with --skip-conflicts, name a commit nearer to the release with --at, or "
        "apply them by hand: `git am --3way`.",
    )


def check_name(checkout: Path, branch: str) -> None:
    """
    Check that a branch with a name can be created.

    :raises Problem: if the name is not valid, or is taken.
    """
    if git.attempt(checkout, "check-ref-format", "--branch", branch).stdout != f"{branch}\n":
        raise UsageProblem(f"{branch!r} is not a valid branch name.", "Choose another name with --branch.")
    full = f"refs/heads/{branch}"
    # The branches `a` and `a/b` cannot both exist.
    for ref in git.run(checkout, "for-each-ref", "--format=%(refname)", "refs/heads/").splitlines():
        if f"{full}/".startswith(f"{ref}/") or ref.startswith(f"{full}/"):
            raise Problem(
                f"{checkout} already has the branch {ref.removeprefix('refs/heads/')}.",
                "Choose another name with --branch.",
            )


def create_branch(checkout: Path, branch: str, commit: str) -> None:
    """
    Create a branch at a commit, in one step.

    :raises Problem: if the branch exists, or git fails.
    """
    reason = ("-m", "branch: Created by export")
    git.run(checkout, *PLAIN, "update-ref", *reason, f"refs/heads/{branch}", commit, "")
