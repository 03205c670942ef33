"""Run git in a given repository, even if a git hook of another repository calls this tool."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from airflow_auth_patches.util import processes

#: The variables that git sets for hooks and for `rebase --exec`, which override the folder: those of
#: `git rev-parse --local-env-vars`, without the two that carry the user's settings.
CALLERS: Mapping[str, None] = dict.fromkeys(
    (
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_CONFIG",
        "GIT_DIR",
        "GIT_GRAFT_FILE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_INTERNAL_SUPER_PREFIX",
        "GIT_NO_REPLACE_OBJECTS",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_REPLACE_REF_BASE",
        "GIT_SHALLOW_FILE",
        "GIT_WORK_TREE",
    )
)


def attempt(
    folder: Path, *arguments: str | Path, env: Mapping[str, str | None] | None = None
) -> subprocess.CompletedProcess[str]:
    """
    Run git in a folder, with the user's settings.

    :param env: variables to add to the environment; ``None`` removes a variable.
    :return: the exit code and the output.
    :raises Problem: if git cannot be started or times out.
    """
    return processes.attempt(["git", "-C", folder, *arguments], env={**CALLERS, **(env or {})})


def run(
    folder: Path,
    *arguments: str | Path,
    env: Mapping[str, str | None] | None = None,
    stdin: str | None = None,
) -> str:
    """
    Run git in a folder, with the user's settings, and check that it succeeds.

    :param env: as for :func:`attempt`.
    :param stdin: text for its standard input.
    :return: its standard output.
    :raises Problem: if git cannot be started, times out or fails.
    """
    return processes.run(["git", "-C", folder, *arguments], env={**CALLERS, **(env or {})}, stdin=stdin)
