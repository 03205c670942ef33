"""Files that are written whole or not at all."""

from __future__ import annotations

import tempfile
from pathlib import Path

from airflow_auth_patches.util.errors import Problem


def write_whole(path: Path, text: str) -> None:
    """
    Write a file, whole or not at all, also where an interruption comes between.

    :param path: the file; its folder is made where it is not there.
    :raises Problem: when it cannot be written; what was there before is then still there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A folder of its own: two that write at once do not meet, and the file has the usual permissions.
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            draft = Path(folder) / path.name
            draft.write_text(text, encoding="utf-8")
            draft.replace(path)
    except OSError as error:
        raise Problem(
            f"{path} cannot be written: {error}.", "What was there before is still there."
        ) from error
