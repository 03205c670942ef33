"""Run another program, and say clearly when it fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from airflow_auth_patches.errors import Exit, Problem


def program(name: str, remedy: str) -> Path:
    """
    Return the path of a program: beside this Python, else on ``PATH``.

    :param remedy: how to get it.
    :raises Problem: when there is none.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise Problem(f"{name} was not found.", remedy, Exit.USAGE)
    return Path(found)


def attempt(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str | None] | None = None,
    timeout: float = 600,
    stdin: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """
    Run a program to its end, whatever that is.

    :param command: the program and its arguments.
    :param cwd: the folder to run it in.
    :param env: variables to add to this process's own; ``None`` takes one out.
    :param timeout: seconds after which it is ended.
    :param stdin: text for its standard input.
    :return: its exit code and what it printed.
    :raises Problem: when it cannot be started or takes too long.
    """
    words = [str(word) for word in command]
    variables = {**os.environ, **(env or {})}
    try:
        return subprocess.run(
            words,
            cwd=cwd,
            env={name: value for name, value in variables.items() if value is not None},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise Problem(f"{words[0]} was not found.", "Install it, or put it on PATH.", Exit.USAGE) from error
    except subprocess.TimeoutExpired as error:
        raise Problem(
            f"{' '.join(words[:4])} took longer than {timeout:.0f} s and was ended.", "", Exit.FAILED
        ) from error


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str | None] | None = None,
    timeout: float = 600,
    stdin: str | None = None,
) -> str:
    """
    Run a program that must succeed; the arguments are those of :func:`attempt`.

    :return: its standard output.
    :raises Problem: when it fails too; with the end of what it printed.
    """
    done = attempt(command, cwd=cwd, env=env, timeout=timeout, stdin=stdin)
    if done.returncode:
        tail = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-15:])
        words = " ".join(map(str, command[:4]))
        raise Problem(f"{words} failed with exit code {done.returncode}:\n{tail}", "", Exit.FAILED)
    return done.stdout
