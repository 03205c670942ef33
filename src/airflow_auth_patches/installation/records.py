"""Compare the files of an installation with the wheels of its releases."""

from __future__ import annotations

import base64
import configparser
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from packaging.version import Version
from wheel.wheelfile import WheelFile

from airflow_auth_patches.installation.damage import infos_of, rows_of
from airflow_auth_patches.installation.installed import Installed, look, pinned
from airflow_auth_patches.installation.wheels import MANIFEST, write
from airflow_auth_patches.releases.fetching import fetch
from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.progress import Progress

#: The suffixes of files that Python imports.
MODULES = (".py", ".pyc", ".so", ".pyd")


def changed_files(installed: Installed, progress: Progress | None = None) -> list[str]:
    """
    Compare the installed files with the pristine wheel, the manifest, and the installed RECORD.

    :return: the differences, one line each, as in ``airflow/settings.py is changed``; empty if none.
    :raises Problem: if the pristine wheel cannot be fetched.
    """
    wheel = fetch(pinned(installed), "wheel", progress)
    expected = _recorded(wheel)
    for path, hashes in (installed.manifest or {}).get("files", {}).items():
        expected[path] = _encoded(bytes.fromhex(hashes["after"]))
    return _differences(installed, expected, wheel)


def extra_modules(installed: Installed) -> list[str]:
    """
    Return the modules in the package of a distribution that no installed distribution has.

    Such a module may hide one of the distribution, as ``settings/__init__.py`` hides ``settings.py``.

    :return: their paths below site-packages. For core, those of providers are left out.
    """
    package = installed.distribution.package
    owned = set()
    for record in installed.site.glob("*.dist-info/RECORD"):
        lines = record.read_text("utf-8", "replace").splitlines()
        own = "\n".join(line for line in lines if line.lstrip('"').startswith("airflow/"))
        owned |= {path for path, _ in rows_of(own)}
    found = []
    for folder, folders, names in os.walk(installed.site / package):
        others = (
            {"__pycache__", "providers"} if Path(folder) == installed.site / "airflow" else {"__pycache__"}
        )
        folders[:] = sorted(set(folders) - others)
        paths = (Path(folder, name).relative_to(installed.site).as_posix() for name in sorted(names))
        found += [path for path in paths if path.endswith(MODULES) and path not in owned]
    return found


def _differences(installed: Installed, expected: Mapping[str, str], wheel: Path) -> list[str]:
    """Return the differences from expected files and from the installed RECORD, and the missing commands."""
    (info, *_) = infos_of(installed.site, installed.distribution)
    rows = dict(rows_of((info / "RECORD").read_text("utf-8", "replace")))
    hashed = {path: digest for path, digest in rows.items() if digest}
    wrong = _differing(installed.site, {**hashed, **expected})
    scripts = {Path(path).stem for path in rows if Path(path).parent.name in ("bin", "Scripts")}
    return wrong + [f"the command {name} is missing" for name in sorted(_commands(wheel) - scripts)]


def _commands(path: Path) -> set[str]:
    """Return the names of the commands that a wheel installs."""
    names = configparser.ConfigParser(delimiters=("=",))
    with WheelFile(path) as wheel:
        entry_points = f"{wheel.dist_info_path}/entry_points.txt"
        if entry_points in wheel.namelist():
            names.read_string(wheel.read(entry_points).decode())
    return set(names["console_scripts"]) if names.has_section("console_scripts") else set()


def _recorded(path: Path) -> dict[str, str]:
    """Return ``{path: digest}`` of the files that a wheel installs, from its RECORD."""
    with WheelFile(path) as wheel, wheel.open(wheel.record_path) as record:
        rows = rows_of(record.read().decode())
        return {name: digest for name, digest in rows if digest and ".dist-info/" not in name}


def _encoded(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _differing(site: Path, expected: Mapping[str, str]) -> list[str]:
    wrong = []
    for path, digest in expected.items():
        name = path if not path.startswith("..") else os.path.normpath(site / path)
        try:
            content = (site / path).read_bytes()
        except (OSError, ValueError):
            wrong.append(f"{name} is missing")
            continue
        if _encoded(hashlib.sha256(content).digest()) != digest:
            wrong.append(f"{name} is changed")
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
        wrong = _differences(entry, _recorded(path), path)
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
