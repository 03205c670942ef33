"""A checkout of Airflow, read at a commit: HEAD, index and work tree are neither read nor touched."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from airflow_auth_patches.releases.releases import Release
from airflow_auth_patches.util import git
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.processes import run

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
