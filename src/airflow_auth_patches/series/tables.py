"""The series as Markdown tables, which cog writes into the README."""

from __future__ import annotations

from collections.abc import Iterable

from packaging.version import Version

from airflow_auth_patches.releases.releases import CORE, Pins
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util.show import markdown_table


def patches(series: Series, pins: Pins) -> str:
    """
    Return a row for each patch: its name, the releases that it is for, and what it does for a user.

    The last is the subject of its newest form.
    """
    rows = []
    for slug in dict.fromkeys(patch.slug for patch in series.patches):
        forms = [patch for patch in series.patches if patch.slug == slug]
        newest = next(form for form in forms if form.variant is None)
        mark = " (trade-off)" if newest.trade_off else " (optional)" if series.optional(newest) else ""
        path = f"patches/{newest.distribution.folder}/{newest.path.name}"
        rows.append([f"[`{slug}`]({path}){mark}", _range(forms, pins), newest.subject])
    return markdown_table(["patch", "releases", "effect"], rows)


def _range(forms: Iterable[Patch], pins: Pins) -> str:
    served = [release for release in pins.releases if any(form.serves(release) for form in forms)]
    first, last = served[0], served[-1]
    name = "core" if first.distribution is CORE else "fab"
    return f"{name} {first.version}" + (f"-{last.version}" if first != last else "")


def pairs(pins: Pins) -> str:
    """Return how many pairs of releases are tested, by the minor version of core and of the provider."""

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
