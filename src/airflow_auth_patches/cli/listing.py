"""The command that lists patches, bugs and releases: list."""

from __future__ import annotations

from typing import Annotated, Any

from rich.markup import escape

from airflow_auth_patches.cli.common import ENGINEERS, Json, app, coloured, option
from airflow_auth_patches.releases.releases import DISTRIBUTIONS
from airflow_auth_patches.series import affected
from airflow_auth_patches.series.project import Project, load_project
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util import show
from airflow_auth_patches.util.errors import UsageProblem


@app.command("list", rich_help_panel=ENGINEERS)
def list_(
    pinned: Annotated[bool, option("--releases", "Show the pinned releases.")] = False,
    matrix: Annotated[
        bool, option("--matrix", "Show the affected status of each bug on each release.")
    ] = False,
    json: Json = False,
) -> None:
    """
    Show the patches and the bugs that they cure.

    Example: airflow-auth-patches list
    """
    if matrix and pinned:
        raise UsageProblem("--releases and --matrix cannot be combined.", "Use one of them.")
    project = load_project()
    if matrix:
        _matrix(project, json)
    elif pinned:
        _releases(project, json)
    else:
        _patches(project.series, json)


def _matrix(project: Project, json: bool) -> None:
    cells = affected.matrix(project, affected.read(project.series.folder))
    if json:
        show.as_json([affected.as_data(cell) for cell in cells])
        return
    for distribution in DISTRIBUTIONS:
        show.table(
            distribution.name,
            ("bug", "releases", "status", "patches or reason", "reproducer"),
            [
                (bug, span, coloured(status), escape(told), escape(did))
                for bug, span, status, told, did in affected.as_rows(cells, distribution)
            ],
        )
    show.say(affected.LEGEND)


def _releases(project: Project, json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "release": str(r),
            "date": str(r.date),
            "pythons": list(r.pythons),
            "patches": [p.name for p in project.series.serving(r)],
        }
        for r in project.releases
    ]
    if json:
        show.as_json(rows)
    else:
        show.table(
            "Pinned releases",
            ("release", "date", "Pythons", "patches"),
            [(r["release"], r["date"], " ".join(r["pythons"]), ", ".join(r["patches"])) for r in rows],
        )


def _patches(series: Series, json: bool) -> None:
    patches: list[dict[str, Any]] = [
        {
            "patch": patch.name,
            "distribution": patch.distribution.name,
            "applies_to": patch.trailers["Applies-To"][0].partition(" ")[2],
            "cures": list(patch.cures),
            "trade_off": patch.trade_off,
            "optional": series.optional(patch),
            "fixed_in": list(patch.applied_upstream),
            "subject": patch.subject,
        }
        for patch in series.patches
    ]
    bugs: list[dict[str, Any]] = [
        {
            "bug": bug.slug,
            "sees": bug.sees,
            "links": list(bug.links),
            "reproducer": bug.reproducer,
            "cured_by": [p.name for p in series.patches if bug.slug in p.cures],
            "known_open": bug.known_open,
            "avoided_by": list(bug.avoided_by),
        }
        for bug in series.bugs.values()
    ]
    if json:
        show.as_json({"patches": patches, "bugs": bugs})
        return
    show.table(
        "Patches, in the order in which they apply",
        ("patch", "for", "cures", "left out by apply"),
        [
            (
                p["patch"],
                f"{p['distribution'].removeprefix('apache-airflow-')} {p['applies_to']}",
                ", ".join(p["cures"]) or "-",
                p["trade_off"] or ("optional" if p["optional"] else "-"),
            )
            for p in patches
        ],
    )
    show.table(
        "Bugs",
        ("bug", "what a user sees", "cured by"),
        [(b["bug"], b["sees"], ", ".join(b["cured_by"]) or f"known open: {b['known_open']}") for b in bugs],
    )
