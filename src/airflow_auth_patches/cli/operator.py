"""The commands for operators of Airflow: plugin, wheel, status, apply, revert, repair."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from rich.markup import escape
from rich.syntax import Syntax

from airflow_auth_patches.cli.common import (
    OPERATORS,
    All,
    Json,
    Names,
    Python,
    Release,
    app,
    interpreter,
    one_of,
    option,
)
from airflow_auth_patches.installation import apply as patching
from airflow_auth_patches.installation import plugin as admission
from airflow_auth_patches.installation import repair as repairing
from airflow_auth_patches.installation import status as command
from airflow_auth_patches.installation import wheels
from airflow_auth_patches.installation.advice import Upgrade
from airflow_auth_patches.installation.lock import locked
from airflow_auth_patches.series import affected
from airflow_auth_patches.series.project import load_project
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util import show
from airflow_auth_patches.util.errors import UsageProblem

NoWait = Annotated[
    bool,
    option("--no-wait", "Refuse, instead of waiting, while another process changes it."),
]


@app.command(rich_help_panel=OPERATORS)
def plugin(
    output: Annotated[
        Path | None, option("--output", "The plugins folder to write into.", "DIR", show_default=False)
    ] = None,
    python: Annotated[
        Path | None,
        option(
            "--python",
            "The interpreter of the installed Airflow, to check that the plugin is for it.",
            "PATH",
            parser=interpreter,
            show_default=False,
        ),
    ] = None,
) -> None:
    """
    Write the Airflow plugin that limits concurrent requests. It works without patches.

    Without --output, the plugin is printed.

    Example: airflow-auth-patches plugin --output /opt/airflow/plugins
    """
    project = load_project()
    text = admission.source(project.series)
    admission.check(python, project.releases)
    if output is None:
        print(text, end="")  # noqa: T201
        return
    path = admission.write(text, output)
    show.say(
        f"Wrote {path}.\n"
        "Restart the API servers to use it; other components ignore it.\n"
        "Configure: [api] max_concurrent_requests, or AIRFLOW__API__MAX_CONCURRENT_REQUESTS. The default "
        "is half of the connection pool; 0 turns the limit off.\n"
        f"Remove: rm {path}, and restart the API servers."
    )


@app.command(rich_help_panel=OPERATORS)
def wheel(
    output: Annotated[Path, option("--output", "The folder to write into.", "DIR")] = Path("dist"),
    release: Release = None,
    python: Annotated[
        Path | None,
        option(
            "--python",
            "Build wheels of both distributions of this installed Airflow.",
            "PATH",
            parser=interpreter,
        ),
    ] = None,
    names: Names = None,
    everything: All = False,
) -> None:
    """
    Build the patched wheel of a release.

    Example: airflow-auth-patches wheel --release apache-airflow-core==3.1.6 --output dist
    """
    one_of(names, everything)
    if (release is None) == (python is None):
        raise UsageProblem(
            "The release to build is missing, or given twice.", "Use either --release or --python."
        )
    project = load_project()
    with show.Bars() as bars:
        if python:
            planned = patching.plan(
                python, project.series, project.releases, names, everything=everything, progress=bars
            )
            made = [step.patched for step in planned.steps if step.patched.patches]
        else:
            made = [
                patching.patched(
                    project.series,
                    project.releases.release(str(release)),
                    names,
                    everything=everything,
                    progress=bars,
                )
            ]
        for patched in made:
            path = wheels.build(patched, project.releases.label, output)
            show.say(f"{path}: {', '.join(p.slug for p in patched.patches)}")
            for patch in patched.patches:
                for other in patch.together_with:
                    show.say(f"  {patch.slug} co-requires {other}: install both or neither.")


@app.command(rich_help_panel=OPERATORS)
def status(python: Python, json: Json = False) -> None:
    """
    Report the status of an installed Airflow: its releases, their bugs and patches, and what to do first.

    Example: airflow-auth-patches status --python /opt/airflow/bin/python
    """
    project = load_project()
    with show.Bars() as bars, locked(python, shared=True, wait=False):
        rows = command.status(python, project.series, project.releases, bars)
    if json:
        show.as_json([_as_data(project.series, row) for row in rows])
        return
    patchable = all(row.state not in ("unknown", "out of scope") for row in rows)
    for row in rows:
        if row.upgrade:
            said = _advice(row, row.upgrade)
            said += " Then patch the remaining bugs: `airflow-auth-patches apply`." if patchable else ""
            show.say(said)
    show.table(
        escape(str(python)),
        ("distribution and version", "state", "bugs", "installed patches", "missing patches", "notes"),
        [
            (
                f"{row.installed.distribution.name}\n{row.installed.version}",
                row.state,
                str(len(row.bugs) or "-"),
                "\n".join(row.applied) or "-",
                "\n".join(p.slug + _why_left_out(project.series, p) for p in row.open) or "-",
                escape("\n".join(row.notes[:5])) or "-",
            )
            for row in rows
        ],
    )
    for row in rows:
        for finding in row.bugs:
            bug = project.series.bugs[finding.bug]
            by = affected.slugs([*finding.by, *bug.needs])
            cure = f"cured by {by}" if finding.by else f"no patch: {finding.reason.rstrip('.')}"
            show.say(f"{finding.bug}: {bug.sees} ({cure}).")


def _advice(row: command.DistributionStatus, upgrade: Upgrade) -> str:
    name, version = row.installed.distribution.name, row.installed.version
    said = f"First upgrade {name} {version} to {upgrade.release.version}."
    said += f" This cures {', '.join(upgrade.cures)}"
    said += f", and leaves {', '.join(upgrade.leaves)}." if upgrade.leaves else ", and leaves no known bug."
    said += f" It adds {', '.join(upgrade.brings)}." if upgrade.brings else ""
    said += " It removes the installed patches, so apply them again." if row.applied else ""
    return said if upgrade.tested else f"{said} It was not tested with this core."


def _why_left_out(series: Series, patch: Patch) -> str:
    return "\n(trade-off)" if patch.trade_off else "\n(optional)" if series.optional(patch) else ""


def _as_data(series: Series, row: command.DistributionStatus) -> dict[str, Any]:
    upgrade = row.upgrade
    return {
        "distribution": row.installed.distribution.name,
        "version": row.installed.version,
        "state": row.state,
        "applied": list(row.applied),
        "open": [
            {"patch": p.slug, "trade_off": p.trade_off, "optional": series.optional(p)} for p in row.open
        ],
        "notes": list(row.notes),
        "bugs": [
            {
                "bug": finding.bug,
                "status": finding.status.value,
                "by": list(finding.by),
                "reason": finding.reason,
            }
            for finding in row.bugs
        ],
        "upgrade": upgrade
        and {
            "to": str(upgrade.release),
            "cures": list(upgrade.cures),
            "leaves": list(upgrade.leaves),
            "brings": list(upgrade.brings),
            "tested": upgrade.tested,
        },
    }


@app.command(rich_help_panel=OPERATORS)
def apply(
    python: Python,
    names: Names = None,
    everything: All = False,
    dry_run: Annotated[bool, option("--dry-run", "Show the diff without changing anything.")] = False,
    no_wait: NoWait = False,
) -> None:
    """
    Patch an installed Airflow, as one transaction with pip or uv. Restart its API servers afterwards.

    By default it applies every patch that is not optional and has no trade-off.

    Example: airflow-auth-patches apply --python /opt/airflow/bin/python --dry-run
    """
    one_of(names, everything)
    project = load_project()
    with show.Bars() as bars, locked(python, bars, wait=not no_wait):
        planned = patching.plan(
            python, project.series, project.releases, names, everything=everything, progress=bars
        )
        if not planned.pending:
            show.say("Already applied: nothing to do.")
            return
        if dry_run:
            for step in planned.pending:
                show.out.print(
                    Syntax(step.diff(), "diff") if show.out.is_terminal else escape(step.diff()),
                    soft_wrap=True,
                    highlight=False,
                )
        else:
            patching.apply(planned, project.releases, bars)
    verb = "would have" if dry_run else "has"
    for step in planned.pending:
        slugs = ", ".join(patch.slug for patch in step.patched.patches) or "no patch"
        gone = f"; without {', '.join(step.removed)}" if step.removed else ""
        show.say(f"{step.patched.release} {verb} {slugs}{gone}.")
        for patch in step.patched.patches:
            if patch.trade_off:
                show.say(f"  {patch.slug}: {patch.trade_off}")
    show.say("Nothing was changed." if dry_run else "Restart the API servers to load the change.")


@app.command(rich_help_panel=OPERATORS)
def revert(python: Python, no_wait: NoWait = False) -> None:
    """
    Restore the pristine releases.

    Example: airflow-auth-patches revert --python /opt/airflow/bin/python
    """
    project = load_project()
    with show.Bars() as bars, locked(python, bars, wait=not no_wait):
        reverted = patching.revert(python, project.releases, bars)
    for found in reverted:
        without = f", without {', '.join(found.slugs)}" if found.slugs else ""
        show.say(f"Restored {found.release}{without}.")
    show.say(
        "Restart the API servers to load the change." if reverted else "Nothing is patched: nothing to do."
    )


@app.command(rich_help_panel=OPERATORS)
def repair(
    python: Python,
    patched: Annotated[
        bool,
        option("--patched", "Install the patched releases of the change that did not end."),
    ] = False,
    releases: Annotated[
        list[str] | None,
        option(
            "--release",
            "Install this pristine release, as in apache-airflow-core==3.3.2; can be repeated.",
            metavar="RELEASE",
        ),
    ] = None,
    no_wait: NoWait = False,
) -> None:
    """
    Repair an Airflow that an interrupted installation left damaged. It installs the pristine releases.

    Example: airflow-auth-patches repair --python /opt/airflow/bin/python
    """
    if patched and releases:
        raise UsageProblem("--patched and --release cannot be combined.", "Use one of them.")
    pins = load_project().releases
    named = [pins.release(name) for name in releases or ()]
    with show.Bars() as bars, locked(python, bars, wait=not no_wait):
        done = repairing.repair(python, pins, bars, patched=patched, releases=named)
    if done is None:
        show.say("Nothing is damaged: nothing to do.")
        return
    for what in done.damage:
        show.say(f"Found: {what}.")
    show.say(f"Installed {', '.join(done.releases)}.")
    show.say("Restart the API servers to load the change.")
