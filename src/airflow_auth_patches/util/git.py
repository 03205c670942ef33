"""Git on the repository that is named, whichever one the caller's own git is at."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from airflow_auth_patches.util import processes

#: What git sets for its hooks and for `rebase --exec`: it goes before any folder. (`git rev-parse
#: --local-env-vars`, without the two that carry the user's settings.)
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


def attempt(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """
    Run git in a folder, with the user's settings.

    :return: its exit code and what it printed.
    :raises Problem: when it cannot be started or takes too long.
    """
    return processes.attempt(["git", "-C", folder, *arguments], env=CALLERS)


def run(folder: Path, *arguments: str | Path, stdin: str | None = None) -> str:
    """
    Run git in a folder, with the user's settings; it must succeed.

    :param stdin: text for its standard input.
    :return: what it printed.
    :raises Problem: when it cannot be started, takes too long or fails.
    """
    return processes.run(["git", "-C", folder, *arguments], env=CALLERS, stdin=stdin)
