"""The series as Markdown tables, which cog writes into the README and docs/."""

from __future__ import annotations

from collections.abc import Iterable

from packaging.version import Version

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
    for newest, forms in _forms(project.series):
        optional = " (optional)" if project.series.optional(newest) else ""
        mark = " (trade-off)" if newest.trade_off else optional
        rows.append([f"{_link(newest)}{mark}", _range(forms, project.releases), newest.subject])
    return markdown_table(["patch", "releases", "effect"], rows)


def symptoms(project: Project) -> str:
    """
    Return a table with a row for each patch: name, releases, symptoms that it cures, and files.

    Links are relative to ``docs``.
    """
    rows = []
    for newest, forms in _forms(project.series):
        bugs = [project.series.bugs[slug] for slug in newest.cures]
        cured = "; ".join(f"{bug.sees} ([why](bugs/{bug.page}.md))" for bug in bugs)
        rows.append([_link(newest, "../"), _range(forms, project.releases), cured or "-", _files(newest)])
    return markdown_table(["patch", "releases", "symptom", "files"], rows)


def bugs(project: Project) -> str:
    """Return a table with a row for each bug: name, cause, patches and releases. Links are for ``docs``."""
    rows = []
    for bug in project.series.bugs.values():
        cures = [
            f"{_link(newest, '../')} ({_range(forms, project.releases)})"
            for newest, forms in _forms(project.series)
            if any(bug.slug in form.cures for form in forms)
        ]
        rows.append([f"[`{bug.slug}`](bugs/{bug.page}.md)", bug.title, ", ".join(cures)])
    return markdown_table(["bug", "cause", "patches"], rows)


def _forms(series: Series) -> list[tuple[Patch, list[Patch]]]:
    """Return the newest form of each patch, with all its forms."""
    found = []
    for slug in dict.fromkeys(patch.slug for patch in series.patches):
        forms = [patch for patch in series.patches if patch.slug == slug]
        found.append((next(form for form in forms if form.variant is None), forms))
    return found


def _link(patch: Patch, root: str = "") -> str:
    return f"[`{patch.slug}`]({root}patches/{patch.distribution.folder}/{patch.path.name})"


def _files(patch: Patch) -> str:
    """Return the first four files that a patch edits or adds, relative to the package."""
    source = f"{patch.distribution.root}/src/{patch.distribution.package}/"
    names = [f"`{path.removeprefix(source)}`" for path in patch.edits]
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


def _range(forms: Iterable[Patch], pins: Pins) -> str:
    served = [release for release in pins.releases if any(form.serves(release) for form in forms)]
    first, last = served[0], served[-1]
    name = "core" if first.distribution is CORE else "fab"
    return f"{name} {first.version}" + (f"-{last.version}" if first != last else "")


def pairs(pins: Pins) -> str:
    """Return a table with the number of tested pairs for each minor version of core and of the provider."""

    def minor(version: Version) -> tuple[int, int]:
        return version.major, version.minor

    cores = sorted({minor(pair.core.version) for pair in pins.pairs})
    fabs = sorted({minor(pair.fab.version) for pair in pins.pairs})
    rows = []
    for core in cores:
        counts = [
            sum((minor(pair.core.version), minor(pair.fab.version)) == (core, fab) for pair in pins.pairs)
            for fab in fabs
        ]
        rows.append([_text(core), *(str(count or "-") for count in counts)])
    return markdown_table(["core", *(f"fab {_text(fab)}" for fab in fabs)], rows)


def _text(minor: tuple[int, int]) -> str:
    return ".".join(map(str, minor))
