"""Build the `breeze` command that runs the changes of a branch."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airflow_auth_patches.util.errors import Exit, Problem

START = ("breeze", "start-airflow")
STOP = ("breeze", "down")
INSTALL = "uv tool install -e ./dev/breeze"
PORT = 28080
#: The flags of `breeze start-airflow` and their values; `None` for a switch, `...` for any value.
FLAGS: Mapping[str, tuple[str, ...] | None] = {
    "--backend": ("sqlite", "mysql", "postgres"),
    "--postgres-version": ("13", "14", "15", "16", "17", "18"),
    "--mysql-version": ("8.0", "8.4"),
    "--auth-manager": ("SimpleAuthManager", "FabAuthManager"),
    "--executor": ("LocalExecutor", "CeleryExecutor", "EdgeExecutor"),
    "--mount-sources": ("selected", "all", "skip", "remove", "tests", "providers-and-tests"),
    "--use-airflow-version": ("...",),
    "--load-default-connections": None,
    "--load-example-dags": None,
    "--db-reset": None,
    "--answer": ("y",),
    "--terminal-multiplexer": ("mprocs", "tmux"),
}
#: The flag for the version of a backend; SQLite has none.
VERSION_OF = {"postgres": "--postgres-version", "mysql": "--mysql-version"}
#: The command that a maintainer asked for, which lacks the `--use-airflow-version` that its mounts need, and
#: the command that was run.
MAINTAINERS = (
    *START,
    *("--mount-sources", "providers-and-tests", "--auth-manager", "FabAuthManager"),
)
AUTHORS = (*START, "--auth-manager", "FabAuthManager")


@dataclass(frozen=True)
class Wish:
    """
    The options of `breeze start-airflow`: each is the value of the flag of that name, or ``None``.

    :param version: the version of the backend.
    :param switches: the flags without a value.
    """

    backend: str = "postgres"
    version: str | None = None
    auth_manager: str = "FabAuthManager"
    executor: str = "LocalExecutor"
    terminal_multiplexer: str | None = None
    answer: str | None = None
    switches: tuple[str, ...] = ()


def start_line(wish: Wish, *, core: bool, airflow: str) -> list[str]:
    """
    Return the command that starts Airflow with the sources of a checkout.

    :param core: whether to mount all sources (``selected``). Otherwise only the providers are mounted, on a
        released core.
    :param airflow: the version of the released core.
    :return: the words of the command.
    :raises Problem: if a flag does not accept a value.
    """
    mounts = "selected" if core else "providers-and-tests"
    version = VERSION_OF.get(wish.backend)
    if wish.version is not None and version is None:
        raise Problem(
            f"The backend {wish.backend} has no versions.", "Leave out --backend-version.", Exit.USAGE
        )
    pairs = [
        ("--backend", wish.backend),
        (str(version), wish.version),
        ("--auth-manager", wish.auth_manager),
        ("--executor", wish.executor),
        ("--mount-sources", mounts),
        ("--use-airflow-version", None if core else airflow),
        ("--terminal-multiplexer", wish.terminal_multiplexer),
        ("--answer", wish.answer),
    ]
    words = [word for flag, value in pairs if value is not None for word in (flag, _checked(flag, value))]
    return [*START, *words, *(_checked(switch) for switch in wish.switches)]


def _checked(flag: str, value: str | None = None) -> str:
    values = FLAGS.get(flag, ())
    if value is None and values is None:
        return flag
    if value is None or values is None:
        raise Problem(f"`breeze start-airflow` has no such {flag}.", "See --help.", Exit.USAGE)
    if value not in values and values != ("...",):
        raise Problem(f"{flag} cannot be {value!r}.", f"Use one of: {', '.join(values)}.", Exit.USAGE)
    return value


def shell(words: Sequence[object]) -> str:
    """Return a command with its words quoted for a shell."""
    return shlex.join(map(str, words))
