"""The recorded results of running servers that show what a patch changes."""

from __future__ import annotations

from pathlib import Path

from airflow_auth_patches.demo import recorded
from airflow_auth_patches.releases.releases import CORE
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.util import toml
from airflow_auth_patches.util.errors import Problem

FILE = "scenarios.toml"


def scenarios(folder: Path) -> dict[str, tuple[str, ...]]:
    """
    Read ``scenarios.toml``.

    :param folder: the folder of the series.
    :return: ``{slug: scenarios of demo}``, the scenarios that show the effect of each patch.
    :raises Problem: if the file is missing or broken.
    """
    with toml.opened(folder / FILE) as raw:
        return {slug: tuple(name.strip() for name in names) for slug, names in raw.items()}


def of_patch(project: Project, slug: str) -> list[recorded.Result]:
    """
    Return the recorded results of a patch, on the releases that it is for.

    :param slug: the patch.
    :return: the results, in the order of the demonstration; empty if no scenario shows the patch.
    :raises Problem: if a file cannot be read, or a scenario has no recorded result.
    """
    names = scenarios(project.series.folder).get(slug, ())
    if not names:
        return []
    forms = [patch for patch in project.series.patches if patch.slug == slug]
    served = {str(each.version) for each in project.releases if any(form.serves(each) for form in forms)}
    column = "core" if forms[0].distribution is CORE else "fab"
    found = recorded.read(project.root / recorded.FILE)
    rows = [row for row in found if row["scenario"] in names and row[column] in served]
    if missing := [name for name in names if name not in {row["scenario"] for row in rows}]:
        raise Problem(
            f"{recorded.FILE} has no result of {', '.join(missing)} on a release that {slug} is for.",
            f"Run `airflow-auth-patches demo --only {missing[0]} --record {recorded.FILE}`.",
        )
    return rows
