"""Choose the patches of an installed Airflow."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_auth_patches.installation import installed
from airflow_auth_patches.installation.installed import Installation, Installed
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util.errors import Problem


def choose(
    series: Series,
    installation: Installation,
    names: Sequence[str] | None = None,
    *,
    everything: bool = False,
) -> list[tuple[Installed, list[Patch]]]:
    """
    Return the chosen patches of each installed distribution.

    :param names: exactly these patches; ``None`` for all that are not optional and have no trade-off.
    :param everything: all patches.
    :raises Problem: if a release is unknown, a named patch is for no installed one, or a co-required patch
        was not chosen.
    """
    chosen = []
    for found in installation.found:
        release = installed.pinned(found)
        chosen.append((found, series.select(release, names, everything=everything, optional=False)))
    if names is not None:
        series.known(names)
        serving = {patch.slug for _, patches in chosen for patch in patches}
        if astray := [name for name in names if name not in serving]:
            raise Problem(_why_not(series, installation, astray[0]), "Leave it out.")
    _check_co_required(series, chosen)
    return chosen


def _check_co_required(series: Series, chosen: Sequence[tuple[Installed, Sequence[Patch]]]) -> None:
    """Check that each co-required patch that is for an installed release was chosen."""
    slugs = {patch.slug for _, patches in chosen for patch in patches}
    for patch in (patch for _, patches in chosen for patch in patches):
        for other in set(patch.together_with) - slugs:
            for found, _ in chosen:
                if any(p.slug == other and p.serves(installed.pinned(found)) for p in series.patches):
                    raise Problem(
                        f"{patch.slug} breaks the installed {found.distribution.name} {found.version} "
                        f"without {other}.",
                        f"Apply both (--patch {patch.slug} --patch {other}) or neither.",
                    )


def _why_not(series: Series, installation: Installation, slug: str) -> str:
    ranges = [p for p in series.patches if p.slug == slug]
    versions = {found.distribution: found.version for found in installation.found}
    has = versions.get(ranges[0].distribution, "none")
    wanted = " or ".join(str(patch.applies_to) for patch in ranges)
    return f"{slug} is for {ranges[0].distribution.name} {wanted}, but {has} is installed."


def why_none(series: Series, installation: Installation) -> str:
    """Return the sentence that says why no patch of the series is applied to an installed Airflow."""
    said = []
    for found in installation.found:
        serving = series.serving(installed.pinned(found))
        if serving:
            held = ", ".join(dict.fromkeys(patch.slug for patch in serving))
            said.append(
                f"the patches for {found.distribution.name} {found.version} ({held}) need --all or --patch"
            )
        else:
            said.append(f"the series has no patch for {found.distribution.name} {found.version}")
    return f"There is nothing to apply: {'; '.join(said)}."
