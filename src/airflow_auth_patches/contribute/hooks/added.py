"""The lines and files that the series adds to a release, and the findings in them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from airflow_auth_patches.releases.fetching import sources
from airflow_auth_patches.releases.releases import Release
from airflow_auth_patches.series import hunks, tree
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util.errors import Fault, Problem
from airflow_auth_patches.util.progress import Progress


@dataclass(frozen=True)
class Finding(Fault):
    """
    A fault that upstream would not accept.

    :param path: the file of this project: a patch, or a file that the series adds.
    :param line: the line of that file, from 1.
    :param what: one sentence. For a patch, it also names the file and the line of the release.
    :param rule: the rule of ruff or mypy, or a rule of this project.
    :param remedy: what to do.
    """

    rule: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.what} {self.remedy}"


@dataclass(frozen=True)
class Edited:
    """
    A file of a release that patches edit or add.

    :param path: its path in the monorepo.
    :param before: its content in the release; ``None`` for a file that patches add.
    :param after: its content with the patches.
    :param origins: for each line of ``after`` the patch that adds it and the line of the patch file, or
        ``None`` for a line of the release.
    :param patches: the patches that edit it, in series order.
    """

    path: str
    release: Release
    before: bytes | None
    after: bytes
    origins: Sequence[tuple[Patch, int] | None]
    patches: Sequence[Patch]

    @property
    def lines(self) -> list[str]:
        """The lines of the patched file, as Python and git count them: a form feed does not end a line."""
        return self.after.decode().split("\n")

    @cached_property
    def syntax(self) -> ast.Module:
        """The syntax tree of the patched file, empty if it does not parse (ruff reports that)."""
        return parsed(self.after)

    def adds(self, line: int) -> bool:
        """Check whether a patch adds a line of the patched file, from 1."""
        return 0 < line <= len(self.origins) and self.origins[line - 1] is not None

    def added_lines(self) -> Iterator[tuple[int, str]]:
        """Yield the number, from 1, and the text of each line of the patched file that patches add."""
        for number, text in enumerate(self.lines, 1):
            if self.adds(number):
                yield number, text

    def finding(self, line: int, rule: str, what: str, remedy: str) -> Finding:
        """
        Return a finding at a line of the patched file.

        Its position is the line of the patch that adds the line, else the diff of the file in the last patch.
        """
        origin = self.origins[line - 1] if self.adds(line) else None
        if origin is None:
            patch = self.patches[-1]
            head = f"+++ b/{self.path}".encode()
            origin = patch, patch.content.splitlines().index(head) + 1
        patch, place = origin
        return Finding(patch.path, place, f"{self.path}:{line} of {self.release}: {what}", rule, remedy)


@dataclass(frozen=True)
class Patched:
    """
    A release with the whole series.

    :param files: ``{monorepo path: file}`` of the files that patches edit or add.
    :param added: ``{monorepo path: file in this project}`` of the files that the series adds.
    """

    release: Release
    files: Mapping[str, Edited]
    added: Mapping[str, Path]


def parsed(content: bytes) -> ast.Module:
    """Return the syntax tree of a file, empty if the file does not parse."""
    try:
        return ast.parse(content)
    except SyntaxError:
        return ast.Module([], [])


def look(root: Path, series: Series, release: Release, progress: Progress | None = None) -> Patched:
    """
    Apply the series to a release in memory, and record the origin of each line.

    :param root: the checkout of this project.
    :raises Problem: if a patch does not apply.
    """
    stock = sources(release, progress)
    now = dict(stock)
    origins: dict[str, list[tuple[Patch, int] | None]] = {}
    patches: dict[str, list[Patch]] = {}
    for patch in series.serving(release):
        for path, edits in patch.edits.items():
            try:
                content = hunks.base(now, path, edits)
                told = hunks.origins(content, edits)
                now[path] = hunks.apply(content, edits)
            except hunks.HunkFault as fault:
                raise Problem(
                    f"{patch.name} does not apply to {release}: {fault}", "Run `airflow-auth-patches check`."
                ) from fault
            was = origins.get(path) or [None] * (content.count(b"\n") + 1)
            origins[path] = [was[line - 1] if line > 0 else (patch, -line) for line in told]
            patches.setdefault(path, []).append(patch)
    files = {
        path: Edited(path, release, stock.get(path), now[path], tuple(origins[path]), tuple(patches[path]))
        for path in patches
    }
    return Patched(release, files, tree.added_files(root, release))
