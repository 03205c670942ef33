"""
A branch in somebody's checkout of Airflow.

What each file becomes is worked out first (`placing`). Only when every patch has a place are objects
written, and last of all, as one step, the branch. HEAD, index and work tree are never touched: the commits
are made from an index of their own, so whatever the checkout holds may stay as it is. Interrupted while
objects are written, it leaves some that nothing refers to, which git clears away itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from airflow_auth_patches import git
from airflow_auth_patches.errors import Exit, Problem
from airflow_auth_patches.export import Commit
from airflow_auth_patches.processes import attempt, run
from airflow_auth_patches.releases import Release
from airflow_auth_patches.tree import write_files

#: What could have git write more than it is asked for: a shared index, a daemon, another encoding.
PLAIN = tuple(
    word
    for setting in (
        "core.splitIndex=false",
        "core.fsmonitor=false",
        "core.sparseCheckout=false",
        "index.sparse=false",
        "i18n.commitEncoding=UTF-8",
    )
    for word in ("-c", setting)
)
FILE = "100644"


@dataclass(frozen=True)
class Checkout:
    """
    A checkout of Airflow, and the commit to begin at.

    :param path: what the user calls it.
    :param git_dir: its git folder.
    :param base: the commit.
    :param scratch: a folder of our own, for files on their way in or out.
    """

    path: Path
    git_dir: str
    base: str
    scratch: Path

    def git(
        self, *arguments: str | Path, env: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> str:
        """Run git on the checkout's objects, with index and work tree in the scratch folder."""
        apart = {
            **git.CALLERS,
            "GIT_DIR": self.git_dir,
            "GIT_WORK_TREE": str(self.scratch),
            "GIT_INDEX_FILE": str(self.scratch / "index"),
        }
        return run(["git", *PLAIN, *arguments], cwd=self.scratch, env={**apart, **(env or {})}, stdin=stdin)

    def entry(self, path: str) -> tuple[str, str] | None:
        """Return mode and object of a path at the base, or ``None`` where there is nothing."""
        told = self.git("ls-tree", "-z", self.base, "--", path)
        if not told:
            return None
        mode, _, name = told.partition("\t")[0].split()
        return mode, name

    def read(self, path: str) -> bytes | None:
        """Return a file at the base, byte for byte, or ``None`` where there is no plain one."""
        entry = self.entry(path)
        if entry is None or entry[0] not in (FILE, "100755"):
            return None
        file = self.scratch / self.git("unpack-file", entry[1]).strip()
        content = file.read_bytes()
        file.unlink()
        return content


@contextmanager
def opened(path: Path, release: Release, at: str = "HEAD") -> Iterator[Checkout]:
    """
    Open a checkout of Airflow for the length of a ``with`` block.

    :param release: what is to be applied is of its distribution.
    :param at: the commit to begin at.
    :raises Problem: when it is none, or has no such commit.
    """
    if not path.is_dir():
        raise Problem(f"{path} is no folder.", "Name a checkout of Airflow.", Exit.USAGE)
    found = git.attempt(path, "rev-parse", "--absolute-git-dir")
    if found.returncode:
        told = (found.stderr.strip().splitlines() or ["git says nothing"])[0]
        raise Problem(f"{path} is no git repository: {told}.", "Name a checkout of Airflow.", Exit.USAGE)
    commit = git.attempt(path, "rev-parse", "--verify", "--quiet", f"{at}^{{commit}}")
    if commit.returncode:
        raise Problem(f"{path} has no commit {at}.", "Name one with --at, or commit something.", Exit.USAGE)
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as scratch:
        checkout = Checkout(path, found.stdout.rstrip("\n"), commit.stdout.strip(), Path(scratch))
        dist = release.distribution
        mark = f"{dist.root}/src/{dist.package}/__init__.py"
        if checkout.entry(mark) is None:
            raise Problem(
                f"{path} at {at} is no checkout of Airflow 3: it has no {mark}.",
                "Name one, or another commit with --at.",
                Exit.USAGE,
            )
        yield checkout


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
