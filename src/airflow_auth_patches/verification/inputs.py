"""Inputs, other than the test, that determine the result of a reproducer."""

from __future__ import annotations

import datetime
import hashlib
import json
from pathlib import Path

from airflow_auth_patches.installation import environments
from airflow_auth_patches.releases.releases import CORE, Pair, Pins, Release
from airflow_auth_patches.series.bugs import Bug
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.util.errors import UsageProblem
from airflow_auth_patches.verification.run_pytest import PLUGIN_STUB

#: Increase this number when the text of an outcome changes: all recorded results are then outdated.
FORM = 0
#: Days after the later of two releases at which the requirements of a pair that is not pinned are resolved.
SETTLED = 3


def companion(pins: Pins, bug: Bug, release: Release) -> Pair:
    """
    Return the pair on which the reproducer of a bug runs for a release.

    It is the first pinned pair that contains the release. If there is none, it is a pair with the newest
    release of the other distribution at the date of the release. If a bug occurs only with some releases of
    the other distribution, the pair has one of these.

    :raises Problem: when no release of the other distribution fits.
    """

    def fits(other: Release) -> bool:
        return other.distribution is not release.distribution and other.version in bug.shows_with

    for pair in pins.pairs:
        if release in (pair.core, pair.fab) and (fits(pair.core) or fits(pair.fab)):
            return pair
    others = [each for each in pins.releases if fits(each)]
    before = [each for each in others if each.date <= release.date] or others[:1]
    if not before:
        raise UsageProblem(
            f"No pair is available to run the reproducer of {bug.slug} on {release}.",
            "Pin a pair with that release.",
        )
    companion_release = max(before, key=lambda each: each.date)
    day = max(release.date, companion_release.date) + datetime.timedelta(days=SETTLED)
    is_core = release.distribution is CORE
    core, fab = (release, companion_release) if is_core else (companion_release, release)
    return Pair(core, fab, day, "of its day")


def digest(root: Path, bug: Bug) -> str:
    """Return the SHA-256 of a bug's reproducer (its file and the name of the test), in hexadecimal."""
    file, _, name = (bug.reproducer or "").partition("::")
    return hashlib.sha256((root / file).read_bytes() + name.encode()).hexdigest()


def fingerprint(project: Project, pair: Pair, python: str, *, patched: bool) -> str:
    """
    Return the SHA-256 of the inputs other than the reproducer, in hexadecimal.

    The inputs are the installed packages, the pytest plugin stub and, on a patched release, the edits of all
    patches that serve the pair, in order: a reproducer runs with the whole series.
    """
    edits = [
        (patch.name, patch.edits_sha256)
        for release in (pair.core, pair.fab)
        for patch in (project.series.serving(release) if patched else ())
    ]
    whole = [
        environments.specification(pair, python),
        plugin_stub(project.root),
        edits,
        *([FORM] if FORM else []),
    ]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()


def plugin_stub(root: Path) -> str:
    """Return the SHA-256 of the pytest plugin stub in hexadecimal."""
    folder = root / PLUGIN_STUB
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".ini"))
    content = [(path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8")) for path in files]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
