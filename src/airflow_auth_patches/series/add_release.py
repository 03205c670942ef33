"""Add a release to those that the series knows."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_auth_patches.releases import pinning
from airflow_auth_patches.releases.fetching import sources
from airflow_auth_patches.releases.releases import Pins, Release
from airflow_auth_patches.series import compatibility
from airflow_auth_patches.series.compatibility import Fit
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util.progress import Progress


@dataclass(frozen=True)
class Added:
    """
    A release that was added, or would be.

    :param fits: the compatibility of each patch of its distribution.
    """

    release: Release
    fits: tuple[Fit, ...]


def add_release(
    series: Series, pins: Pins, name: str, *, dry_run: bool = False, progress: Progress | None = None
) -> Added:
    """
    Fetch a release, verify it, judge every patch on it, and write its entry to ``releases.toml``.

    :param name: as in ``apache-airflow-core==3.3.3``.
    :param dry_run: leave ``releases.toml`` as it is.
    :raises Problem: when it is no new final release in scope, cannot be fetched, or is not whole; nothing is
        written then.
    """
    dist, version = pinning.named(name, pins)
    release = pinning.find(dist, version, progress)
    fits = tuple(compatibility.judge(series, pins, release, sources(release)))
    if not dry_run:
        pinning.write(series.folder, release)
    return Added(release, fits)
