"""The series as Markdown tables, which cog writes into the README and docs/."""

from __future__ import annotations

from collections import Counter

from airflow_auth_patches.releases.releases import CORE, Pins
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util.show import markdown_table


def patches(project: Project) -> str:
    """
    Return a table with a row for each patch: name, releases, and effect.

    The effect is the subject of the newest form. Links are relative to the root folder.
    """
    rows = []
    for newest in _newest(project.series):
        optional = " (optional)" if project.series.optional(newest) else ""
        mark = " (trade-off)" if newest.trade_off else optional
        rows.append([f"{_link(newest)}{mark}", _range(project, newest), newest.subject])
    return markdown_table(["patch", "releases", "effect"], rows)


def symptoms(project: Project) -> str:
    """
    Return a table with a row for each patch: name, releases, symptoms that it cures, and files.

    Links are relative to ``docs``.
    """
    rows = []
    for newest in _newest(project.series):
        bugs = [project.series.bugs[slug] for slug in newest.cures]
        cured = "; ".join(f"{bug.sees} ([why](bugs/{bug.page}.md))" for bug in bugs)
        rows.append([_link(newest, "../"), _range(project, newest), cured or "-", _files(newest)])
    return markdown_table(["patch", "releases", "symptom", "files"], rows)


def bugs(project: Project) -> str:
    """Return a table with a row for each bug: name, cause, patches and releases. Links are for ``docs``."""
    rows = []
    for bug in project.series.bugs.values():
        cures = [
            f"{_link(newest, '../')} ({_range(project, newest)})"
            for newest in _newest(project.series)
            if any(bug.slug in form.cures for form in project.series.forms(newest.slug))
        ]
        rows.append([f"[`{bug.slug}`](bugs/{bug.page}.md)", bug.title, ", ".join(cures)])
    return markdown_table(["bug", "cause", "patches"], rows)


def _newest(series: Series) -> list[Patch]:
    """Return the newest form of each patch."""
    slugs = dict.fromkeys(patch.slug for patch in series.patches)
    return [next(form for form in series.forms(slug) if form.variant is None) for slug in slugs]


def _link(patch: Patch, root: str = "") -> str:
    return f"[`{patch.slug}`]({root}patches/{patch.distribution.folder}/{patch.path.name})"


def _files(patch: Patch) -> str:
    """Return the first four files that a patch edits or adds, relative to the package."""
    source = f"{patch.distribution.root}/src/{patch.distribution.package}/"
    names = [f"`{path.removeprefix(source)}`" for path in patch.edits]
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


def _range(project: Project, patch: Patch) -> str:
    served = project.served(patch.slug)
    first, last = served[0], served[-1]
    name = "core" if first.distribution is CORE else "fab"
    return f"{name} {first.version}" + (f"-{last.version}" if first != last else "")


def pairs(pins: Pins) -> str:
    """Return a table with the number of tested pairs for each minor version of core and of the provider."""
    minors = Counter((pair.core.version.release[:2], pair.fab.version.release[:2]) for pair in pins.pairs)
    cores, fabs = (sorted(set(versions)) for versions in zip(*minors, strict=True))
    rows = [["{}.{}".format(*core), *(str(minors[core, fab] or "-") for fab in fabs)] for core in cores]
    return markdown_table(["core", *("fab {}.{}".format(*fab) for fab in fabs)], rows)
