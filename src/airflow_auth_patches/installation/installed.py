"""An installed Airflow: what it is, and whether it is whole."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version
from wheel.wheelfile import WheelFile

from airflow_auth_patches.installation.wheels import MANIFEST, write
from airflow_auth_patches.releases.fetching import fetch
from airflow_auth_patches.releases.releases import CORE, DISTRIBUTIONS, Distribution, Pins, Release, yanked
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.processes import run
from airflow_auth_patches.util.progress import Progress

# Runs in the environment that is looked at, so it uses the standard library alone.
_LOOK = """
import importlib.metadata as m, json, sys, importlib.util as u
out = {"pip": u.find_spec("pip") is not None, "found": {}, "versions": {}}
out["runs"] = "%d.%d" % sys.version_info[:2]
for d in m.distributions():
    if d.metadata and d.metadata["Name"]:
        out["versions"].setdefault(d.metadata["Name"].lower().replace("_", "-"), d.version)
def text(d):
    try:
        return d.read_text("@MANIFEST@")
    except ValueError:
        return ""
for name in sys.argv[1:]:
    try:
        d = m.distribution(name)
    except m.PackageNotFoundError:
        continue
    out["found"][name] = {
        "version": d.version,
        "site": str(d.locate_file("")),
        "manifest": text(d),
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
    :param damaged: whether it is patched and its ``AUTH_PATCHES.json`` does not say how.
    """

    distribution: Distribution
    version: str
    site: Path
    manifest: Mapping[str, Any] | None
    release: Release | None
    editable: bool
    damaged: bool = False

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
        told = json.loads(run([python, "-I", "-", *names], timeout=120, stdin=_LOOK))
    except (Problem, ValueError, OSError) as error:
        raise Problem(
            f"{python} does not run as a Python interpreter: {f'{error}'.strip().splitlines()[-1]}",
            "Name the python of your Airflow: --python PATH.",
            Exit.USAGE,
        ) from error
    found = tuple(
        _installed(dist, entry, pins) for dist in DISTRIBUTIONS if (entry := told["found"].get(dist.name))
    )
    old = told["versions"].get("apache-airflow", "")
    # Airflow 2 has no core of its own, and may have a provider.
    if CORE.name not in told["found"] and old[:2] in ("1.", "2."):
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


def _installed(dist: Distribution, entry: Mapping[str, Any], pins: Pins) -> Installed:
    version, text = entry["version"], entry["manifest"]
    manifest = None if text is None else _manifest(text)
    ours = f"+{pins.label.partition('.')[0]}." in version
    damaged = manifest is None and (ours or text is not None)
    release = pins.find(dist, version)
    return Installed(dist, version, Path(entry["site"]), manifest, release, entry["editable"], damaged)


def _manifest(text: str) -> Mapping[str, Any] | None:
    """Return what a manifest says, or ``None`` where it is not as `wheels.manifest` writes it."""
    try:
        told: dict[str, Any] = json.loads(text)
        [f"{patch['name']}{patch['slug']}{patch['sha256']}" for patch in told["patches"]]
        [bytes.fromhex(hashes["after"]) for hashes in told["files"].values()]
        return told if told["label"] and told["requires"] is not None else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def changed_files(installed: Installed, progress: Progress | None = None) -> list[str]:
    """
    Compare the installed files with the pristine wheel, and the patched ones with our manifest.

    :return: what is wrong, a line each, as in ``airflow/settings.py is changed``; empty when nothing is.
    """
    expected = _recorded(fetch(pinned(installed), "wheel", progress))
    for path, hashes in (installed.manifest or {}).get("files", {}).items():
        expected[path] = base64.urlsafe_b64encode(bytes.fromhex(hashes["after"])).decode().rstrip("=")
    return _differing(installed.site, expected)


def _recorded(path: Path) -> dict[str, str]:
    """Return the digest of each file that a wheel installs, as its RECORD has it."""
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
    Make sure that an environment has what wheels hold: release, label, patches and every file.

    :param python: its interpreter.
    :raises Problem: naming what is not so.
    """
    found = {entry.distribution.stem: entry for entry in look(python, pins).found}
    for path in wheels:
        stem, version = path.name.split("-")[:2]
        entry = found.get(stem)
        if entry is None or Version(entry.version) != Version(version):
            raise Problem(
                f"{stem} {version} was not installed: {entry.version if entry else 'none'} is there."
            )
        with WheelFile(path) as wheel:
            told = f"{wheel.dist_info_path}/{MANIFEST}"
            manifest = json.loads(wheel.read(told)) if told in wheel.namelist() else None
        wrong = _differing(entry.site, _recorded(path))
        if manifest != entry.manifest:
            wrong.insert(0, f"{MANIFEST} is another")
        if wrong:
            raise Problem(f"{stem} {version} is not what its wheel holds: {some(wrong)}.")


def some(wrong: Sequence[str]) -> str:
    """Return the first of what is wrong, in one line."""
    return "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")


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
            "Upgrade it: `airflow-auth-patches status` says at least to what.",
        )
    if installed.damaged:
        raise Problem(
            f"The {MANIFEST} of {name} {version} is missing or damaged.",
            "Put the pristine release back: `airflow-auth-patches revert`.",
        )
    if problem := yanked(installed.distribution, version):
        raise problem
    if installed.release is None or (local and not installed.manifest):
        raise Problem(
            f"{name} {version} is in no patch's range: the series does not know that release.",
            "`airflow-auth-patches list --releases` shows those it knows.",
        )
    return installed.release


def as_wheel(installed: Installed, output: Path) -> Path:
    """
    Return a wheel of what is installed: the pristine one, or one written from the patched files as they are.

    :param output: the folder to write it into. A patched file that is missing is the pristine one there, and
        an added file that is missing is not there; where nothing says what is patched, all are pristine.
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


def missing_requirements(installation: Installation, requirements: Sequence[str]) -> list[str]:
    """Return those requirements that the environment does not satisfy."""
    missing = []
    for text in requirements:
        requirement = Requirement(text)
        version = installation.versions.get(requirement.name.lower().replace("_", "-"))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            missing.append(text)
    return missing
