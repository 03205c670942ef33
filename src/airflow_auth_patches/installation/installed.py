"""Inspect an installed Airflow: its releases and patches, and whether its files were changed."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from airflow_auth_patches.installation import damage
from airflow_auth_patches.installation.damage import Damage
from airflow_auth_patches.installation.wheels import MANIFEST, read_manifest
from airflow_auth_patches.releases.releases import CORE, DISTRIBUTIONS, Distribution, Pins, Release, yanked
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.processes import run

#: Marks the line of the result, because a sitecustomize may print too.
_MARK = "airflow-auth-patches: "
# Runs in the inspected environment, so it uses only the standard library.
_LOOK = """
import importlib.metadata as m, importlib.util as u, json, os, site, sys, sysconfig
from importlib.machinery import PathFinder
out = {"pip": u.find_spec("pip") is not None, "found": {}, "versions": {}, "prefix": sys.prefix}
out["sites"] = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
out["runs"] = "%d.%d" % sys.version_info[:2]
# The folders from which a server imports: this interpreter ignores PYTHONPATH and the user site.
config = os.path.join(sys.prefix, "pyvenv.cfg")
alone = os.path.exists(config) and "include-system-site-packages = true" not in open(config).read().lower()
user = [] if alone or os.environ.get("PYTHONNOUSERSITE") else [site.getusersitepackages()]
before = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
spec = PathFinder.find_spec("airflow", before + user + sys.path)
out["imported"] = spec and spec.origin
def editable(d):
    try:
        return bool(json.loads(d.read_text("direct_url.json") or "{}")["dir_info"]["editable"])
    except (KeyError, TypeError, ValueError):
        return False
def told(d):
    try:
        return d.metadata["Name"], d.metadata["Version"]
    except Exception:  # newer Pythons raise if there is no METADATA
        return None, None
def text(d):
    try:
        return d.read_text("@MANIFEST@")
    except ValueError:
        return ""
for d in m.distributions():
    name, version = told(d)
    if not name or not version:
        continue
    name = name.lower().replace("_", "-")
    out["versions"].setdefault(name, version)
    if name in sys.argv[1:] and name not in out["found"]:
        out["found"][name] = {
            "version": version,
            "site": str(d.locate_file("")),
            "manifest": text(d),
            "editable": editable(d),
        }
""".replace("@MANIFEST@", MANIFEST)


@dataclass(frozen=True)
class Installed:
    """
    A distribution of the series in an environment.

    :param version: the installed version, with its local label.
    :param site: its site-packages folder.
    :param manifest: the content of ``AUTH_PATCHES.json``; ``None`` if the file is missing or invalid.
    :param release: the pinned release of that version; ``None`` if it is not pinned.
    :param editable: whether it is an editable installation.
    :param damaged: whether it is patched and its ``AUTH_PATCHES.json`` is missing or invalid.
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
        """Whether it is older than every release in scope."""
        try:
            return Version(self.version) < self.distribution.oldest
        except InvalidVersion:
            return False

    @property
    def slugs(self) -> list[str]:
        """The slugs of the installed patches."""
        return [patch["slug"] for patch in self.manifest["patches"]] if self.manifest else []


@dataclass(frozen=True)
class Installation:
    """
    An environment with Airflow.

    :param python: the path of its interpreter, as it was given.
    :param pip: whether it has pip.
    :param found: the installed distributions of the series.
    :param versions: ``{normalised name: version}`` of all installed distributions.
    :param runs: its Python version, as in ``3.11``.
    :param prefix: its folder.
    :param sites: its site-packages folders.
    :param damage: the traces of an interrupted installation.
    """

    python: Path
    pip: bool
    found: tuple[Installed, ...]
    versions: Mapping[str, str]
    runs: str
    prefix: Path = Path()
    sites: tuple[Path, ...] = ()
    damage: tuple[Damage, ...] = ()

    def __str__(self) -> str:
        """Return its interpreter, its folder, and the versions of the distributions, in one line."""
        versions = {found.distribution: found.version for found in self.found}
        named = [f"{dist.name} {versions.get(dist, 'not installed')}" for dist in DISTRIBUTIONS]
        return f"{self.python} ({self.prefix}): {', '.join(named)}"


def prefix_of(python: Path) -> Path:
    """
    Return the folder of an environment.

    :param python: its interpreter.
    :raises Problem: USAGE if the path is not an interpreter.
    """
    return Path(_ask(python, "import json, sys; out = sys.prefix"))


def _ask(python: Path, code: str, *words: str) -> Any:
    """Run code in an environment, and return the value of its variable ``out``."""
    if not python.is_file():
        raise Problem(
            f"{python} is not an interpreter.",
            "Name the interpreter of your Airflow: --python PATH.",
            Exit.USAGE,
        )
    try:
        code += f"\nprint('\\n{_MARK}' + json.dumps(out))\n"
        lines = run([python, "-I", "-", *words], timeout=120, stdin=code).splitlines()
        told = [line.removeprefix(_MARK) for line in lines if line.startswith(_MARK)]
        return json.loads(told[-1] if told else "")
    except (Problem, ValueError, OSError) as error:
        raise Problem(
            f"{python} does not run as a Python interpreter: {f'{error}'.strip().splitlines()[-1]}",
            "Name the interpreter of your Airflow: --python PATH.",
            Exit.USAGE,
        ) from error


def look(python: Path, pins: Pins, *, damaged: bool = False) -> Installation:
    """
    Inspect an environment, without changing it.

    :param python: its interpreter.
    :param damaged: whether to accept a damaged installation.
    :raises Problem: if the path is not an interpreter, or no distribution of the series is installed. DAMAGED
        if an installation did not end.
    """
    told = _ask(python, _LOOK, *(dist.name for dist in DISTRIBUTIONS))
    found = tuple(
        _installed(dist, entry, pins) for dist in DISTRIBUTIONS if (entry := told["found"].get(dist.name))
    )
    old = told["versions"].get("apache-airflow", "")
    # Airflow 2 has no distribution of core, but may have the provider.
    if CORE.name not in told["found"] and old[:2] in ("1.", "2."):
        raise Problem(
            f"Airflow {old} is out of scope: the series begins with {CORE.name} {CORE.oldest}.",
            f"Upgrade Airflow to {CORE.oldest} or later.",
        )
    prefix, sites = Path(told["prefix"]), tuple(dict.fromkeys(map(Path, told["sites"])))
    _check_inside(python, found, told["imported"], sites)
    harm = tuple(damage.find(sites, prefix))
    if harm and not damaged:
        raise Problem(
            f"The installation is damaged: {'; '.join(each.what for each in harm)}.",
            f"Repair it: {repair_command(python)}",
            Exit.DAMAGED,
        )
    if not found and not harm:
        names = " nor ".join(dist.name for dist in DISTRIBUTIONS)
        raise Problem(
            f"{python} has no Airflow: neither {names} is installed.",
            "Name the interpreter of your Airflow: --python PATH.",
        )
    return Installation(python, told["pip"], found, told["versions"], told["runs"], prefix, sites, harm)


def _check_inside(
    python: Path, found: Sequence[Installed], imported: str | None, sites: Sequence[Path]
) -> None:
    """Check that the environment has the distributions and that a server imports them from there."""
    real = {Path(os.path.realpath(site)) for site in sites}
    for each in found:
        if Path(os.path.realpath(each.site)) not in real:
            name = f"{each.distribution.name} {each.version}"
            raise Problem(
                f"{name} is in {each.site}, outside the environment of {python}.",
                "Name the interpreter of the environment that has it: --python PATH.",
            )
    if any(each.editable for each in found) or imported is None:
        return
    if not real & set(Path(os.path.realpath(imported)).parents):
        raise Problem(
            f"{python} imports Airflow from {imported}, not from {sites[0]}.",
            "Correct PYTHONPATH, the .pth files and the user's site-packages, or name the interpreter of the "
            "environment that has this Airflow.",
        )


def repair_command(python: Path) -> str:
    """Return the command line that repairs an environment."""
    return f"airflow-auth-patches repair --python {shlex.quote(str(python))}"


def _installed(dist: Distribution, entry: Mapping[str, Any], pins: Pins) -> Installed:
    version, text = entry["version"], entry["manifest"]
    manifest = None if text is None else read_manifest(text)
    ours = f"+{pins.label.partition('.')[0]}." in version
    damaged = manifest is None and (ours or text is not None)
    release = pins.find(dist, version)
    return Installed(dist, version, Path(entry["site"]), manifest, release, entry["editable"], damaged)


def pinned(installed: Installed) -> Release:
    """
    Return the pinned release that is installed.

    :raises Problem: if the installed version is not pinned, or is neither a pristine nor a patched release.
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
            "Upgrade it: `airflow-auth-patches status` shows the oldest version that works.",
        )
    if installed.damaged:
        raise Problem(
            f"The {MANIFEST} of {name} {version} is missing or damaged.",
            "Restore the pristine release: `airflow-auth-patches revert`.",
        )
    if problem := yanked(installed.distribution, version):
        raise problem
    if installed.release is None or (local and not installed.manifest):
        raise Problem(
            f"No patch is for {name} {version}: it is not a pinned release.",
            "See `airflow-auth-patches list --releases`.",
        )
    return installed.release


def missing_requirements(installation: Installation, requirements: Sequence[str]) -> list[str]:
    """Return the requirements that the environment does not satisfy."""
    missing = []
    for text in requirements:
        requirement = Requirement(text)
        version = installation.versions.get(requirement.name.lower().replace("_", "-"))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            missing.append(text)
    return missing
