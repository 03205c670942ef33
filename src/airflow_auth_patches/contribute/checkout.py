"""
A branch in somebody's checkout of Airflow.

What each file becomes is worked out first (`placing`). Only when every patch has a place are objects
written, and last of all, as one step, the branch. HEAD, index and work tree are never touched: the commits
are made from an index of their own, so whatever the checkout holds may stay as it is. Interrupted while
objects are written, it leaves some that nothing refers to, which git clears away itself.
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
    Do nothing if a branch of that name can be made.

    :raises Problem: when the name is none, or is taken.
    """
    full = f"refs/heads/{branch}"
    malformed = attempt(["git", "check-ref-format", full]).returncode != 0
    if malformed or branch.startswith("-") or branch == "HEAD":
        raise Problem(f"{branch!r} is no name of a branch.", "Give another with --branch.", Exit.USAGE)
    # A branch `a` leaves no room for a branch `a/b`, nor the other way round.
    for ref in checkout.git("for-each-ref", "--format=%(refname)", "refs/heads/").splitlines():
        if ref == full or full.startswith(f"{ref}/") or ref.startswith(f"{full}/"):
            raise Problem(
                f"{checkout.path} has the branch {ref.removeprefix('refs/heads/')} already.",
                "Give another name with --branch.",
            )


def write(checkout: Checkout, steps: Sequence[tuple[Commit, Mapping[str, bytes]]]) -> str:
    """
    Write commits, which no branch has yet.

    :param steps: each with the files it changes: ``{monorepo path: content}``.
    :return: the last of them.
    :raises Problem: when git cannot.
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
    Make the branch, which must not be there, at a commit.

    :raises Problem: when somebody else made it meanwhile, or git cannot.
    """
    checkout.git("update-ref", "-m", "branch: Created by export", f"refs/heads/{branch}", commit, "")
