"""The known bugs of an installation, and whether to upgrade the provider before applying patches."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from packaging.version import Version

from airflow_auth_patches.releases.releases import CORE, FAB, Pins, Release
from airflow_auth_patches.series import affected
from airflow_auth_patches.series.affected import Finding, Results, Status
from airflow_auth_patches.series.bugs import Severity
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Patch, Series

#: The statuses of a bug that affects the stock release.
AFFECTED = (Status.PATCHED, Status.KNOWN_ISSUE, Status.NOT_CURED)
RANKS = {severity: rank for rank, severity in enumerate(Severity)}


@dataclass(frozen=True)
class Upgrade:
    """
    The upgrade of the provider that leaves the fewest bugs; of several, the one to the oldest release.

    :param release: the release of the provider to upgrade to.
    :param cures: the bugs of the installation that the upgrade cures.
    :param leaves: the bugs of the installation that remain.
    :param brings: the bugs of the new release that the installed provider, with its patches, does not have.
    :param tested: whether the new release was tested with the installed core.
    """

    release: Release
    cures: tuple[str, ...]
    leaves: tuple[str, ...]
    brings: tuple[str, ...]
    tested: bool


def findings_of(
    series: Series, pins: Pins, results: Results, release: Release, other: Version | None = None
) -> list[Finding]:
    """
    Return the findings on a release, in the order of the bugs.

    :param results: the recorded results of the reproducers.
    :param other: the version of the other distribution. Bugs that do not show with it are left out.
    """
    return [
        affected.judge(Project(series.folder.parent, series, pins), results, bug, release)
        for bug in series.bugs.values()
        if affected.distribution_of(bug) is release.distribution
        and (other is None or bug.shows_with.contains(other, prereleases=True))
    ]


def held(series: Series, findings: Collection[Finding], applied: Collection[str]) -> list[Finding]:
    """
    Return the findings on the bugs that the users of an installed release can meet.

    :param findings: the findings on the stock release.
    :param applied: the slugs of the patches in both installed distributions.
    """

    def cured(finding: Finding) -> bool:
        bug = series.bugs[finding.bug]
        wanted = {name.partition("~")[0] for name in finding.by} | set(bug.needs)
        avoided = not set(applied).isdisjoint(bug.avoided_by)
        return avoided or (finding.status is Status.PATCHED and wanted <= set(applied))

    return [finding for finding in findings if finding.status in AFFECTED and not cured(finding)]


def risks(series: Series, findings: Collection[Finding]) -> list[Finding]:
    """
    Return the findings on the bugs that users can meet, the most severe first.

    Bugs without an effect on stock are left out, and those that the default patches avoid.

    :param findings: the findings of :func:`held`, on one or more releases.
    """

    def met(finding: Finding) -> bool:
        bug = series.bugs[finding.bug]
        default = {patch.slug for patch in series.select(finding.release, optional=False)}
        return default.isdisjoint(bug.avoided_by) and bug.severity is not Severity.NONE

    return sorted(filter(met, findings), key=lambda finding: RANKS[series.bugs[finding.bug].severity])


def unmet(
    series: Series, core: Version, applied: Collection[str], provider: Release, has: Collection[str] = ()
) -> list[tuple[str, str]]:
    """
    Return the patches of core whose co-required patch of the provider is missing.

    A core has the patches that are applied to it, and the fixes that upstream released in it.

    :param core: the version of core.
    :param applied: the slugs of the patches in the core.
    :param provider: the release of the provider.
    :param has: the slugs of the patches in the provider.
    :return: ``(slug of the patch of core, slug of the missing patch)``.
    """
    serving = {patch.slug for patch in series.serving(provider)}
    return list(
        dict.fromkeys(
            (patch.slug, other)
            for patch in series.patches
            if patch.distribution is CORE and (patch.slug in applied or _released(patch, core))
            for other in patch.together_with
            if other in serving and other not in has
        )
    )


def _released(patch: Patch, core: Version) -> bool:
    versions = [value.rpartition(" ")[2] for value in patch.trailers.get("Applied-Upstream", ())]
    return any(Version(core.public) >= Version(version) for version in versions)


def allowed(series: Series, pins: Pins, core: Version | None, python: str) -> list[Release]:
    """
    Return the releases of the provider that work with a core without patches, oldest first.

    :param core: the version of core, which they must allow; ``None`` if no core is installed.
    :param python: the Python version, as in ``3.11``, which they must support.
    """
    return [
        release
        for release in pins.releases
        if release.distribution is FAB
        and python in release.pythons
        and (
            core is None
            or (release.core.contains(core, prereleases=True) and not unmet(series, core, (), release))
        )
    ]


def upgrade(
    series: Series,
    pins: Pins,
    results: Results,
    provider: Release,
    core: Version | None,
    python: str,
    has: Collection[str],
) -> Upgrade | None:
    """
    Return the upgrade of the provider to do before patching.

    A bug counts as cured only if its reproducer passed on the new release. An upgrade removes the patches of
    the provider. It is not advised if it brings back as many bugs as it cures.

    :param results: the recorded results of the reproducers.
    :param provider: the installed release of the provider.
    :param core: the version of the installed core, which the new release must allow, or ``None``.
    :param python: the Python version, as in ``3.11``, which the new release must support.
    :param has: the bugs of the installed provider with its patches.
    :return: the upgrade; ``None`` if no upgrade helps.
    """
    mine = {
        finding.bug
        for finding in findings_of(series, pins, results, provider, core)
        if finding.status in AFFECTED
    }
    found: list[Upgrade] = []
    for release in allowed(series, pins, core, python):
        if release.version <= provider.version:
            continue
        findings = findings_of(series, pins, results, release, core)
        gone = {finding.bug for finding in findings if finding.status in (Status.FIXED, Status.NOT_AFFECTED)}
        cures = tuple(bug for bug in has if bug in gone)
        brings = tuple(
            finding.bug for finding in findings if finding.status in AFFECTED and finding.bug not in has
        )
        if len(mine.intersection(brings)) < len(cures):
            leaves = tuple(bug for bug in has if bug not in gone)
            tested = core is None or any(
                pair.fab is release and pair.core.version == core for pair in pins.pairs
            )
            found.append(Upgrade(release, cures, leaves, brings, tested))
    return min(found, key=lambda one: (len(one.leaves), one.release.version), default=None)
