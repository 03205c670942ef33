"""Inputs, other than the test, that determine the result of a reproducer."""

from __future__ import annotations

import datetime
import hashlib
import json
from pathlib import Path

from airflow_auth_patches.installation import environments
from airflow_auth_patches.releases.releases import CORE, Pair, Pins, Release
from airflow_auth_patches.series.series import Bug, Series
from airflow_auth_patches.util.errors import Exit, Problem

#: Raise it when the words of an outcome change: all results are outdated then.
FORM = 0
#: Days after the later of two releases as of which a pair that is not pinned is resolved.
SETTLED = 3


def companion(pins: Pins, bug: Bug, release: Release) -> Pair:
    """
    Return the pair in which a bug is judged on a release: the first that is pinned, else one of its day.

    Where the bug shows only with some releases of the other distribution, it is one of those.

    :raises Problem: when no such release is as old.
    """

    def fits(other: Release) -> bool:
        return other.distribution is not release.distribution and other.version in bug.beside

    for pair in pins.pairs:
        if release in (pair.core, pair.fab) and (fits(pair.core) or fits(pair.fab)):
            return pair
    others = [each for each in pins.releases if fits(each)]
    before = [each for each in others if each.date <= release.date] or others[:1]
    if not before:
        raise Problem(
            f"There is nothing to judge {bug.slug} on {release} with.", "Pin a pair for it.", Exit.USAGE
        )
    beside = max(before, key=lambda each: each.date)
    day = max(release.date, beside.date) + datetime.timedelta(days=SETTLED)
    core, fab = (release, beside) if release.distribution is CORE else (beside, release)
    return Pair(core, fab, day, "of its day")


def digest(root: Path, bug: Bug) -> str:
    """
    Return the SHA-256 of a bug's reproducer, which is a file and the test's name in it, in hexadecimal.

    :param root: the checkout of this project.
    """
    file, _, name = (bug.reproducer or "").partition("::")
    return hashlib.sha256((root / file).read_bytes() + name.encode()).hexdigest()


def fingerprint(root: Path, series: Series, pair: Pair, python: str, *, patched: bool) -> str:
    """
    Return the SHA-256 of the inputs other than the reproducer, in hexadecimal.

    They are what is installed, the plugin stub with which the tests run, and, where patches were applied, the
    edits of all that serve the pair, in their order: a reproducer runs with the whole series.

    :param root: the checkout of this project.
    :param python: the Python version, as in ``3.11``.
    """
    edits = [
        (patch.name, patch.edits_sha256)
        for release in (pair.core, pair.fab)
        for patch in (series.serving(release) if patched else ())
    ]
    whole = [environments.specification(pair, python), standin(root), edits, *([FORM] if FORM else [])]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()


def standin(root: Path) -> str:
    """
    Return the SHA-256 of the plugin stub, ``tests/standin``, in hexadecimal.

    :param root: the checkout of this project.
    """
    files = sorted(path for path in (root / "tests/standin").rglob("*") if path.suffix in (".py", ".ini"))
    content = [(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")) for path in files]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
