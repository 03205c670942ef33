"""Read a checkout of Airflow at a commit, without reading or changing its HEAD, index and work tree."""

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

#: Options that stop git from writing more than it is asked for: a shared index, a daemon, another encoding.
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
    A checkout of Airflow, and the commit to start from.

    :param path: its path, as the user wrote it.
    :param git_dir: its git folder.
    :param base: the commit.
    :param scratch: a temporary folder for the index and for files.
    """

    path: Path
    git_dir: str
    base: str
    scratch: Path

    def git(
        self, *arguments: str | Path, env: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> str:
        """Run git on the objects of the checkout, with the index and the work tree in the scratch folder."""
        apart = {
            **git.CALLERS,
            "GIT_DIR": self.git_dir,
            "GIT_WORK_TREE": str(self.scratch),
            "GIT_INDEX_FILE": str(self.scratch / "index"),
        }
        return run(["git", *PLAIN, *arguments], cwd=self.scratch, env={**apart, **(env or {})}, stdin=stdin)

    def entry(self, path: str) -> tuple[str, str] | None:
        """Return the mode and the object id of a path at the base, or ``None`` if it does not exist."""
        told = self.git("ls-tree", "-z", self.base, "--", path)
        if not told:
            return None
        mode, _, name = told.partition("\t")[0].split()
        return mode, name

    def read(self, path: str) -> bytes | None:
        """Return the content of a file at the base, or ``None`` if it is not a regular file."""
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
    Open a checkout of Airflow during a ``with`` block.

    :param path: the checkout.
    :param release: a release of the distribution whose patches will be applied.
    :param at: the commit to start from.
    :return: a context manager that gives the checkout.
    :raises Problem: if the path is not a checkout of Airflow, or has no such commit.
    """
    if not path.is_dir():
        raise Problem(f"{path} is not a folder.", "Name a checkout of Airflow.", Exit.USAGE)
    found = git.attempt(path, "rev-parse", "--absolute-git-dir")
    if found.returncode:
        told = (found.stderr.strip().splitlines() or ["git printed no message"])[0]
        raise Problem(f"{path} is not a git repository: {told}.", "Name a checkout of Airflow.", Exit.USAGE)
    commit = git.attempt(path, "rev-parse", "--verify", "--quiet", f"{at}^{{commit}}")
    if commit.returncode:
        raise Problem(f"{path} has no commit {at}.", "Name a commit with --at, or create one.", Exit.USAGE)
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as scratch:
        checkout = Checkout(path, found.stdout.rstrip("\n"), commit.stdout.strip(), Path(scratch))
        dist = release.distribution
        mark = f"{dist.root}/src/{dist.package}/__init__.py"
        if checkout.entry(mark) is None:
            raise Problem(
                f"{path} at {at} is not a checkout of Airflow 3: it has no {mark}.",
                "Name a checkout of Airflow 3, or another commit with --at.",
                Exit.USAGE,
            )
        yield checkout
