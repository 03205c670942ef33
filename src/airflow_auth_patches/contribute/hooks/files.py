"""The rules of upstream's hooks for added files: licence headers and newsfragments."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from airflow_auth_patches.contribute.export import NEWS, news_lines
from airflow_auth_patches.contribute.hooks.added import Finding, Patched
from airflow_auth_patches.releases.fetching import sources
from airflow_auth_patches.releases.releases import DISTRIBUTIONS, FAB, Release
from airflow_auth_patches.series.series import Series

NO_LICENCE = "It does not begin with Airflow's licence header."
KINDS = ("bugfix", "feature", "improvement", "doc", "misc", "significant")


def licence(release: Release, added: Mapping[str, Path]) -> Iterator[Finding]:
    """
    Yield a finding for each added file, except newsfragments, without the licence header of the release.

    :param added: ``{monorepo path: file in this project}``.
    """
    wanted = _licence_of(release)
    for path, file in added.items():
        if not path.endswith(".rst") and _head(file.read_text(encoding="utf-8"))[: len(wanted)] != wanted:
            yield Finding(file, 1, NO_LICENCE, "licence", "Copy the header of another added file.")


def licence_of_patched(patched: Patched) -> Iterator[Finding]:
    """Yield a finding for each Python file that patches add without the licence header of the release."""
    wanted = _licence_of(patched.release)
    for path, file in patched.files.items():
        new = file.before is None and path.endswith(".py")
        if new and _head(file.after.decode())[: len(wanted)] != wanted:
            yield file.finding(1, "licence", NO_LICENCE, "Copy the header of another file of the release.")


def _licence_of(release: Release) -> list[str]:
    """Return the words of the most frequent header of a release's source files."""
    heads = collections.Counter(
        " ".join(_head(content.decode()))
        for path, content in sources(release).items()
        if path.endswith(".py") and "/src/" in path
    )
    return heads.most_common(1)[0][0].split()


def _head(text: str) -> list[str]:
    """Return the words of the comment at the start of a file, without the ``#!`` line."""
    words: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("#!"):
            words += line.lstrip("#").split()
    return words


def news(root: Path, series: Series) -> Iterator[Finding]:
    """
    Yield a finding for each newsfragment whose name, folder or text does not follow upstream's rules.

    In this project a name may have a counter, as in ``N.bugfix.2.rst``, if patches share an issue. `export
    --pr` replaces it by the number of the pull request, without a counter.

    :param root: the checkout of this project.
    """
    folder = root / NEWS
    listed = set(news_lines(series.folder).values())
    for file in sorted(
        path for dist in DISTRIBUTIONS for path in (root / dist.root).rglob("newsfragments/*")
    ):
        if file.parent != folder:
            yield Finding(
                file, 1, "Only core has newsfragments.", "news", "Remove it: providers have a changelog."
            )
            continue
        match = re.fullmatch(r"\d+\.([a-z]+)(\.\d+)?\.rst", file.name)
        if match is None or match[1] not in KINDS:
            yield Finding(
                file,
                1,
                f"{file.name} is not a valid name of a newsfragment.",
                "news",
                f"Rename it to N.{{{'|'.join(KINDS)}}}.rst.",
            )
            continue
        if file.name not in listed:
            yield Finding(file, 1, "It belongs to no patch.", "news", "List it in patches/news.toml.")
        yield from _lines(file, match[1])
    slugs = {patch.slug for patch in series.patches if patch.distribution is FAB}
    for slug in sorted(slugs & news_lines(series.folder).keys()):
        line = (
            (series.folder / "news.toml").read_text(encoding="utf-8").partition(f"\n{slug} =")[0].count("\n")
        )
        yield Finding(
            series.folder / "news.toml",
            line + 2,
            f"{slug} is for the provider, which has no newsfragments.",
            "news",
            "Remove its line.",
        )


def _lines(file: Path, kind: str) -> Iterator[Finding]:
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines()
    if kind != "significant" and len(lines) != 1:
        yield Finding(
            file, min(2, len(lines) or 1), f"It has {len(lines)} lines.", "news", "Write it in one line."
        )
    elif kind == "significant" and (len(lines) in (0, 2) or (len(lines) > 2 and lines[1].strip())):
        yield Finding(
            file,
            2,
            "A significant newsfragment has 1 line, or 3 or more lines with an empty second line.",
            "news",
            "Leave the second line empty.",
        )
    if not text.endswith("\n") or text != text.rstrip() + "\n":
        yield Finding(
            file, len(lines) or 1, "It does not end with one newline.", "news", "End it with one newline."
        )
    for number, line in enumerate(lines, 1):
        if re.search(r"(?<![`:])`(?![`<])[^`]+`(?!`)", line):
            yield Finding(file, number, "It has code in single backticks.", "news", "Use double backticks.")
