"""The commands for operators of Airflow: plugin, wheel, fetch, apply, revert, repair."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.markup import escape
from rich.syntax import Syntax

from airflow_auth_patches.cli.common import (
    OPERATORS,
    All,
    Inspecting,
    Names,
    Python,
    Release,
    app,
    one_of,
    option,
    own_interpreter,
    python_option,
)
from airflow_auth_patches.installation import apply as patching
from airflow_auth_patches.installation import installed, status, wheel_index, wheels
from airflow_auth_patches.installation import plugin as admission
from airflow_auth_patches.installation import repair as repairing
from airflow_auth_patches.installation.lock import locked
from airflow_auth_patches.releases import fetching
from airflow_auth_patches.releases.releases import CORE, FAB
from airflow_auth_patches.series.project import load_project
from airflow_auth_patches.util import show
from airflow_auth_patches.util.errors import Problem, UsageProblem

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
        python_option("The interpreter of the installed Airflow, to check that the plugin is for it."),
    ] = None,
) -> None:
    """
    Write the Airflow plugin that limits concurrent requests. It works without patches.

    Without --output, the plugin is printed.

    Example: airflow-auth-patches plugin --output /opt/airflow/plugins
    """
    project = load_project()
    text = admission.source(project.series)
    if installation := admission.check(python, project.releases):
        show.note(str(installation))
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
        Path | None, python_option("Build wheels of both distributions of this installed Airflow.")
    ] = None,
    pair: Annotated[
        str | None,
        option(
            "--pair",
            "Build wheels of both distributions, as in 3.3.2+3.10.2, and what installs them: an index, "
            "constraints and hashes.",
            "CORE+FAB",
        ),
    ] = None,
    names: Names = None,
    everything: All = False,
) -> None:
    """
    Build the patched wheel of a release, or those of both distributions.

    Example: airflow-auth-patches wheel --pair 3.3.2+3.10.2 --output wheels
    """
    one_of(names, everything)
    if sum(map(bool, (release, python, pair))) != 1:
        raise UsageProblem(
            "The release to build is missing, or given twice.", "Use one of --release, --python and --pair."
        )
    project = load_project()
    chosen = {project.releases.release(release): names} if release else {}
    if pair:
        project.series.known(names or ())
        both = project.releases.pair(pair)
        slugs = {
            each: [patch.slug for patch in project.series.serving(each)] for each in (both.core, both.fab)
        }
        asked = {each: [name for name in names or slugs[each] if name in slugs[each]] for each in slugs}
        if astray := set(names or ()).difference(*slugs.values()):
            raise UsageProblem(f"No patch {min(astray)} is for {pair}.", "Leave it out.")
        chosen = {each: names and asked[each] for each in slugs if asked[each]}
    with show.Bars() as bars:
        if python:
            planned = patching.plan(
                python, project.series, project.releases, names, everything=everything, progress=bars
            )
            show.note(str(planned.installation))
            made = [step.patched for step in planned.steps if step.patched.patches]
        else:
            made = [
                patching.patched(project.series, each, some, everything=everything, progress=bars)
                for each, some in chosen.items()
            ]
        built = [wheels.build(patched, project.releases.label, output) for patched in made]
        for path, patched in zip(built, made, strict=True):
            show.say(f"{path}: {', '.join(p.slug for p in patched.patches)}")
            for patch in patched.patches:
                for other in patch.together_with if names or not pair else ():
                    show.say(f"  {patch.slug} co-requires {other}: install both or neither.")
        for path in wheel_index.write(built) if pair else ():
            show.say(str(path))


@app.command(rich_help_panel=OPERATORS)
def fetch(
    releases: Annotated[
        list[str] | None,
        option("--release", "As in apache-airflow-core==3.3.2; can be repeated.", "RELEASE"),
    ] = None,
    pair: Annotated[str | None, option("--pair", "As in 3.3.2+3.10.2.", "CORE+FAB")] = None,
    python: Annotated[Path | None, python_option("Fetch the releases of this installed Airflow.")] = None,
) -> None:
    """
    Fetch the pristine wheels of releases into the cache, for a machine without a network.

    Example: airflow-auth-patches fetch --pair 3.3.2+3.10.2
    """
    if sum(map(bool, (releases, pair, python))) != 1:
        raise UsageProblem(
            "The releases to fetch are missing, or given twice.", "Use one of --release, --pair and --python."
        )
    pins = load_project().releases
    if python:
        installation = installed.look(python, pins)
        show.note(str(installation))
        wanted = [installed.pinned(found) for found in installation.found]
    else:
        core, _, fab = (pair or "").partition("+")
        names = releases or [f"{CORE.name}=={core}", f"{FAB.name}=={fab}"]
        wanted = [pins.release(name) for name in names]
    with show.Bars() as bars:
        for release in wanted:
            show.say(str(fetching.fetch(release, "wheel", bars)))


@app.command(rich_help_panel=OPERATORS, cls=Inspecting)
def apply(
    python: Annotated[
        Path | None,
        python_option(
            "The interpreter of the installed Airflow: venv/bin/python. Without it, --check takes the "
            "environment of this tool."
        ),
    ] = None,
    names: Names = None,
    everything: All = False,
    dry_run: Annotated[bool, option("--dry-run", "Show the diff without changing anything.")] = False,
    check: Annotated[
        bool,
        option(
            "--check",
            "Only check whether these patches are installed: exit with 0 if they are, 1 if not, 2 if the "
            "installation is damaged, 3 if this is unknown.",
        ),
    ] = False,
    no_wait: NoWait = False,
) -> None:
    """
    Patch an installed Airflow, as one transaction with pip or uv. Restart its API servers afterwards.

    By default it applies every patch that is not optional and has no trade-off.

    Example: airflow-auth-patches apply --python /opt/airflow/bin/python --dry-run
    """
    one_of(names, everything)
    if check:
        _check(python or own_interpreter(), names, everything)
    if python is None:
        raise UsageProblem("--python is missing.", "Name the interpreter of your Airflow: --python PATH.")
    project = load_project()
    with show.Bars() as bars, locked(python, bars, wait=not no_wait):
        planned = patching.plan(
            python, project.series, project.releases, names, everything=everything, progress=bars
        )
        show.say(str(planned.installation))
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


def _check(python: Path, names: list[str] | None, everything: bool) -> NoReturn:
    project = load_project()
    try:
        with locked(python, shared=True, wait=False):
            installation, step = status.check(
                python, project.series, project.releases, names, everything=everything
            )
        state, said = step.state, f"{installation}: {step.state}. {step.what}"
        said += f" Run: {step.command}" if step.command else ""
    except Problem as problem:
        state, said = status.state_of(problem), f"{python}: {status.state_of(problem)}. {problem}"
    show.say(said)
    raise typer.Exit(state)


@app.command(rich_help_panel=OPERATORS)
def revert(python: Python, no_wait: NoWait = False) -> None:
    """
    Restore the pristine releases.

    Example: airflow-auth-patches revert --python /opt/airflow/bin/python
    """
    project = load_project()
    with show.Bars() as bars, locked(python, bars, wait=not no_wait):
        show.say(str(installed.look(python, project.releases, damaged=True)))
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
        show.say(str(installed.look(python, pins, damaged=True)))
        done = repairing.repair(python, pins, bars, patched=patched, releases=named)
    if done is None:
        show.say("Nothing is damaged: nothing to do.")
        return
    for what in done.damage:
        show.say(f"Found: {what}.")
    show.say(f"Installed {', '.join(done.releases)}.")
    show.say("Restart the API servers to load the change.")
