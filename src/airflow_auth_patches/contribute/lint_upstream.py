"""Check the series with ruff and mypy as upstream configures them, before it is sent."""

from __future__ import annotations

import collections
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from airflow_auth_patches.contribute.export import NEWS, news_lines
from airflow_auth_patches.contribute.lint_tools import Finding, mypy, ruff
from airflow_auth_patches.installation import environments
from airflow_auth_patches.installation.pair_environments import folder_of
from airflow_auth_patches.releases.fetching import sources
from airflow_auth_patches.releases.releases import CORE, DISTRIBUTIONS, FAB, Release
from airflow_auth_patches.series import tree
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util import toml
from airflow_auth_patches.util.progress import SILENT, Progress

ACCEPTED = "upstream-lint.toml"


@dataclass(frozen=True)
class Linted:
    """
    The result of the lint.

    :param findings: the findings to fix. With ``every`` these include entries of ``upstream-lint.toml``
        without a finding.
    :param accepted: the accepted findings, each with the reason.
    """

    releases: tuple[Release, ...]
    findings: tuple[Finding, ...]
    accepted: tuple[tuple[Finding, str], ...]


def chosen(project: Project, *, every: bool) -> list[Release]:
    """
    Return the releases to check: the newest of each line of core, and the newest provider.

    Providers are released only from main, so they have no lines.

    :param every: also the newest release of each form of each patch.
    """
    newest: dict[object, Release] = {}
    for release in project.releases:
        line = release.version.release[:2] if release.distribution is CORE else FAB
        if line not in newest or newest[line].version < release.version:
            newest[line] = release
    wanted = set(newest.values())
    if every:
        wanted |= {tree.newest(patch, project.releases) for patch in project.series.patches}
    return [release for release in project.releases if release in wanted]


def lint_upstream(
    project: Project, *, every: bool = False, python: str | None = None, progress: Progress = SILENT
) -> Linted:
    """
    Check the files that the series adds, and patched files for findings that the stock files do not have.

    :param every: check each form of each patch, not only those of the newest releases.
    :param python: the Python version of the environments in which mypy checks patched files: those of the
        newest core and provider, or, with ``every``, of all releases. With ``None``, mypy checks only added
        files.
    :raises Problem: if ruff or mypy is missing, a patch does not apply, or a release cannot be fetched.
    """
    releases = chosen(project, every=every)
    found: list[Finding] = []
    seen: set[tuple[Path, int, str]] = set()
    latest = {release.distribution: release for release in releases}
    with progress.task("checking the series with upstream's settings", len(releases) + 1) as advance:
        for release in (None, *reversed(releases)):
            if release is None:
                check = added(project)
            else:
                typed = (every or release is latest[release.distribution]) and project.series.serving(release)
                interpreter = _interpreter(project, release, python, progress) if python and typed else None
                check = edited(project.series, release, interpreter, progress)
            # A form for several releases has the finding on each of them: report only the newest.
            new = [each for each in check if (each.path, each.line, each.rule) not in seen]
            seen |= {(each.path, each.line, each.rule) for each in new}
            found += new
            advance(1)
    told = sorted(found, key=lambda each: (str(each.path), each.line, each.rule))
    with toml.opened(project.series.folder / ACCEPTED) as raw:
        entries = [(e["file"], e["rule"], e["says"], e["why"]) for e in raw.get("finding", [])]
    accepted: dict[Finding, str] = {}
    for file, rule, says, why in entries:
        # The name of a patch is for all its forms.
        names = {
            each: re.sub(r"~[^/]*$", ".patch", each.path.relative_to(project.root).as_posix())
            for each in told
        }
        covered = [each for each in told if (names[each], each.rule) == (file, rule) and says in each.what]
        accepted.update(dict.fromkeys(covered, why))
        if every and not covered:
            what = f"{file} no longer has the finding {rule}: {says}."
            told.append(Finding(project.series.folder / ACCEPTED, 1, what, "accepted", "Remove the entry."))
    left = tuple(each for each in told if each not in accepted)
    return Linted(tuple(releases), left, tuple(accepted.items()))


def added(project: Project) -> Iterator[Finding]:
    """
    Yield what ruff and mypy find in the files that the series adds, and wrong newsfragments.

    For mypy, imports from Airflow have the type ``Any``.
    """
    ours = (file for dist in DISTRIBUTIONS for file in (project.root / dist.root).rglob("*.py"))
    files = sorted(file.relative_to(project.root).as_posix() for file in ours)
    for each in ruff(project.root, files) + mypy(project.root, files):
        yield replace(each, path=project.root / each.path)
    for file in sorted((project.root / NEWS).glob("*")):
        one = ".significant." in file.name or re.fullmatch(rb".+\n", file.read_bytes())
        if file.name not in news_lines(project.series.folder).values() or not one:
            what = "It belongs to no patch, or does not have exactly one line."
            yield Finding(file, 1, what, "news", "List it in patches/news.toml, and write it in one line.")


def edited(
    series: Series, release: Release, python: Path | None = None, progress: Progress = SILENT
) -> Iterator[Finding]:
    """
    Yield what ruff and mypy find in the patched files of a release but not in the stock ones.

    :param python: the interpreter of an environment with the packages of the release, for mypy; ``None`` to
        run only ruff.
    :raises Problem: if a patch does not apply.
    """
    stock, patches = sources(release, progress), series.serving(release)
    edits = {path for patch in patches for path in patch.edits}
    paths = sorted(path for path in edits if path.endswith(".py"))
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as name:
        work = tree.Tree(Path(name), release)
        tree.write_files(
            work.folder, stock if python else {path: stock[path] for path in edits & stock.keys()}
        )
        before = _findings(work, [path for path in paths if path in stock], python)
        for patch in patches:
            tree.edit(work, patch)
        known = collections.Counter(map(_same, before))
        for each in _findings(work, paths, python):
            if known[_same(each)] > 0:
                known[_same(each)] -= 1
            else:
                yield _in_patch(each, release, patches)


def _interpreter(project: Project, release: Release, python: str, progress: Progress) -> Path:
    pairs = (pair for pair in project.releases.pairs if release in (pair.core, pair.fab))
    pair = max(pairs, key=lambda pair: (pair.core.version, pair.fab.version))
    return environments.make(pair, python, folder_of(project.root, pair, python, "stock"), progress).python


def _findings(work: tree.Tree, files: Sequence[str], python: Path | None) -> list[Finding]:
    source, oldest = f"{work.release.distribution.root}/src", work.release.pythons[0]
    found = ruff(work.folder, files, oldest)
    return found + (mypy(work.folder, files, source, python, oldest) if python else [])


def _same(finding: Finding) -> tuple[Path, str, str, str]:
    """Return what is equal for a finding that a patch only moves to another line."""
    return finding.path, finding.rule, finding.what, finding.text.strip()


def _in_patch(finding: Finding, release: Release, patches: Sequence[Patch]) -> Finding:
    """
    Return a finding of a patched file at a line of the last patch that adds this line.

    If no patch adds it, as for an import that is no longer used, the line is the head of the last diff of the
    file.
    """
    head, wanted = f"+++ b/{finding.path.as_posix()}", f"+{finding.text}"
    spots: dict[str, tuple[Path, int]] = {}
    for patch in patches:
        file = ""
        for number, line in enumerate(patch.content.decode().split("\n"), 1):
            file = line if line.startswith("+++ b/") else file
            if file == head and line in (head, wanted):
                spots[line] = patch.path, number
    path, number = spots.get(wanted) or spots[head]
    what = f"{finding.path.as_posix()}:{finding.line} of {release}: {finding.what}"
    return replace(finding, path=path, line=number, what=what)
