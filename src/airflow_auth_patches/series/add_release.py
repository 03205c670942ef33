"""Add a release to the pinned releases."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_auth_patches.releases import pinning
from airflow_auth_patches.releases.fetching import sources
from airflow_auth_patches.releases.releases import Release
from airflow_auth_patches.series import compatibility
from airflow_auth_patches.series.compatibility import Fit
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.util.progress import Progress


@dataclass(frozen=True)
class Added:
    """
    A release that was added, or would be added without ``--dry-run``.

    :param release: the release.
    :param fits: its compatibility with each patch of its distribution.
    """

    release: Release
    fits: tuple[Fit, ...]


def add_release(
    project: Project, name: str, *, dry_run: bool = False, progress: Progress | None = None
) -> Added:
    """
    Fetch and verify a release, check whether each patch applies to it, and add it to ``releases.toml``.

    :param name: the release, as in ``apache-airflow-core==3.3.3``.
    :param dry_run: do not write ``releases.toml``.
    :raises Problem: if it is not a final release, is pinned already, is out of scope, cannot be fetched or is
        corrupt. Nothing is written then.
    """
    dist, version = pinning.named(name, project.releases)
    release = pinning.find(dist, version, progress)
    fits = tuple(compatibility.judge(project, release, sources(release)))
    if not dry_run:
        pinning.write(project.series.folder, release)
    return Added(release, fits)
