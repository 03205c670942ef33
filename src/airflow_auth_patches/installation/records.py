"""Compare the files of an installation with the wheels of its releases."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from packaging.version import Version
from wheel.wheelfile import WheelFile

from airflow_auth_patches.installation.installed import Installed, look, pinned
from airflow_auth_patches.installation.wheels import MANIFEST, write
from airflow_auth_patches.releases.fetching import fetch
from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.progress import Progress


def changed_files(installed: Installed, progress: Progress | None = None) -> list[str]:
    """
    Compare the installed files with the pristine wheel, and the patched files with the manifest.

    :return: the differences, one line each, as in ``airflow/settings.py is changed``; empty if none.
    :raises Problem: if the pristine wheel cannot be fetched.
    """
    expected = _recorded(fetch(pinned(installed), "wheel", progress))
    for path, hashes in (installed.manifest or {}).get("files", {}).items():
        expected[path] = base64.urlsafe_b64encode(bytes.fromhex(hashes["after"])).decode().rstrip("=")
    return _differing(installed.site, expected)


def _recorded(path: Path) -> dict[str, str]:
    """Return ``{path: digest}`` of the files that a wheel installs, from its RECORD."""
    found = {}
    with WheelFile(path) as wheel:
        with wheel.open(wheel.record_path) as record:
            for line in record.read().decode().splitlines():
                name, digest, _ = line.rsplit(",", 2)
                if digest.startswith("sha256=") and ".dist-info/" not in name:
                    found[name.strip('"')] = digest.removeprefix("sha256=")
    return found


def _differing(site: Path, expected: Mapping[str, str]) -> list[str]:
    wrong = []
    for path, digest in expected.items():
        try:
            content = (site / path).read_bytes()
        except OSError:
            wrong.append(f"{path} is missing")
            continue
        if base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=") != digest:
            wrong.append(f"{path} is changed")
    return wrong


def verify(python: Path, pins: Pins, wheels: Sequence[Path]) -> None:
    """
    Check that an environment has the content of wheels: release, label, patches and every file.

    :param python: its interpreter.
    :param wheels: the paths of the wheels.
    :raises Problem: for the first wheel that is not installed completely.
    """
    installation = look(python, pins, damaged=True)
    if harm := [each.what for each in installation.damage if each.distribution]:
        raise Problem(
            f"The installer left damage: {some(harm)}.",
            "Check whether another process changes the environment.",
        )
    found = {entry.distribution.stem: entry for entry in installation.found}
    for path in wheels:
        stem, version = path.name.split("-")[:2]
        entry = found.get(stem)
        if entry is None or Version(entry.version) != Version(version):
            raise Problem(
                f"{stem} {version} was not installed: the installed version is "
                f"{entry.version if entry else 'none'}.",
                "Check the settings of pip or uv.",
            )
        with WheelFile(path) as wheel:
            told = f"{wheel.dist_info_path}/{MANIFEST}"
            manifest = json.loads(wheel.read(told)) if told in wheel.namelist() else None
        wrong = _differing(entry.site, _recorded(path))
        if manifest != entry.manifest:
            wrong.insert(0, f"{MANIFEST} differs")
        if wrong:
            raise Problem(
                f"The installed {stem} {version} differs from its wheel: {some(wrong)}.",
                "Check whether another process changes the environment.",
            )


def some(wrong: Sequence[str]) -> str:
    """Return the first five faults in one line, and the number of the others."""
    return "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")


def as_wheel(installed: Installed, output: Path) -> Path:
    """
    Return a wheel of the installed distribution: the pristine wheel, or one with its patched files.

    A patched file that is missing is replaced by the pristine file, and an added file that is missing is left
    out. If the manifest is damaged, the pristine wheel is returned.

    :param output: the folder to write a patched wheel into.
    :return: the path of the wheel.
    """
    if installed.damaged and installed.release:
        return fetch(installed.release, "wheel")
    release = pinned(installed)
    if not installed.manifest:
        return fetch(release, "wheel")
    files = {}
    for path in installed.manifest["files"]:
        with suppress(FileNotFoundError):
            files[path] = (installed.site / path).read_bytes()
    return write(release, installed.manifest["label"], files, installed.manifest, output)
