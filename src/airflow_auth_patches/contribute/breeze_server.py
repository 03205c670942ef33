"""Airflow in Breeze: patches onto a branch of a checkout, the server up with it, and down."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from airflow_auth_patches.contribute import branch, breeze
from airflow_auth_patches.contribute.breeze import Wish
from airflow_auth_patches.releases.releases import CORE, Pins
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.processes import attempt, program


@dataclass(frozen=True)
class Step:
    """
    A command to run.

    :param words: the program and its arguments.
    :param folder: the folder to run it in.
    :param notes: what the user must know, a sentence or two each.
    """

    words: tuple[str, ...]
    folder: Path
    notes: tuple[str, ...] = ()


def apply_to_checkout(
    series: Series,
    pins: Pins,
    checkout: Path,
    *,
    release: str | None = None,
    names: Sequence[str] | None = None,
    name: str | None = None,
    author: str | None = None,
) -> Step:
    """
    Say which command puts patches on a branch of an Airflow checkout.

    :param release: in whose form; when not given, the newest that is not newer than the checkout.
    :param names: exactly these patches, ``None`` for all that serve the release.
    :param name: what to call the branch; by default what `export` calls it.
    :param author: who they are from, as ``Name <mail>``; by default who git says you are.
    :raises Problem: when there is no such checkout, release or patch.
    """
    folder = branch.top(checkout)
    listed = list(names or ())
    series.known(listed)
    chosen = pins.release(release) if release else branch.release_for(folder, series, pins, listed)
    words = [str(tool()), "export", "--release", str(chosen)]
    words += [word for patch in listed for word in ("--patch", patch)]
    words += ["--checkout", str(folder)]
    words += [
        word for flag, value in (("--branch", name), ("--author", author)) if value for word in (flag, value)
    ]
    return Step(tuple(words), Path.cwd())


def tool() -> Path:
    """
    Return the path of this tool's command: beside this Python, else on ``PATH``.

    :raises Problem: when there is none.
    """
    return program("airflow-auth-patches", "Run `make setup`.")


def start(
    pins: Pins,
    checkout: Path,
    wish: Wish,
    *,
    name: str | None = None,
    base: str | None = None,
    core: bool | None = None,
    airflow: str | None = None,
) -> Step:
    """
    Say which command starts Airflow with what a branch changed.

    :param name: the branch; the one that is checked out when not given.
    :param base: what it comes from; found out when not given.
    :param core: whether it is core that was changed; found out when ``None``.
    :param airflow: the released core under a changed provider; by default the newest pinned one.
    :raises Problem: when there is no such checkout or branch, another one is checked out, or it changed
        neither core nor the provider.
    """
    folder = branch.top(checkout)
    now = branch.current(folder)
    if name is not None and name != now:
        raise Problem(
            f"Breeze runs what is checked out in {folder}, which is {now} and not {name}.",
            f"Check it out first: git -C {folder} switch {name}",
            Exit.USAGE,
        )
    if core is None:
        found = branch.look(folder, name, base)
        if not found.core and not found.provider:
            raise Problem(
                f"{found.name} changed neither core nor the FAB provider since {found.base}.",
                "Check out the branch with the patches, name what it comes from with --base, "
                "or say what is to run with --core or --provider.",
                Exit.USAGE,
            )
        core = found.core
        both = " and the provider" if found.provider and core else ""
        said = f"{found.name} changed {'core' if core else 'the provider'}{both} since {found.base}"
    else:
        said = f"{'Core' if core else 'The provider'} is to run"
    if core and airflow is not None:
        raise Problem(
            "With a released core no patch of core is loaded.",
            "Leave --use-airflow-version out, or say --provider.",
            Exit.USAGE,
        )
    newest = max(release.version for release in pins.releases if release.distribution is CORE)
    words = breeze.start_line(wish, core=core, airflow=airflow or str(newest))
    why = "all sources are mounted" if core else "the providers alone are mounted, on a released core"
    return Step(
        tuple(words),
        folder,
        (
            f"{said}: {why}.",
            f"A maintainer asked for: {breeze.shell(breeze.MAINTAINERS)}",
            f"and what was run then: {breeze.shell(breeze.AUTHORS)}",
        ),
    )


def stop(checkout: Path) -> Step:
    """
    Say which command stops it.

    :raises Problem: when there is no such checkout.
    """
    return Step(breeze.STOP, branch.top(checkout))


def ready() -> None:
    """
    Do nothing if Breeze and Docker are there.

    :raises Problem: naming what is missing.
    """
    if not shutil.which(breeze.START[0]):
        raise Problem(
            "breeze was not found.", f"Install it from the checkout of Airflow: {breeze.INSTALL}", Exit.USAGE
        )
    if not shutil.which("docker"):
        raise Problem("Docker was not found, which Breeze runs on.", "Install it.", Exit.USAGE)
    asked = attempt(["docker", "info", "--format", "{{.ServerVersion}}"], timeout=60)
    if asked.returncode:
        why = (asked.stderr.strip() or "it said nothing").splitlines()[-1]
        raise Problem(f"Docker does not answer: {why}", "Start it.", Exit.FAILED)


def become(step: Step) -> NoReturn:
    """
    Run a step in place of this process, in whose terminal it asks and answers.

    :raises Problem: when it cannot be started.
    """
    sys.stdout.flush()
    try:
        os.chdir(step.folder)
        os.execvp(step.words[0], step.words)
    except OSError as error:
        raise Problem(f"{step.words[0]} cannot be run: {error.strerror}.", "", Exit.FAILED) from error
