"""The project: a folder with the series and the pinned releases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from airflow_auth_patches.releases import releases
from airflow_auth_patches.releases.releases import Pins, Release
from airflow_auth_patches.series import series
from airflow_auth_patches.series.series import Series


@dataclass(frozen=True)
class Project:
    """
    The series and the releases that it is for.

    :param root: the checkout of this project; without a checkout, the folder of the installed package.
    """

    root: Path
    series: Series
    releases: Pins

    def served(self, slug: str) -> list[Release]:
        """Return the pinned releases that a patch or one of its variants is for."""
        forms = self.series.forms(slug)
        return [release for release in self.releases if any(form.serves(release) for form in forms)]


def load_project(root: Path | None = None) -> Project:
    """
    Read the series and the pinned releases.

    :param root: the checkout to read; by default the installed package, or the checkout that contains it.
    :raises Problem: if a file is missing or broken.
    """
    folder = series.default_folder() if root is None else root / "patches"
    return Project(folder.parent, series.load(folder), releases.load(folder))
