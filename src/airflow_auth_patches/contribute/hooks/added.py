"""What the series adds to a release, line by line, and what is found there."""

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
    Something that upstream would not take.

    :param path: the file of this project: a patch, or a file that the series adds.
    :param line: its line, from 1.
    :param what: one sentence, with the file and line of the release where it is of a patch.
    :param rule: the rule of ruff or mypy, or a name of our own.
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
    :param origins: for each line of ``after`` the patch that adds it and the line of the patch file, or
        ``None`` for a line of the release.
    :param patches: those that edit it, in series order.
    """

    path: str
    release: Release
    before: bytes | None
    after: bytes
    origins: Sequence[tuple[Patch, int] | None]
    patches: Sequence[Patch]

    @property
    def lines(self) -> list[str]:
        """The lines of the patched file, as Python and git count them: a form feed ends none."""
        return self.after.decode().split("\n")

    @cached_property
    def syntax(self) -> ast.Module:
        """The syntax tree of the patched file, empty where it does not parse, which ruff tells."""
        return parsed(self.after)

    def adds(self, line: int) -> bool:
        """Tell whether a patch adds that line of the patched file, from 1."""
        return 0 < line <= len(self.origins) and self.origins[line - 1] is not None

    def added_lines(self) -> Iterator[tuple[int, str]]:
        """Give the lines that patches add: number in the patched file, from 1, and text."""
        for number, text in enumerate(self.lines, 1):
            if self.adds(number):
                yield number, text

    def finding(self, line: int, rule: str, what: str, remedy: str) -> Finding:
        """
        Return a finding at a line of the patched file.

        It stands at the line of the patch that adds it, else at the last patch of the file.
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
    A release with the whole series in it.

    :param files: ``{monorepo path: file}`` of the files that patches edit or add.
    :param added: ``{monorepo path: file in this project}`` of the files that the series adds.
    """

    release: Release
    files: Mapping[str, Edited]
    added: Mapping[str, Path]


def parsed(content: bytes) -> ast.Module:
    """Return the syntax tree of a file, an empty one where it does not parse."""
    try:
        return ast.parse(content)
    except SyntaxError:
        return ast.Module([], [])


def look(root: Path, series: Series, release: Release, progress: Progress | None = None) -> Patched:
    """
    Apply the series to a release, in memory, and keep where each line is from.

    :param root: the checkout of this project.
    :raises Problem: when a patch does not apply.
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
                    f"{patch.name} does not apply to {release}: {fault}.", "See `airflow-auth-patches check`."
                ) from fault
            was = origins.get(path) or [None] * (content.count(b"\n") + 1)
            origins[path] = [was[line - 1] if line > 0 else (patch, -line) for line in told]
            patches.setdefault(path, []).append(patch)
    files = {
        path: Edited(path, release, stock.get(path), now[path], tuple(origins[path]), tuple(patches[path]))
        for path in patches
    }
    return Patched(release, files, tree.added_files(root, release))
