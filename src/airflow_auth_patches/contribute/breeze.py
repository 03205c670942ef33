"""Run Airflow in Breeze: put patches on a branch of a checkout, start the server, and stop it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from airflow_auth_patches.contribute import branch
from airflow_auth_patches.releases.releases import CORE, Pins
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.util.errors import Exit, Problem, UsageProblem
from airflow_auth_patches.util.processes import attempt, program

PORT = 28080
FLAG = re.compile(r"--[a-z][a-z-]*")
#: The command that a maintainer asked for, which lacks the `--use-airflow-version` that its mounts need.
MAINTAINERS = "breeze start-airflow --mount-sources providers-and-tests --auth-manager FabAuthManager"
#: The command that was run.
AUTHORS = "breeze start-airflow --auth-manager FabAuthManager"


@dataclass(frozen=True)
class Step:
    """
    A command to run.

    :param notes: notes for the user, one or two sentences each.
    """

    words: tuple[str, ...]
    folder: Path
    notes: tuple[str, ...] = ()


def apply_to_checkout(
    project: Project,
    checkout: Path,
    *,
    release: str | None = None,
    names: Sequence[str] | None = None,
    name: str | None = None,
    author: str | None = None,
    skip_conflicts: bool = False,
) -> Step:
    """
    Return the command that puts patches on a branch of an Airflow checkout.

    :param release: the release whose forms to use; by default the newest that is not newer than the checkout.
    :param names: exactly these patches; ``None`` for all that are for the release.
    :param name: the name of the branch; by default the name that `export` chooses.
    :param author: the author of the commits, as ``Name <mail>``; by default git's user.
    :param skip_conflicts: whether to leave out the patches that do not apply.
    :raises Problem: if there is no such checkout, release or patch.
    """
    folder = branch.top(checkout)
    listed = list(names or ())
    project.series.known(listed)
    chosen = project.releases.release(release) if release else branch.release_for(folder, project, listed)
    words = [str(tool()), "export", "--release", str(chosen)]
    words += [word for patch in listed for word in ("--patch", patch)]
    words += ["--checkout", str(folder), *(["--skip-conflicts"] if skip_conflicts else [])]
    words += [
        word for flag, value in (("--branch", name), ("--author", author)) if value for word in (flag, value)
    ]
    return Step(tuple(words), Path.cwd())


def tool() -> Path:
    """
    Return the path of this tool's command: in the folder of this Python interpreter, else on ``PATH``.

    :raises Problem: if it is not found.
    """
    return program("airflow-auth-patches", "Run `make setup`.")


def start(
    pins: Pins,
    checkout: Path,
    options: Mapping[str, str | bool | None],
    *,
    name: str | None = None,
    base: str | None = None,
    core: bool | None = None,
    airflow: str | None = None,
) -> Step:
    """
    Return the command that starts Airflow with the changes of a branch.

    If the branch changed core, all sources are mounted (``selected``). Otherwise only the providers are
    mounted, on a released core.

    :param options: flags of `breeze start-airflow`: their values, and whether to give those without a value.
    :param name: the branch; by default the one that is checked out.
    :param base: the ref from which it starts; by default it is detected.
    :param core: whether the branch changed core; with ``None`` this is detected.
    :param airflow: the version of the released core for a changed provider; by default the newest pinned one.
    :raises Problem: if there is no such checkout or branch, another branch is checked out, or the branch
        changed neither core nor the provider.
    """
    folder = branch.top(checkout)
    now = branch.current(folder)
    if name is not None and name != now:
        raise UsageProblem(
            f"Breeze runs the branch that is checked out in {folder}, which is {now}, not {name}.",
            f"Check it out first: git -C {folder} switch {name}",
        )
    if core is None:
        found = branch.look(folder, name, base)
        if not found.core and not found.provider:
            raise UsageProblem(
                f"{found.name} changed neither core nor the FAB provider since {found.base}.",
                "Check out the branch with the patches, name its base with --base, or choose what to run "
                "with --core or --provider.",
            )
        core = found.core
        both = " and the provider" if found.provider and core else ""
        said = f"{found.name} changed {'core' if core else 'the provider'}{both} since {found.base}"
    else:
        said = f"Breeze runs the {'core' if core else 'provider'} of the checkout"
    if core and airflow is not None:
        raise UsageProblem(
            "With a released core, patches of core are not loaded.",
            "Leave out --use-airflow-version, or use --provider.",
        )
    newest = max(each.version for each in pins.releases if each.distribution is CORE and each.final)
    wanted = {
        **options,
        "--mount-sources": "selected" if core else "providers-and-tests",
        "--use-airflow-version": None if core else airflow or str(newest),
    }
    words = ["breeze", "start-airflow"]
    for flag, value in wanted.items():
        words += [flag] if value is True else [flag, value] if value else []
    why = "all sources are mounted" if core else "only the providers are mounted, on a released core"
    return Step(
        tuple(words),
        folder,
        (f"{said}: {why}.", f"A maintainer asked for: {MAINTAINERS}", f"The author then ran: {AUTHORS}"),
    )


def stop(checkout: Path) -> Step:
    """
    Return the command that stops Airflow in Breeze.

    :raises Problem: if there is no such checkout.
    """
    return Step(("breeze", "down"), branch.top(checkout))


def ready(step: Step) -> None:
    """
    Check that Breeze and Docker are available, and that Breeze knows the flags of a command.

    :raises Problem: for the first that is missing.
    """
    program("breeze", f"Install it from the checkout of Airflow: {_installer(step.folder)}")
    asked = attempt([*step.words[:2], "--help"], cwd=step.folder, env={"COLUMNS": "200"})
    if unknown := {word for word in step.words if word.startswith("--")} - set(FLAG.findall(asked.stdout)):
        raise UsageProblem(
            f"`{' '.join(step.words[:2])} --help` in {step.folder} does not list "
            f"{', '.join(sorted(unknown))}.",
            f"Install Breeze from this checkout again: {_installer(step.folder)}",
        )
    program("docker", "Install Docker, which Breeze needs.")
    asked = attempt(["docker", "info", "--format", "{{.ServerVersion}}"], timeout=60)
    if asked.returncode:
        why = (asked.stderr.strip() or "it printed no message").splitlines()[-1]
        raise Problem(f"Docker does not respond: {why}", "Start Docker.", Exit.FAILED)


def _installer(folder: Path) -> str:
    """Return the command that installs Breeze from a checkout."""
    script = folder / "scripts/tools/setup_breeze"
    return str(script) if script.exists() else f"uv tool install -e {folder / 'dev/breeze'}"


def become(step: Step) -> NoReturn:
    """
    Replace this process by the command of a step, which then uses the terminal.

    :raises Problem: if the command cannot be started.
    """
    sys.stdout.flush()
    try:
        os.chdir(step.folder)
        os.execvp(step.words[0], step.words)
    except OSError as error:
        raise Problem(
            f"{step.words[0]} cannot be run: {error.strerror}.", "Check its installation.", Exit.FAILED
        ) from error
