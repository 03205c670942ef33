"""Check the series by the rules of upstream's hooks and reviewers, before it is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_auth_patches.contribute.hooks import added, files, registry, source, tests, tools
from airflow_auth_patches.contribute.hooks.added import Finding
from airflow_auth_patches.installation import environments
from airflow_auth_patches.installation.pair_environments import folder_of
from airflow_auth_patches.releases.releases import CORE, FAB, Pins, Release
from airflow_auth_patches.series import tree
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util import toml
from airflow_auth_patches.util.progress import Progress, Silent


@dataclass(frozen=True)
class Excuse:
    """
    An accepted finding, from ``upstream-lint.toml``.

    :param file: the file of this project. ``slug.patch`` means every form of that patch.
    :param rule: the rule.
    :param says: a part of the text of the finding.
    :param why: why it is accepted.
    """

    file: str
    rule: str
    says: str
    why: str

    def covers(self, root: Path, finding: Finding) -> bool:
        """Check whether this entry accepts a finding."""
        name = finding.path.relative_to(root)
        if name.suffix == ".patch":
            name = name.with_name(name.name.partition("~")[0].removesuffix(".patch") + ".patch")
        return (name.as_posix(), finding.rule) == (self.file, self.rule) and self.says in finding.what


@dataclass(frozen=True)
class Linted:
    """
    The result of the lint.

    :param releases: the releases that were checked.
    :param findings: the findings to fix. With ``every`` these include entries of ``upstream-lint.toml``
        without a finding.
    :param excused: the accepted findings, each with the reason.
    """

    releases: tuple[Release, ...]
    findings: tuple[Finding, ...]
    excused: tuple[tuple[Finding, str], ...]


def excuses(folder: Path) -> list[Excuse]:
    """
    Read ``upstream-lint.toml``.

    :param folder: the folder of the series.
    :raises Problem: if the file is missing or broken.
    """
    path = folder / "upstream-lint.toml"
    with toml.opened(path) as raw:
        return [Excuse(e["file"], e["rule"], e["says"], e["why"]) for e in raw.get("finding", [])]


def chosen(series: Series, pins: Pins, *, every: bool) -> list[Release]:
    """
    Return the releases to check: the newest of each line of core, and the newest provider.

    Providers are released only from main, so they have no lines.

    :param every: also the newest release of each form of each patch.
    """
    newest: dict[object, Release] = {}
    for release in pins.releases:
        line = release.version.release[:2] if release.distribution is CORE else FAB
        if line not in newest or newest[line].version < release.version:
            newest[line] = release
    wanted = dict.fromkeys(newest.values())
    if every:
        wanted.update(dict.fromkeys(tree.newest(patch, pins) for patch in series.patches))
    return [release for release in pins.releases if release in wanted]


def lint_upstream(
    root: Path,
    series: Series,
    pins: Pins,
    *,
    every: bool = False,
    python: str | None = None,
    progress: Progress | None = None,
) -> Linted:
    """
    Check the lines that patches add to releases, and the files that the series adds.

    :param root: the checkout of this project.
    :param every: check each form of each patch, not only those of the newest releases.
    :param python: the Python version of the environments in which mypy checks patched files: those of the
        newest core and provider, or, with ``every``, of all releases. With ``None``, mypy checks only added
        files.
    :raises Problem: if ruff or mypy is missing, a patch does not apply, or a release cannot be fetched.
    """
    progress = progress or Silent()
    releases = chosen(series, pins, every=every)
    found: dict[tuple[Path, int, str, str], Finding] = {}
    with progress.task("checking the series by upstream's rules", len(releases) + 1) as advance:
        for finding in _ours(root, series, releases):
            found.setdefault(_same(finding), finding)
        advance(1)
        latest = {release.distribution: release for release in releases}
        for release in reversed(releases):
            typed = python if every or release is latest[release.distribution] else None
            # A form for several releases has the finding on each of them: report only the newest.
            for finding in _release(root, series, pins, release, typed, progress):
                found.setdefault(_same(finding), finding)
            advance(1)
    known = excuses(series.folder)
    left: list[Finding] = []
    excused: list[tuple[Finding, str]] = []
    for finding in sorted(found.values(), key=lambda each: (str(each.path), each.line, each.rule)):
        why = next((excuse.why for excuse in known if excuse.covers(root, finding)), None)
        if why is None:
            left.append(finding)
        else:
            excused.append((finding, why))
    if every:
        left += _idle(root, series, known, [finding for finding, _ in excused])
    return Linted(tuple(releases), tuple(left), tuple(excused))


def _same(finding: Finding) -> tuple[Path, int, str, str]:
    """Return the key of a finding that is the same on every release: without the release and its line."""
    _, _, said = finding.what.rpartition("==")
    return finding.path, finding.line, finding.rule, said.partition(": ")[2] or finding.what


def _ours(root: Path, series: Series, releases: Sequence[Release]) -> Iterator[Finding]:
    yield from tools.ruff_on_added(root)
    yield from tools.mypy_on_added(root)
    yield from files.news(root, series)
    for dist in (CORE, FAB):
        release = max((r for r in releases if r.distribution is dist), key=lambda r: r.version)
        ours = tree.added_files(root, release)
        yield from files.licence(release, ours)
        for path, file in ours.items():
            if path.endswith(".py"):
                yield from tests.check(root, path, file)


def _release(
    root: Path, series: Series, pins: Pins, release: Release, python: str | None, progress: Progress
) -> Iterator[Finding]:
    patched = added.look(root, series, release, progress)
    yield from tools.ruff_on_edits(patched)
    if python:
        pairs = (pair for pair in pins.pairs if release in (pair.core, pair.fab))
        pair = max(pairs, key=lambda pair: (pair.core.version, pair.fab.version))
        environment = environments.make(pair, python, folder_of(root, pair, python, "stock"), progress)
        yield from tools.mypy_on_edits(patched, environment.python)
    yield from registry.check(patched, pins)
    yield from files.licence_of_patched(patched)
    for path, file in patched.files.items():
        if path.endswith(".py"):
            yield from source.check(file)


def _idle(
    root: Path, series: Series, known: Sequence[Excuse], excused: Sequence[Finding]
) -> Iterator[Finding]:
    path = series.folder / "upstream-lint.toml"
    lines = path.read_text(encoding="utf-8").splitlines()
    for excuse in known:
        if not any(excuse.covers(root, finding) for finding in excused):
            line = next(number for number, text in enumerate(lines, 1) if excuse.says in text)
            yield Finding(
                path, line, f"{excuse.file} no longer has this finding.", "excuse", "Remove the entry."
            )
