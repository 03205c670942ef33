"""The commands that maintain the series: check, add-release, tree, refresh."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from airflow_auth_patches.cli.common import AUTHORS, Json, ReleaseName, app, checkout, checkout_folder, option
from airflow_auth_patches.releases import releases
from airflow_auth_patches.series import compatibility, exporting, importing, sizes
from airflow_auth_patches.util import show
from airflow_auth_patches.util.errors import Exit, Fault
from airflow_auth_patches.verification import check as lint
from airflow_auth_patches.verification import publishing


@app.command(rich_help_panel=AUTHORS)
def check(
    with_sizes: Annotated[
        bool, option("--sizes", "Show the size and origin of each form; report those over budget.")
    ] = False,
    publish: Annotated[
        bool,
        option(
            "--publish",
            "If there is no fault, build the wheel of each release, and record it with the label.",
        ),
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
        if publish and not faults:
            publishing.publish(checkout(), bars)
    if not faults:  # these need a valid series
        faults = [*lint.check_affected(checkout()), *publishing.faults(checkout())]
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
            show.say(str(fault))
        by_hand = [form.patch.name for form in forms if form.by_hand]
        derived = sum(form.source is not None and not form.by_hand for form in forms)
        big = dict.fromkeys(size.patch.slug for size in measured if size.over)
        show.say(
            f"Older forms: {derived} derived, {len(by_hand)} by hand: {', '.join(by_hand) or 'none'}.\n"
            f"Patches over budget: {', '.join(big) or 'none'}. See `check --sizes`."
        )
        show.say("no faults" if not faults else f"{len(faults)} fault{'s' * (len(faults) > 1)}")
    raise typer.Exit(Exit.FAULT if faults else Exit.OK)


@app.command("add-release", rich_help_panel=AUTHORS)
def add_release(
    release: ReleaseName,
    dry_run: Annotated[bool, option("--dry-run", "Write nothing.")] = False,
    json: Json = False,
) -> None:
    """
    Pin a new release: fetch and verify it, check whether each patch applies, and write releases.toml.

    Only the reproducer of a bug shows whether the release has the bug. The newest pre-release stands for
    upstream's main branch, until a later release replaces it.

    Example: airflow-auth-patches add-release apache-airflow-core==3.3.3 --dry-run
    """
    project = checkout()
    with show.Bars() as bars:
        found, fits = compatibility.add_release(project, release, dry_run=dry_run, progress=bars)
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
                    for fit in fits
                ],
            }
        )
        return
    show.table(
        f"Compatibility of the patches with {found}",
        ("patch", "compatibility", "form", "notes"),
        [(fit.slug, fit.compatibility.value, fit.form, fit.notes) for fit in fits],
    )
    show.say(
        "Only the reproducer of a bug shows whether the release has the bug: `airflow-auth-patches judge`."
    )
    show.say(f"{found} of {found.date} {'would be' if dry_run else 'is'} pinned.")
    if not found.final:
        show.say("It is a pre-release, for work on upstream's main branch. Do not patch it for production.")


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
    show.say(f"{tree.folder.relative_to(project.root)}")
    show.say(tree.git("log", "--oneline", "--reverse").rstrip())
    for name, form in tree.merged.items():
        show.say(f"{name} does not apply and was merged three-way from {form}. Review it with `git show`.")


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
        show.say(f"{path.relative_to(project.root)}")
    if not written:
        show.say("Nothing changed.")
