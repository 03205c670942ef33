"""What an installation has of the known bugs, and what to do first: upgrade the provider, or patch."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from packaging.version import Version

from airflow_auth_patches.releases.releases import CORE, FAB, Pins, Release
from airflow_auth_patches.series import affected
from airflow_auth_patches.series.affected import Finding, Results, Status
from airflow_auth_patches.series.series import Patch, Series

#: The status of a bug on a release that has it, as released.
AFFECTED = (Status.PATCHED, Status.KNOWN_ISSUE, Status.NOT_CURED)


@dataclass(frozen=True)
class Upgrade:
    """
    The smallest upgrade of the provider after which fewest bugs are left.

    :param release: the provider to upgrade to.
    :param cures: the bugs of the installation that are gone there.
    :param leaves: those that are not.
    :param brings: the bugs that it has and the installed one, with its patches, has not.
    :param tested: whether the installed core was tested with it.
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

    :param other: the version of the other distribution; a bug that does not show with it is left out.
    """
    return [
        affected.judge(series, pins, results, bug, release)
        for bug in series.bugs.values()
        if affected.distribution_of(bug) is release.distribution
        and (other is None or bug.beside.contains(other, prereleases=True))
    ]


def held(series: Series, findings: Collection[Finding], applied: Collection[str]) -> list[Finding]:
    """
    Return the findings on the bugs that users of an installed release can meet.

    :param findings: those on it as released.
    :param applied: the slugs of the patches in it, and of those in the other distribution.
    """

    def cured(finding: Finding) -> bool:
        bug = series.bugs[finding.bug]
        wanted = {name.partition("~")[0] for name in finding.by} | set(bug.needs)
        avoided = not set(applied).isdisjoint(bug.avoided_by)
        return avoided or (finding.status is Status.PATCHED and wanted <= set(applied))

    return [finding for finding in findings if finding.status in AFFECTED and not cured(finding)]


def unmet(
    series: Series, core: Version, applied: Collection[str], provider: Release, has: Collection[str] = ()
) -> list[tuple[str, str]]:
    """
    Return what a core has that does harm with a provider, for want of a patch of the provider.

    A core has what is applied to it, and what upstream released in it.

    :param core: the core's version.
    :param applied: the slugs of the patches in the core.
    :param has: the slugs of the patches in the provider.
    :return: the slug of each such patch of core, with that of the provider's patch.
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
    versions = [value.rpartition(" ")[2] for value in patch.trailers.get("Fixed-In", ())]
    return any(Version(core.public) >= Version(version) for version in versions)


def allowed(series: Series, pins: Pins, core: Version | None, python: str) -> list[Release]:
    """
    Return the providers that work with a core as both are released, oldest first.

    :param core: the core's version, which they must allow; ``None`` where there is none.
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
    Return the upgrade of the provider that an installation should have first.

    A bug counts as cured where its reproducer said so: what was not run there is left. An upgrade takes the
    patches of the provider away; where that brings as many bugs back as the upgrade cures, it is none.

    :param provider: the installed one.
    :param core: the installed core, which must be one that the new provider allows.
    :param python: the Python version, as in ``3.11``, which the new provider must support.
    :param has: the bugs of the installed provider, as it is, with its patches.
    :return: ``None`` where no upgrade cures any of them.
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
