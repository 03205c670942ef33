"""
Create a branch in a user's checkout of Airflow.

The content of each file is computed first (see `placing`). Only if every patch applies are git objects
written, and the branch is created last, in one step. HEAD, index and work tree are never changed, because the
commits are made with a separate index. An interruption can leave unreferenced objects, which git removes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from airflow_auth_patches.contribute.export import Commit
from airflow_auth_patches.releases.checkout import FILE, Checkout
from airflow_auth_patches.series.tree import write_files
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.processes import attempt


def free(checkout: Checkout, branch: str) -> None:
    """
    Check that a branch with a name can be created.

    :raises Problem: if the name is not valid, or is taken.
    """
    full = f"refs/heads/{branch}"
    malformed = attempt(["git", "check-ref-format", full]).returncode != 0
    if malformed or branch.startswith("-") or branch == "HEAD":
        raise Problem(
            f"{branch!r} is not a valid branch name.", "Choose another name with --branch.", Exit.USAGE
        )
    # The branches `a` and `a/b` cannot both exist.
    for ref in checkout.git("for-each-ref", "--format=%(refname)", "refs/heads/").splitlines():
        if ref == full or full.startswith(f"{ref}/") or ref.startswith(f"{full}/"):
            raise Problem(
                f"{checkout.path} already has the branch {ref.removeprefix('refs/heads/')}.",
                "Choose another name with --branch.",
            )


def write(checkout: Checkout, steps: Sequence[tuple[Commit, Mapping[str, bytes]]]) -> str:
    """
    Write commits without a branch.

    :param steps: each commit with the files that it changes: ``{monorepo path: content}``.
    :return: the id of the last commit.
    :raises Problem: if git fails.
    """
    checkout.git("read-tree", checkout.base)
    parent = checkout.base
    for commit, changed in steps:
        folder = Path(tempfile.mkdtemp(dir=checkout.scratch))
        write_files(folder, changed)
        names = "".join(f"{folder / path}\n" for path in changed)
        objects = checkout.git("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=names).split()
        entries = [
            f"{(checkout.entry(path) or (FILE,))[0]} {name}\t{path}\n"
            for path, name in zip(changed, objects, strict=True)
        ]
        checkout.git("update-index", "--add", "--index-info", stdin="".join(entries))
        name, _, mail = commit.author.removesuffix(">").rpartition(" <")
        who = {
            "GIT_AUTHOR_NAME": name,
            "GIT_AUTHOR_EMAIL": mail,
            "GIT_AUTHOR_DATE": commit.patch.date,
            "GIT_COMMITTER_NAME": name,
            "GIT_COMMITTER_EMAIL": mail,
        }
        made = checkout.git("write-tree").strip()
        text = commit.text.rstrip("\n") + "\n"
        parent = checkout.git("commit-tree", made, "-p", parent, "-F", "-", env=who, stdin=text).strip()
    return parent


def name_branch(checkout: Checkout, branch: str, commit: str) -> None:
    """
    Create a branch at a commit.

    :raises Problem: if the branch exists, or git fails.
    """
    checkout.git("update-ref", "-m", "branch: Created by export", f"refs/heads/{branch}", commit, "")
