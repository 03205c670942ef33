"""An installed Airflow: what it is, whether it is whole, and the one transaction that changes it."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version
from wheel.wheelfile import WheelFile

from airflow_auth_patches.errors import Exit, Problem
from airflow_auth_patches.processes import run
from airflow_auth_patches.progress import Progress, Silent
from airflow_auth_patches.releases import CORE, DISTRIBUTIONS, Distribution, Pins, Release, fetch
from airflow_auth_patches.wheels import MANIFEST, write

# Runs in the environment that is looked at, so it uses the standard library alone.
_LOOK = """
import importlib.metadata as m, json, sys, importlib.util as u
out = {"pip": u.find_spec("pip") is not None, "found": {}, "versions": {}}
out["runs"] = "%d.%d" % sys.version_info[:2]
for d in m.distributions():
    if d.metadata and d.metadata["Name"]:
        out["versions"].setdefault(d.metadata["Name"].lower().replace("_", "-"), d.version)
for name in sys.argv[1:]:
    try:
        d = m.distribution(name)
    except m.PackageNotFoundError:
        continue
    out["found"][name] = {
        "version": d.version,
        "site": str(d.locate_file("")),
        "manifest": d.read_text("@MANIFEST@"),
        "editable": "editable" in (d.read_text("direct_url.json") or ""),
    }
print(json.dumps(out))
""".replace("@MANIFEST@", MANIFEST)


@dataclass(frozen=True)
class Installed:
    """
    One of our distributions in an environment.

    :param version: as installed, with its local label.
    :param site: its site-packages.
    :param manifest: what ``AUTH_PATCHES.json`` says, or ``None`` where there is none.
    :param release: the pinned release it comes from, or ``None`` where that is not pinned.
    """

    distribution: Distribution
    version: str
    site: Path
    manifest: Mapping[str, Any] | None
    release: Release | None
    editable: bool

    @property
    def out_of_scope(self) -> bool:
        """Whether it is older than every release that the series knows."""
        try:
            return Version(self.version) < self.distribution.oldest
        except InvalidVersion:
            return False

    @property
    def slugs(self) -> list[str]:
        """The slugs of the patches in it."""
        return [patch["slug"] for patch in self.manifest["patches"]] if self.manifest else []


@dataclass(frozen=True)
class Installation:
    """
    An environment with Airflow in it.

    :param python: its interpreter, as it was named.
    :param versions: the version of every distribution in it, by normalised name.
    :param runs: its Python version, as in ``3.11``.
    """

    python: Path
    pip: bool
    found: tuple[Installed, ...]
    versions: Mapping[str, str]
    runs: str


def look(python: Path, pins: Pins) -> Installation:
    """
    Look at an environment; nothing is changed.

    :param python: its interpreter.
    :raises Problem: when it is no interpreter, or has none of our distributions.
    """
    if not python.is_file():
        raise Problem(
            f"{python} is not an interpreter.", "Name the python of your Airflow: --python PATH.", Exit.USAGE
        )
    names = [dist.name for dist in DISTRIBUTIONS]
    try:
        told = json.loads(run([python, "-I", "-c", _LOOK, *names], timeout=120))
    except (Problem, ValueError, OSError) as error:
        raise Problem(
            f"{python} does not run as a Python interpreter: {error}",
            "Name the python of your Airflow: --python PATH.",
            Exit.USAGE,
        ) from error
    found = tuple(
        Installed(
            dist,
            entry["version"],
            Path(entry["site"]),
            json.loads(entry["manifest"]) if entry["manifest"] else None,
            pins.find(dist, entry["version"]),
            entry["editable"],
        )
        for dist in DISTRIBUTIONS
        if (entry := told["found"].get(dist.name))
    )
    if not found and (old := told["versions"].get("apache-airflow")):
        raise Problem(
            f"Airflow {old} is out of scope: the series begins with {CORE.name} {CORE.oldest}.",
            "Upgrade Airflow.",
        )
    if not found:
        raise Problem(
            f"{python} has no Airflow: neither {' nor '.join(names)} is installed there.",
            "Name the python of your Airflow: --python PATH.",
        )
    return Installation(python, told["pip"], found, told["versions"], told["runs"])


def changed_files(installed: Installed, progress: Progress | None = None) -> list[str]:
    """
    Compare the installed files with the pristine wheel, and the patched ones with our manifest.

    :return: what is wrong, a line each, as in ``airflow/settings.py is changed``; empty when nothing is.
    """
    release = pinned(installed)
    expected: dict[str, str] = {}
    with WheelFile(fetch(release, "wheel", progress)) as wheel:
        with wheel.open(wheel.record_path) as record:
            for line in record.read().decode().splitlines():
                path, digest, _ = line.rsplit(",", 2)
                if digest.startswith("sha256=") and ".dist-info/" not in path:
                    expected[path.strip('"')] = digest.removeprefix("sha256=")
    for path, hashes in (installed.manifest or {}).get("files", {}).items():
        expected[path] = base64.urlsafe_b64encode(bytes.fromhex(hashes["after"])).decode().rstrip("=")
    wrong = []
    for path, digest in expected.items():
        try:
            content = (installed.site / path).read_bytes()
        except OSError:
            wrong.append(f"{path} is missing")
            continue
        if base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=") != digest:
            wrong.append(f"{path} is changed")
    return wrong


def pinned(installed: Installed) -> Release:
    """
    Return the pinned release that is installed.

    :raises Problem: when the installed version is not pinned, or is not a plain or patched release.
    """
    name, version = installed.distribution.name, installed.version
    if installed.editable:
        raise Problem(
            f"{name} {version} is an editable installation.", "Patch its checkout with git instead."
        )
    try:
        local = Version(version).local
    except InvalidVersion:
        local = "?"
    if installed.out_of_scope:
        oldest = installed.distribution.oldest
        raise Problem(
            f"{name} {version} is out of scope: the series begins with {oldest}.",
            f"Upgrade it, at least to {oldest}.",
        )
    if installed.release is None or (local and not installed.manifest):
        raise Problem(
            f"{name} {version} is in no patch's range: the series does not know that release.",
            "`airflow-auth-patches list --releases` shows those it knows.",
        )
    return installed.release


def as_wheel(installed: Installed, output: Path) -> Path:
    """
    Return a wheel of what is installed: the pristine one, or one written from the patched files as they are.

    :param output: the folder to write it into.
    """
    release = pinned(installed)
    if not installed.manifest:
        return fetch(release, "wheel")
    files = {path: (installed.site / path).read_bytes() for path in installed.manifest["files"]}
    return write(release, installed.manifest["label"], files, installed.manifest, output)


def missing_requirements(installation: Installation, requirements: Sequence[str]) -> list[str]:
    """Return those requirements that the environment does not satisfy."""
    missing = []
    for text in requirements:
        requirement = Requirement(text)
        version = installation.versions.get(requirement.name.lower().replace("_", "-"))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            missing.append(text)
    return missing


def _installer(installation: Installation) -> list[str | Path]:
    if installation.pip:
        return [
            *(installation.python, "-m", "pip", "--disable-pip-version-check", "--quiet"),
            *("install", "--no-index", "--no-deps", "--force-reinstall", "--no-warn-script-location"),
        ]
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if beside.exists() else shutil.which("uv")
    if not found:
        raise Problem(
            f"{installation.python} has no pip, and uv was not found.", "Install either of them.", Exit.USAGE
        )
    return [
        found,
        "pip",
        "install",
        "--quiet",
        "--offline",
        "--no-index",
        "--no-deps",
        "--reinstall",
        "--python",
        installation.python,
    ]


def replace(
    installation: Installation,
    wheels: Sequence[Path],
    restore: Sequence[Path],
    verify: Callable[[], None],
    progress: Progress | None = None,
) -> None:
    """
    Install wheels in place of the same distributions, as a transaction.

    pip or uv installs them, touching no other package. If that fails or is interrupted, or the result does
    not verify, the wheels in ``restore`` are put back before the error goes on.

    :param wheels: what to install.
    :param restore: the wheels of what is installed now.
    :param verify: raises when the installation is not what it must be.
    :raises Problem: FAILED, with what was put back.
    """
    installer = _installer(installation)
    try:
        with (progress or Silent()).task(
            f"installing {', '.join(wheel.name.split('-')[0] for wheel in wheels)}"
        ):
            run([*installer, *wheels])
            verify()
    except BaseException as error:
        try:
            run([*installer, *restore])
        except Problem as second:
            raise Problem(
                f"The installation failed ({error}) and could not be put back ({second}).",
                f"Install by hand: {' '.join(map(str, installer))} {' '.join(map(str, restore))}",
                Exit.FAILED,
            ) from error
        if isinstance(error, Problem):
            raise Problem(
                f"{error.what} What was installed before is back.", error.remedy, Exit.FAILED
            ) from error
        raise
