"""Add a temporary git worktree to a user's checkout of Airflow, which does not change its HEAD or files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_auth_patches.releases.releases import Release
from airflow_auth_patches.util import git
from airflow_auth_patches.util.errors import UsageProblem
from airflow_auth_patches.util.signals import shield

#: Options of git against the user's settings: no hook, signature, maintenance, conversion or sparse files.
PLAIN = tuple(
    word
    for setting in (
        *("core.hooksPath=/dev/null", "core.autocrlf=false", "core.fsmonitor=false"),
        *("core.sparseCheckout=false", "core.splitIndex=false", "index.sparse=false"),
        *("apply.ignoreWhitespace=no", "apply.whitespace=nowarn", "commit.gpgSign=false", "gc.auto=0"),
        *("i18n.commitEncoding=UTF-8", "maintenance.auto=false", "merge.renames=false"),
        "rerere.enabled=false",
    )
    for word in ("-c", setting)
)


def commit_of(path: Path, release: Release, at: str = "HEAD") -> str:
    """
    Return the id of a commit of a checkout of Airflow.

    :param path: a folder in the checkout.
    :param release: a release of the distribution that the commit must contain.
    :raises Problem: if the path is not a checkout of Airflow, or has no such commit.
    """
    if not path.is_dir():
        raise UsageProblem(f"{path} is not a folder.", "Name a checkout of Airflow.")
    found = git.attempt(path, "rev-parse", "--git-dir")
    if found.returncode:
        told = (found.stderr.strip().splitlines() or ["git printed no message"])[0]
        raise UsageProblem(f"{path} is not a git repository: {told}.", "Name a checkout of Airflow.")
    commit = git.attempt(path, "rev-parse", "--verify", "--quiet", f"{at}^{{commit}}")
    if commit.returncode:
        raise UsageProblem(f"{path} has no commit {at}.", "Name a commit with --at, or create one.")
    mark = f"{release.distribution.root}/src/{release.distribution.package}/__init__.py"
    if not contains(path, commit.stdout.strip(), mark):
        raise UsageProblem(
            f"{path} at {at} is not a checkout of Airflow 3: it has no {mark}.",
            "Name a checkout of Airflow 3, or another commit with --at.",
        )
    return commit.stdout.strip()


def contains(path: Path, commit: str, file: str) -> bool:
    """Check whether a commit of a checkout contains a file."""
    return git.attempt(path, "rev-parse", "--verify", "--quiet", f"{commit}:{file}").returncode == 0


@contextmanager
def worktree(path: Path, commit: str, *, files: bool = True) -> Iterator[Path]:
    """
    Add a temporary worktree to a checkout, with a detached HEAD, and remove it afterwards.

    :param path: a folder in the checkout.
    :param files: whether to write the files of the commit; otherwise they are only in the index.
    :return: a context manager that gives the folder of the worktree.
    :raises Problem: if git fails.
    """
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as scratch:
        folder = Path(scratch) / "airflow"
        add = ("worktree", "add", "--quiet", "--detach", "--checkout" if files else "--no-checkout")
        try:
            git.run(path, *PLAIN, *add, folder, commit)
            if not files:
                git.run(folder, *PLAIN, "read-tree", "HEAD")
            yield folder
        finally:
            # `git worktree prune` would also remove those of the user that are on a disk not mounted now.
            with shield():
                git.attempt(path, *PLAIN, "worktree", "remove", "--force", "--force", folder)
