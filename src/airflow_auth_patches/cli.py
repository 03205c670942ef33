"""The command line: it reads arguments, calls a command and shows what comes back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.syntax import Syntax

from airflow_auth_patches import check as lint
from airflow_auth_patches import releases, show, tree, wheels
from airflow_auth_patches import series as series_room
from airflow_auth_patches.commands import patching
from airflow_auth_patches.errors import Exit, Problem
from airflow_auth_patches.releases import Pins
from airflow_auth_patches.series import Patch, Series

EPILOG = (
    "Exit codes: 0 done; 1 a fault, or an outcome that is not cured or not shown; "
    "2 an argument that names nothing; "
    "3 refused, nothing was changed; 4 a release could not be fetched; "
    "5 a file is not the one that is pinned; "
    "6 a program that was called failed, and what it did was taken back; 130 interrupted."
)
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Patches for the authentication path of Apache Airflow's API server.",
    epilog=EPILOG,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Python = Annotated[
    Path,
    typer.Option(
        "--python",
        metavar="PATH",
        help="The interpreter of the installed Airflow: venv/bin/python.",
        show_default=False,
    ),
]
ReleaseName = Annotated[
    str, typer.Argument(metavar="RELEASE", help="As in apache-airflow-core==3.3.2.", show_default=False)
]
Names = Annotated[
    list[str] | None,
    typer.Option(
        "--patch", metavar="NAME", help="Exactly this patch; may be given again.", show_default=False
    ),
]
All = Annotated[bool, typer.Option("--all", help="Those with a trade-off too.")]


def _known() -> tuple[Series, Pins]:
    series = series_room.load()
    return series, releases.load(series.folder)


def _root() -> Path:
    folder = series_room.default_folder()
    root = folder.parent
    if not (root / "pyproject.toml").is_file():
        raise Problem(
            "This works on a checkout of the project, and the tool is installed without one.",
            "Clone the project and run `make setup`.",
            Exit.USAGE,
        )
    return root


def _one_of(names: list[str] | None, everything: bool) -> None:
    if names and everything:
        raise Problem("--all and --patch exclude each other.", "Give one of them.", Exit.USAGE)


def _patch_row(patch: Patch) -> dict[str, Any]:
    return {
        "patch": patch.name,
        "distribution": patch.distribution.name,
        "applies_to": str(patch.applies_to),
        "cures": list(patch.cures),
        "trade_off": patch.trade_off,
        "fixed_in": list(patch.trailers.get("Fixed-In", ())),
        "subject": patch.subject,
    }


@app.command("list")
def list_(
    pinned: Annotated[bool, typer.Option("--releases", help="The pinned releases instead.")] = False,
    json: Json = False,
) -> None:
    """
    Show the patches and the bugs they cure.

    Example: airflow-auth-patches list
    """
    series, pins = _known()
    if pinned:
        rows: list[dict[str, Any]] = [
            {
                "release": str(r),
                "date": str(r.date),
                "pythons": list(r.pythons),
                "patches": [p.name for p in series.serving(r)],
            }
            for r in pins.releases
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
    patches = [_patch_row(patch) for patch in series.patches]
    bugs: list[dict[str, Any]] = [
        {
            "bug": bug.slug,
            "sees": bug.sees,
            "links": list(bug.links),
            "reproducer": bug.reproducer,
            "cured_by": [p.name for p in series.patches if bug.slug in p.cures],
            "known_open": bug.known_open,
        }
        for bug in series.bugs.values()
    ]
    if json:
        show.as_json({"patches": patches, "bugs": bugs})
        return
    show.table(
        "Patches, in the order in which they apply",
        ("patch", "for", "cures", "trade-off"),
        [
            (
                p["patch"],
                f"{p['distribution'].removeprefix('apache-airflow-')} {p['applies_to']}",
                ", ".join(p["cures"]) or "-",
                p["trade_off"] or "-",
            )
            for p in patches
        ],
    )
    show.table(
        "Bugs",
        ("bug", "what a user sees", "cured by"),
        [(b["bug"], b["sees"], ", ".join(b["cured_by"]) or f"known open: {b['known_open']}") for b in bugs],
    )


@app.command()
def check(json: Json = False) -> None:
    """
    Check the series: words, ranges, that every patch applies and reverses everywhere, that results compile.

    Example: airflow-auth-patches check
    """
    folder = series_room.default_folder()
    with show.Bars() as bars:
        faults = lint.check(_root(), folder, releases.load(folder), bars)
    if json:
        show.as_json([{"path": str(f.path), "line": f.line, "fault": f.what} for f in faults])
    else:
        for fault in faults:
            show.out.print(escape(str(fault)), soft_wrap=True, highlight=False)
        show.out.print("no faults" if not faults else f"{len(faults)} fault{'s' * (len(faults) > 1)}")
    raise typer.Exit(Exit.FAULT if faults else Exit.OK)


@app.command()
def wheel(
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="The folder to write into.")] = Path(
        "dist"
    ),
    release: Annotated[
        str | None, typer.Option("--release", metavar="RELEASE", help="As in apache-airflow-core==3.3.2.")
    ] = None,
    python: Annotated[
        Path | None,
        typer.Option("--python", metavar="PATH", help="Both distributions of an installed Airflow."),
    ] = None,
    names: Names = None,
    everything: All = False,
) -> None:
    """
    Build the patched wheel of a release.

    Example: airflow-auth-patches wheel --release apache-airflow-core==3.1.6 --output dist
    """
    _one_of(names, everything)
    if (release is None) == (python is None):
        raise Problem("Give either --release or --python.", "See --help.", Exit.USAGE)
    series, pins = _known()
    with show.Bars() as bars:
        if python:
            planned = patching.plan(python, series, pins, names, everything=everything, progress=bars)
            made = [step.patched for step in planned.steps if step.patched.patches]
        else:
            made = [
                patching.patched(
                    series, pins.release(str(release)), names, everything=everything, progress=bars
                )
            ]
        for patched in made:
            path = wheels.build(patched, pins.label, output)
            show.out.print(
                f"{path}: {', '.join(p.slug for p in patched.patches)}", highlight=False, soft_wrap=True
            )


@app.command()
def status(python: Python, json: Json = False) -> None:
    """
    Tell how an installed Airflow stands: its releases, the patches in it, those that it lacks.

    Example: airflow-auth-patches status --python /opt/airflow/bin/python
    """
    series, pins = _known()
    with show.Bars() as bars:
        rows = patching.status(python, series, pins, bars)
    told: list[dict[str, Any]] = [
        {
            "distribution": r.installed.distribution.name,
            "version": r.installed.version,
            "state": r.state,
            "applied": list(r.applied),
            "open": [{"patch": p.slug, "trade_off": p.trade_off} for p in r.open],
            "notes": list(r.notes),
        }
        for r in rows
    ]
    if json:
        show.as_json(told)
        return
    show.table(
        f"{python}",
        ("distribution", "version", "state", "patches in it", "patches it lacks", "notes"),
        [
            (
                r["distribution"],
                r["version"],
                r["state"],
                ", ".join(r["applied"]) or "-",
                ", ".join(p["patch"] + (" (trade-off)" if p["trade_off"] else "") for p in r["open"]) or "-",
                "; ".join(r["notes"][:5]) or "-",
            )
            for r in told
        ],
    )


@app.command()
def apply(
    python: Python,
    names: Names = None,
    everything: All = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the diff and change nothing.")] = False,
) -> None:
    """
    Patch an installed Airflow, as one transaction through pip or uv; restart its API servers afterwards.

    Takes every patch without a trade-off, unless told otherwise.

    Example: airflow-auth-patches apply --python /opt/airflow/bin/python --dry-run
    """
    _one_of(names, everything)
    series, pins = _known()
    with show.Bars() as bars:
        planned = patching.plan(python, series, pins, names, everything=everything, progress=bars)
        if not planned.pending:
            show.out.print("Already applied: nothing to do.")
            return
        if dry_run:
            for step in planned.pending:
                show.out.print(
                    Syntax(step.diff(), "diff") if show.out.is_terminal else escape(step.diff()),
                    soft_wrap=True,
                    highlight=False,
                )
        else:
            patching.apply(planned, pins, bars)
    verb = "would have" if dry_run else "has"
    for step in planned.pending:
        slugs = ", ".join(patch.slug for patch in step.patched.patches) or "no patch"
        gone = f"; without {', '.join(step.removed)}" if step.removed else ""
        show.out.print(f"{step.patched.release} {verb} {slugs}{gone}.", highlight=False, soft_wrap=True)
        for patch in step.patched.patches:
            if patch.trade_off:
                show.out.print(f"  {patch.slug}: {escape(patch.trade_off)}", highlight=False, soft_wrap=True)
    show.out.print("Nothing was changed." if dry_run else "Restart the API servers to run it.")


@app.command()
def revert(python: Python) -> None:
    """
    Put the pristine releases back.

    Example: airflow-auth-patches revert --python /opt/airflow/bin/python
    """
    _, pins = _known()
    with show.Bars() as bars:
        reverted = patching.revert(python, pins, bars)
    for found in reverted:
        show.out.print(f"{found.release} is back, without {', '.join(found.slugs)}.", highlight=False)
    show.out.print("Restart the API servers to run it." if reverted else "Nothing is patched: nothing to do.")


@app.command("tree")
def tree_(release: ReleaseName) -> None:
    """
    Lay out a release as a git tree at Airflow's own paths, its patches as commits, to edit them there.

    Example: airflow-auth-patches tree apache-airflow-core==3.3.2
    """
    series, pins = _known()
    root = _root()
    with show.Bars() as bars:
        laid = tree.lay(root, series, pins, pins.release(release), bars)
    show.out.print(f"{laid.folder.relative_to(root)}", highlight=False)
    show.out.print(laid.git("log", "--oneline", "--reverse").rstrip(), highlight=False, markup=False)


@app.command()
def refresh(release: ReleaseName) -> None:
    """
    Write the commits of a release's tree back to patches/.

    Example: airflow-auth-patches refresh apache-airflow-core==3.3.2
    """
    series, pins = _known()
    root = _root()
    written = tree.refresh(root, series, pins, pins.release(release))
    for path in written:
        show.out.print(f"{path.relative_to(root)}", highlight=False)
    if not written:
        show.out.print("Nothing changed.")


def main() -> None:
    """Run the command line; a `Problem` is one sentence and its exit code."""
    try:
        app(standalone_mode=False)
    except Problem as problem:
        show.err.print(f"[bold red]{escape(problem.what)}[/]", soft_wrap=True, highlight=False)
        if problem.remedy:
            show.err.print(escape(problem.remedy), soft_wrap=True, highlight=False)
        sys.exit(int(problem.exit_code))
    except KeyboardInterrupt:
        show.err.print("Interrupted.")
        sys.exit(130)
