"""Keep a journal of a change in the environment until the change is complete."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion

from airflow_auth_patches.util.errors import Problem

#: The folder of the journal in site-packages, and its file.
FOLDER, FILE = ".airflow-auth-patches", "journal.json"
#: The folders of wheels: the pristine releases, what was installed before the change, and what it installs.
PRISTINE, INSTALLED, INSTALLING = KINDS = ("pristine", "installed", "installing")


@dataclass(frozen=True)
class Journal:
    """
    The journal of a change that is not complete.

    :param folder: its folder. Each of :data:`KINDS` is a folder of wheels in it.
    :param command: the command that made the change: ``apply``, ``revert`` or ``repair``.
    """

    folder: Path
    command: str

    def end(self) -> None:
        """Remove the journal, because the change is complete or undone."""
        os.sync()  # after a power failure, the installed files must be there if the journal is not
        (self.folder / FILE).unlink()
        _sync(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)


def find(sites: Iterable[Path]) -> Journal | None:
    """
    Return the journal of an incomplete change, or ``None``.

    :param sites: the site-packages folders of the environment.
    """
    for site in sites:
        folder = site / FOLDER
        try:
            told = json.loads((folder / FILE).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError, RecursionError):
            told = {}
        return Journal(folder, str(told.get("command", "unknown")) if isinstance(told, dict) else "unknown")
    return None


def begin(
    site: Path,
    command: str,
    fill: Callable[[Path], None],
    restore: Callable[[Path], str],
) -> Journal:
    """
    Write the journal of a change, before the change begins.

    The journal is on disk when this function returns. If it fails, it leaves nothing.

    :param site: the site-packages folder.
    :param command: the command that makes the change.
    :param fill: writes the wheels into the folders of :data:`KINDS`, below the folder that it is given.
    :param restore: returns the command line that installs the wheels of a folder, without this tool.
    :raises Problem: REFUSED if the journal cannot be written.
    """
    folder = site / FOLDER
    try:
        shutil.rmtree(folder, ignore_errors=True)  # without a file: an interrupted call of this function
        for kind in KINDS:
            (folder / kind).mkdir(parents=True)
        fill(folder)
        content: Mapping[str, object] = {
            "command": command,
            **{kind: requirements(folder / kind) for kind in KINDS},
            "restore": restore(folder / (INSTALLED if requirements(folder / INSTALLED) else PRISTINE)),
        }
        draft = folder / f"{FILE}.partial"
        draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        for path in (*folder.rglob("*"), folder, site):
            _sync(path)
        draft.replace(folder / FILE)
        _sync(folder)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise Problem(
            f"{folder} cannot be written: {error.strerror or error}.",
            "Check its permissions and the free disk space. Nothing was changed.",
        ) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Journal(folder, command)


def keep(wheels: Iterable[Path], folder: Path) -> None:
    """Copy wheels into a folder, unless they are already in it."""
    for wheel in wheels:
        if wheel.parent != folder:
            shutil.copyfile(wheel, folder / wheel.name)


def wheels_in(folder: Path) -> list[Path]:
    """Return the wheels in a folder, by name."""
    return sorted(folder.glob("*.whl"))


def requirements(folder: Path) -> Sequence[str]:
    """
    Return the requirements that the wheels in a folder satisfy, as in ``apache-airflow-core==3.1.6``.

    :raises Problem: if a name is not that of a wheel.
    """
    try:
        named = [parse_wheel_filename(wheel.name)[:2] for wheel in wheels_in(folder)]
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise Problem(f"{folder} has a file that is no wheel: {error}.", "Remove the file.") from error
    return [f"{name}=={version}" for name, version in named]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems cannot sync a folder
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
