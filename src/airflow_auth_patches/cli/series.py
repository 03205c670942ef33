"""The commands that maintain the series: list, check, add-release, tree, refresh, prove."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from airflow_auth_patches.cli.common import (
    AUTHORS,
    ENGINEERS,
    Json,
    ReleaseName,
    app,
    checkout,
    checkout_folder,
    coloured,
)
from airflow_auth_patches.releases import releases
from airflow_auth_patches.series import add_release as add_command
from airflow_auth_patches.series import affected, exporting, importing, sizes
from airflow_auth_patches.series.project import load_project
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util import show
from airflow_auth_patches.util.errors import Exit, Fault, Problem
from airflow_auth_patches.verification import check as lint
from airflow_auth_patches.verification import prove as prove_command
from airflow_auth_patches.verification import unit_tests


def _patch_row(series: Series, patch: Patch) -> dict[str, Any]:
    return {
        "patch": patch.name,
        "distribution": patch.distribution.name,
        "applies_to": patch.trailers["Applies-To"][0].partition(" ")[2],
        "cures": list(patch.cures),
        "trade_off": patch.trade_off,
        "optional": series.optional(patch),
        "fixed_in": list(patch.trailers.get("Applied-Upstream", ())),
        "subject": patch.subject,
    }


@app.command("list", rich_help_panel=ENGINEERS)
def list_(
    pinned: Annotated[bool, typer.Option("--releases", help="Show the pinned releases.")] = False,
    matrix: Annotated[
        bool, typer.Option("--matrix", help="Show the affected status of each bug on each release.")
    ] = False,
    json: Json = False,
) -> None:
    """
    Show the patches and the bugs that they cure.

    Example: airflow-auth-patches list
    """
    if matrix and pinned:
        raise Problem("--releases and --matrix cannot be combined.", "Use one of them.", Exit.USAGE)
    project = load_project()
    if matrix:
        cells = affected.matrix(project, affected.read(project.series.folder))
        if json:
            show.as_json([affected.as_data(cell) for cell in cells])
            return
        for distribution in releases.DISTRIBUTIONS:
            show.table(
                distribution.name,
                ("bug", "releases", "status", "patches or reason", "reproducer"),
                [
                    (bug, span, coloured(status), escape(told), escape(did))
                    for bug, span, status, told, did in affected.as_rows(cells, distribution)
                ],
            )
        show.out.print(affected.LEGEND, soft_wrap=True)
        return
    if pinned:
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
        return
    patches = [_patch_row(project.series, patch) for patch in project.series.patches]
    bugs: list[dict[str, Any]] = [
        {
            "bug": bug.slug,
            "sees": bug.sees,
            "links": list(bug.links),
            "reproducer": bug.reproducer,
            "cured_by": [p.name for p in project.series.patches if bug.slug in p.cures],
            "known_open": bug.known_open,
            "avoided_by": list(bug.avoided_by),
        }
        for bug in project.series.bugs.values()
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


@app.command(rich_help_panel=AUTHORS)
def check(
    with_sizes: Annotated[
        bool,
        typer.Option("--sizes", help="Show the size and origin of each form; report those over budget."),
    ] = False,
    json: Json = False,
) -> None:
    """
    Check the series: trailers, ranges, and that every patch applies, reverses and compiles on its releases.

    Example: airflow-auth-patches check
    """
    root = checkout_folder()
    with show.Bars() as bars:
        faults, forms = lint.check(root, releases.load(root / "patches"), bars)
    if not faults:  # the affected status needs a valid series
        faults = lint.check_affected(checkout())
    measured = [sizes.size(root, form.patch) for form in forms]
    if with_sizes:
        faults += [
            Fault(
                size.patch.path,
                1,
                f"Over budget: {', '.join(size.over)}. Explain it on the bug's page in docs/bugs.",
            )
            for size in measured
            if size.over and not size.explained and size.patch.variant is None
        ]
    if json:
        show.as_json([{"path": str(f.path), "line": f.line, "fault": f.what} for f in faults])
    else:
        if with_sizes:
            show.table(
                "Each form of each patch",
                ("patch", "changed", "message", "tests", "origin of the edits"),
                [
                    (s.patch.name, f"{s.source}", f"{s.message}", f"{s.tests}", escape(form.kind))
                    for s, form in zip(measured, forms, strict=True)
                ],
            )
        for fault in faults:
            show.out.print(escape(str(fault)), soft_wrap=True, highlight=False)
        by_hand = [form.patch.name for form in forms if form.by_hand]
        derived = sum(form.source is not None and not form.by_hand for form in forms)
        big = dict.fromkeys(size.patch.slug for size in measured if size.over)
        show.out.print(
            f"Older forms: {derived} derived, {len(by_hand)} by hand: {', '.join(by_hand) or 'none'}.\n"
            f"Patches over budget: {', '.join(big) or 'none'}. See `check --sizes`.",
            soft_wrap=True,
            highlight=False,
        )
        show.out.print("no faults" if not faults else f"{len(faults)} fault{'s' * (len(faults) > 1)}")
    raise typer.Exit(Exit.FAULT if faults else Exit.OK)


@app.command("add-release", rich_help_panel=AUTHORS)
def add_release(
    release: ReleaseName,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing.")] = False,
    json: Json = False,
) -> None:
    """
    Pin a new release: fetch and verify it, check whether each patch applies, and write releases.toml.

    Only the reproducer of a bug shows whether the release has the bug.

    Example: airflow-auth-patches add-release apache-airflow-core==3.3.3 --dry-run
    """
    project = checkout()
    with show.Bars() as bars:
        added = add_command.add_release(project, release, dry_run=dry_run, progress=bars)
    found = added.release
    if json:
        show.as_json(
            {
                "release": str(found),
                "date": str(found.date),
                "pythons": list(found.pythons),
                **found.hashes,
                "written": not dry_run,
                "patches": [
                    {
                        "patch": fit.slug,
                        "form": fit.form,
                        "compatibility": fit.compatibility.value,
                        "in_range": fit.in_range,
                        "why": fit.why,
                        "hunks": [
                            {"patch": m.patch, "line": m.line, "path": m.path, "fault": m.what}
                            for m in fit.misfits
                        ],
                    }
                    for fit in added.fits
                ],
            }
        )
        return
    show.table(
        f"Compatibility of the patches with {found}",
        ("patch", "compatibility", "form", "notes"),
        [(fit.slug, fit.compatibility.value, fit.form, fit.notes) for fit in added.fits],
    )
    show.out.print(
        "Only the reproducer of a bug shows whether the release has the bug: `airflow-auth-patches judge`.",
        highlight=False,
        soft_wrap=True,
    )
    show.out.print(
        f"{found} of {found.date} {'would be' if dry_run else 'is'} pinned.", highlight=False, soft_wrap=True
    )


@app.command("tree", rich_help_panel=AUTHORS)
def tree_(release: ReleaseName) -> None:
    """
    Import a release into a git tree at Airflow's paths, with each patch as a commit, to edit the patches.

    A patch that does not apply is merged three-way from the form for the nearest release.

    Example: airflow-auth-patches tree apache-airflow-core==3.3.2
    """
    project = checkout()
    with show.Bars() as bars:
        tree = importing.import_patches(project, project.releases.release(release), bars)
    show.out.print(f"{tree.folder.relative_to(project.root)}", highlight=False)
    show.out.print(tree.git("log", "--oneline", "--reverse").rstrip(), highlight=False, markup=False)
    for name, form in tree.merged.items():
        show.out.print(
            f"{name} does not apply and was merged three-way from {form}. Review it with `git show`.",
            highlight=False,
            soft_wrap=True,
        )


@app.command(rich_help_panel=AUTHORS)
def refresh(
    release: Annotated[
        str | None,
        typer.Argument(
            metavar="RELEASE",
            help="The release of the tree; without it, only the older forms are derived.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """
    Export the commits of a release's tree to patches/, and derive the older forms of each patch.

    Example: airflow-auth-patches refresh apache-airflow-core==3.3.2
    """
    project = checkout()
    written = exporting.refresh(project, project.releases.release(release) if release else None)
    for path in written:
        show.out.print(f"{path.relative_to(project.root)}", highlight=False)
    if not written:
        show.out.print("Nothing changed.")


@app.command(rich_help_panel=AUTHORS)
def prove(
    pair: Annotated[
        list[str] | None,
        typer.Option("--pair", metavar="CORE+FAB", help="As in 3.1.6+3.3.0; by default the default pairs."),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--patch", metavar="NAME", help="Test only this patch; can be repeated."),
    ] = None,
    python: Annotated[str, typer.Option("--python", metavar="X.Y", help="The Python version.")] = "3.11",
    mutants: Annotated[bool, typer.Option(help="Also run the tests with each mutant.")] = True,
    json: Json = False,
) -> None:
    """
    Run the unit tests of the patches: on stock, patched, and with each mutant.

    Example: airflow-auth-patches prove --pair 3.1.6+3.3.0 --patch session-cleanup
    """
    project = checkout()
    if names:
        project.series.known(names)
    pairs = [project.releases.pair(name) for name in pair] if pair else project.releases.default_pairs
    prove_command.check_arguments(project.series, pairs, names or (), python)
    rows: list[dict[str, Any]] = []
    with show.Bars() as bars:
        for one in pairs:
            for row in prove_command.prove(project, one, python, names, mutants=mutants, progress=bars):
                rows.append(
                    {
                        "patch": row.result.slug,
                        "pair": row.pair.name,
                        "python": row.python,
                        "run": row.result.what,
                        "counts": dict(row.result.counts),
                        "wrong": list(row.result.wrong),
                    }
                )
    if json:
        show.as_json(rows)
    else:
        show.table(
            "Unit tests",
            ("patch", "releases", "run", "tests", "outcome"),
            [
                (
                    row["patch"],
                    row["pair"],
                    row["run"] if row["run"] in unit_tests.WHOLE else f"mutant: {row['run']}",
                    ", ".join(f"{count} {word}" for word, count in row["counts"].items()),
                    "not as expected" if row["wrong"] else "as expected",
                )
                for row in rows
            ],
        )
        for told in rows:
            for fault in told["wrong"]:
                said = f"{told['patch']}, {told['pair']}, {told['run']}: {fault}"
                show.out.print(escape(said), soft_wrap=True, highlight=False)
    raise typer.Exit(Exit.FAULT if any(row["wrong"] for row in rows) else Exit.OK)
