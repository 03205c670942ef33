"""The environments of a pair of releases in build/envs: stock, or patched with `apply`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from airflow_auth_patches.installation import apply, environments, installed
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases.releases import Pair, Pins
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util.progress import Progress


def folder_of(root: Path, pair: Pair, python: str, kind: str) -> Path:
    """Return the folder of an environment; ``kind`` is ``stock``, ``patched`` or another name."""
    return root / "build" / "envs" / f"{pair.name}-py{python}-{kind}"


def patched_environment(
    root: Path,
    series: Series,
    pins: Pins,
    pair: Pair,
    python: str,
    progress: Progress | None = None,
    *,
    kind: str = "patched",
    only: Sequence[str] | None = None,
    packages: Sequence[str] = environments.EXTRAS,
) -> Environment:
    """
    Return an environment with patches of the series, applied as an operator applies them.

    :param root: the checkout of this project.
    :param python: the Python version, as in ``3.11``.
    :param kind: the name of the environment among those of the pair.
    :param only: the slugs of the patches to apply if they are for the pair; by default all patches.
    :param packages: the packages in addition to Airflow.
    :raises Problem: as `environments.make` and `apply.apply` do.
    """
    folder = folder_of(root, pair, python, kind)
    serving = {patch.slug for release in (pair.core, pair.fab) for patch in series.serving(release)}
    names = None if only is None else [slug for slug in only if slug in serving]

    def patch(environment: Environment) -> None:
        if serving if names is None else names:
            planned = apply.plan(
                environment.python, series, pins, names, everything=names is None, progress=progress
            )
            _apply(planned, folder, pins, progress)
        elif any(found.manifest for found in installed.look(environment.python, pins).found):
            with environments.changing(folder):
                apply.revert(environment.python, pins, progress, put_back=False)

    return environments.make(pair, python, folder, progress, packages=packages, then=patch)


def _apply(planned: apply.Plan, folder: Path, pins: Pins, progress: Progress | None) -> None:
    if planned.pending:
        with environments.changing(folder):
            apply.apply(planned, pins, progress, put_back=False)


def alone_environment(
    root: Path,
    series: Series,
    pins: Pins,
    pair: Pair,
    python: str,
    slug: str,
    progress: Progress | None = None,
) -> Environment:
    """
    Return an environment with a single patch of the series. All patches of a pair share the environment.

    :param root: the checkout of this project.
    :param python: the Python version, as in ``3.11``.
    :param slug: the patch.
    :raises Problem: as `environments.make` and `apply.apply` do.
    """
    folder = folder_of(root, pair, python, "alone")

    def patch(environment: Environment) -> None:
        planned = apply.plan(environment.python, series, pins, [slug], progress=progress)
        _apply(planned, folder, pins, progress)

    return environments.make(pair, python, folder, progress, then=patch)
