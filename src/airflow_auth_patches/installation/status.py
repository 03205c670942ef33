"""Report the status of an installed Airflow: its patches, its bugs, and what to do about them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from packaging.version import InvalidVersion, Version

from airflow_auth_patches.installation import advice, choice, installed, records, wheels
from airflow_auth_patches.installation.advice import Upgrade
from airflow_auth_patches.installation.installed import Installation, Installed
from airflow_auth_patches.releases.releases import CORE, FAB, YANKED, Pins, yanked
from airflow_auth_patches.series import affected
from airflow_auth_patches.series.affected import Finding, Results
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.progress import Progress


class State(IntEnum):
    """What an inspection found: the exit codes of `status --exit-code` and `apply --check`."""

    NOTHING_TO_DO = 0
    SOMETHING_TO_DO = 1
    DAMAGED = 2  #: an installation did not end, or installed files differ from their release
    CANNOT_TELL = 3

    def __str__(self) -> str:
        """Return its name, as in ``nothing to do``."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class Next:
    """
    What to do next.

    :param what: one sentence.
    :param command: the command line to run; empty if there is none.
    """

    state: State
    what: str
    command: str = ""


@dataclass(frozen=True)
class DistributionStatus:
    """
    The status of one installed distribution.

    :param installed: the distribution.
    :param state: ``pristine``, ``patched``, ``changed``, ``unknown`` or ``out of scope``.
    :param applied: the slugs of the installed patches.
    :param open: the patches that are for the release and are not installed.
    :param notes: warnings and hints, one line each.
    :param bugs: the findings on the bugs that it has, with its patches.
    :param upgrade: for the provider, the upgrade to do before patching, or ``None``.
    :param due: the slugs of the default patches that are not installed, or are from another series.
    :param first: what to do before `apply`, or ``None``.
    """

    installed: Installed
    state: str
    applied: tuple[str, ...]
    open: tuple[Patch, ...]
    notes: tuple[str, ...]
    bugs: tuple[Finding, ...] = ()
    upgrade: Upgrade | None = None
    due: tuple[str, ...] = ()
    first: Next | None = None


@dataclass(frozen=True)
class Report:
    """
    The status of an environment.

    :param rows: the status of each installed distribution of the series.
    :param risks: the findings on the bugs that users can meet, the most severe first.
    :param next: what to do next.
    """

    installation: Installation
    rows: tuple[DistributionStatus, ...]
    risks: tuple[Finding, ...]
    next: Next


def status(python: Path, series: Series, pins: Pins, progress: Progress | None = None) -> Report:
    """
    Return the status of an installed Airflow, without changing it.

    :param python: its interpreter.
    :raises Problem: if there is no Airflow, or the pristine wheel for the comparison cannot be fetched.
    """
    installation = installed.look(python, pins)
    results = affected.read(series.folder)
    rows = tuple(_row(installation, found, series, pins, results, progress) for found in installation.found)
    risks = advice.risks(series, [finding for row in rows for finding in row.bugs])
    first = max((row.first for row in rows if row.first), key=lambda step: step.state, default=None)
    due = [slug for row in rows for slug in row.due]
    then = Next(State.NOTHING_TO_DO, "Nothing to do.")
    if due:
        then = Next(State.SOMETHING_TO_DO, f"Install {_count(due, 'patch')}.", _apply(python))
    return Report(installation, rows, tuple(risks), first or then)


def _row(
    installation: Installation,
    found: Installed,
    series: Series,
    pins: Pins,
    results: Results,
    progress: Progress | None,
) -> DistributionStatus:
    core = next((each for each in installation.found if each.distribution is CORE), None)
    version = _version(core) if core else None
    core_first = _core_first(core) if found.distribution is FAB else None
    try:
        release = installed.pinned(found)
    except Problem as problem:
        state, remedy, overall = "unknown", problem.remedy, State.CANNOT_TELL
        wanted, command = "", ""
        if found.out_of_scope:
            oldest = _oldest(found, series, pins, version, installation.runs)
            state, wanted = "out of scope", f"{found.distribution.name}>={oldest}"
            remedy = core_first or f"Upgrade it to {oldest} or later."
        elif instead := YANKED.get(f"{found.distribution.name}=={found.version}"):
            wanted = f"{found.distribution.name}>={instead}"
        if wanted:
            overall, command = State.SOMETHING_TO_DO, _install(installation, wanted)
        elif found.damaged:
            overall, command = State.DAMAGED, _ours("revert", installation.python)
        note = f"{problem.what} {remedy}"
        first = None if core_first else Next(overall, note, command)
        return DistributionStatus(found, state, tuple(found.slugs), (), (note,), first=first)
    wrong = _wrong(found, progress)
    serving = series.serving(release)
    open_ = tuple(patch for patch in serving if patch.slug not in found.slugs)
    applied = (found.manifest or {"patches": []})["patches"]
    others = [entry for entry in applied if not any(wheels.is_of(entry, patch) for patch in serving)]
    hints = [core_first] if core_first else []
    if found.distribution is FAB and core and version:
        for slug, other in advice.unmet(series, version, core.slugs, release, found.slugs):
            cure = "run `apply` before the next restart" if core.release else "upgrade the provider"
            hints.append(f"core has {slug}, which breaks the provider without {other}: {cure}")
    hints += wrong
    if others:
        hints.append(
            f"{', '.join(entry['name'] for entry in others)} is from another series: run `apply` again"
        )
    if not open_ and not applied:
        hints.append("the series has no patch for it")
    findings = advice.findings_of(
        series, pins, results, release, version if found.distribution is FAB else None
    )
    if unknown := [finding.bug for finding in findings if finding.status in affected.UNKNOWN]:
        hints.append(f"unknown whether it has: {', '.join(unknown)}")
    everywhere = [slug for each in installation.found for slug in each.slugs]
    bugs = tuple(advice.held(series, findings, everywhere))
    upgrade = None
    if found.distribution is FAB and bugs and not core_first:
        has = [finding.bug for finding in bugs]
        upgrade = advice.upgrade(series, pins, results, release, version, installation.runs, has)
    due = [*_lacking(found, series.select(release, optional=False)), *(entry["slug"] for entry in others)]
    return DistributionStatus(
        found,
        "changed" if wrong else "patched" if found.manifest else "pristine",
        tuple(found.slugs),
        open_,
        tuple(hints),
        bugs,
        upgrade,
        tuple(dict.fromkeys(due)),
        _restore(installation, found, wrong) if wrong else _upgrade(installation, upgrade),
    )


def check(
    python: Path,
    series: Series,
    pins: Pins,
    names: Sequence[str] | None = None,
    *,
    everything: bool = False,
    progress: Progress | None = None,
) -> tuple[Installation, Next]:
    """
    Check whether exactly the chosen patches are installed, without changing the environment.

    :param names: exactly these patches; ``None`` for all that are not optional and have no trade-off.
    :param everything: all patches.
    :raises Problem: if there is no Airflow, a release is unknown, or a chosen patch is for no installed one.
    """
    installation = installed.look(python, pins)
    for found in installation.found:
        if found.damaged:
            what = f"Restore {found.distribution.name} {found.version}: its manifest is missing or damaged."
            return installation, Next(State.DAMAGED, what, _ours("revert", python))
    differences = []
    for found, patches in choice.choose(series, installation, names, everything=everything):
        if wrong := _wrong(found, progress):
            return installation, _restore(installation, found, wrong)
        if lacking := _lacking(found, patches):
            differences.append(f"{found.distribution.name} lacks {', '.join(lacking)}")
        if extra := [slug for slug in found.slugs if slug not in {patch.slug for patch in patches}]:
            differences.append(f"{found.distribution.name} has {', '.join(extra)}, not chosen")
    if not differences:
        return installation, Next(State.NOTHING_TO_DO, "Exactly the chosen patches are installed.")
    words = ["--all"] if everything else [word for name in names or () for word in ("--patch", name)]
    what = f"{'; '.join(differences)}."
    return installation, Next(State.SOMETHING_TO_DO, what, _apply(python, *words))


def state_of(problem: Problem) -> State:
    """Return what an inspection found that ends with an error."""
    return State.DAMAGED if problem.exit_code is Exit.DAMAGED else State.CANNOT_TELL


def _wrong(found: Installed, progress: Progress | None) -> list[str]:
    wrong = records.changed_files(found, progress)
    return wrong + [f"{path} belongs to no installed package" for path in records.extra_modules(found)]


def _lacking(found: Installed, patches: Sequence[Patch]) -> list[str]:
    """Return the slugs of the patches that are not installed with the same edits."""
    applied = (found.manifest or {"patches": []})["patches"]
    return [patch.slug for patch in patches if not any(wheels.is_of(entry, patch) for entry in applied)]


def _restore(installation: Installation, found: Installed, wrong: Sequence[str]) -> Next:
    """Return how to restore a release with changed files."""
    if all("belongs to no" in line for line in wrong):
        return Next(State.DAMAGED, f"Move files out of {found.site}: {records.some(wrong)}.")
    what = f"Restore {found.distribution.name} {found.version}: {records.some(wrong)}."
    if found.manifest:
        return Next(State.DAMAGED, what, _ours("revert", installation.python))
    again = "--force-reinstall" if installation.pip else "--reinstall"
    command = _install(installation, again, "--no-deps", str(installed.pinned(found)))
    return Next(State.DAMAGED, what, command)


def _upgrade(installation: Installation, upgrade: Upgrade | None) -> Next | None:
    if upgrade is None:
        return None
    what = f"Upgrade the provider, which fixes {_count(upgrade.cures, 'bug')}; then run `apply`."
    return Next(State.SOMETHING_TO_DO, what, _install(installation, str(upgrade.release)))


def _apply(python: Path, *words: str) -> str:
    return _ours("apply", python, *words)


def _ours(command: str, python: Path, *words: str) -> str:
    return shlex.join(["airflow-auth-patches", command, "--python", str(python), *words])


def _install(installation: Installation, *words: str) -> str:
    """Return the command line of pip or uv that installs something into the environment."""
    python = str(installation.python)
    pip, uv = (python, "-m", "pip", "install"), ("uv", "pip", "install", "--python", python)
    return shlex.join([*(pip if installation.pip else uv), *words])


def _count(things: Sequence[object], noun: str) -> str:
    plural = "" if len(things) == 1 else "es" if noun.endswith("ch") else "s"
    return f"{len(things)} {noun}{plural}"


def _version(core: Installed) -> Version | None:
    try:
        return Version(Version(core.version).public)
    except InvalidVersion:
        return None


def _core_first(core: Installed | None) -> str | None:
    """Return the hint to upgrade core first, if no patch is for the installed core."""
    if core is None or not (core.out_of_scope or yanked(CORE, core.version)):
        return None
    return f"Upgrade {CORE.name} {core.version} first: `apply` refuses it."


def _oldest(found: Installed, series: Series, pins: Pins, core: Version | None, runs: str) -> Version:
    """Return the oldest release in scope to upgrade to; for the provider, one that works with the core."""
    if found.distribution is FAB:
        for release in advice.allowed(series, pins, core, runs):
            return release.version
    return found.distribution.oldest
