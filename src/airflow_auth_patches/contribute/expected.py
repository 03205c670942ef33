"""What the patched code is: from the series and an installation, or from a branch of a checkout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_auth_patches.contribute import branch
from airflow_auth_patches.demo.listening import blob
from airflow_auth_patches.installation import wheels
from airflow_auth_patches.installation.status import status
from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.progress import Progress


@dataclass(frozen=True)
class Subject:
    """
    What is to run, and where.

    :param checkout: the Airflow checkout that the server runs; without one, patched releases are installed.
    :param branch: its branch; the one that is checked out when not given.
    :param base: what that comes from; found out when not given.
    :param python: the server's interpreter: of this machine, or in the container where one is named.
    :param container: the one that it runs in; without one and without an interpreter, that of the port.
    :param patches: those that must run; when not given, any that the branch has, or all that `apply` takes
        by default.
    """

    checkout: Path | None = None
    branch: str | None = None
    base: str | None = None
    python: Path | None = None
    container: str | None = None
    patches: Sequence[str] | None = None

    @property
    def contained(self) -> bool:
        """Whether the server runs in a container."""
        return self.container is not None or self.python is None


@dataclass(frozen=True)
class Expected:
    """
    What the patched code is.

    :param files: ``{path below site-packages: id of the content, as git names it}``.
    :param patches: slugs of the patches that make it so.
    :param source: where that is known from, for people.
    """

    files: Mapping[str, str]
    patches: tuple[str, ...]
    source: str


def expect(subject: Subject, series: Series, pins: Pins, progress: Progress) -> Expected:
    """
    Tell what the patched code is.

    :raises Problem: when nothing says so, or what says so lacks a patch.
    """
    series.known(subject.patches or ())
    if subject.checkout is not None:
        return _of_checkout(subject.checkout, subject, series)
    if subject.branch is not None or subject.base is not None:
        raise Problem("--branch and --base are of a checkout.", "Name it: --checkout PATH.", Exit.USAGE)
    if subject.python is not None and not subject.contained:
        return _of_installation(subject.python, subject.patches, series, pins, progress)
    raise Problem(
        "It must be known which code is to run.",
        "Name the checkout that Breeze runs, --checkout PATH, or the interpreter of a server without "
        "Breeze, --python PATH.",
        Exit.USAGE,
    )


def _of_installation(
    python: Path, names: Sequence[str] | None, series: Series, pins: Pins, progress: Progress
) -> Expected:
    rows = status(python, series, pins, progress)
    for row in rows:
        if row.state not in ("pristine", "patched"):
            told = f"{row.installed.distribution.name} {row.installed.version}"
            raise Problem(f"{told} is {row.state}: {'; '.join(row.notes[:3])}.", "Repair it first.")
    applied = tuple(slug for row in rows for slug in row.applied)
    releases = [row.installed.release for row in rows if row.installed.release]
    chosen = names or [patch.slug for release in releases for patch in series.select(release, optional=False)]
    missing = [slug for slug in chosen if slug not in applied]
    if missing or not applied:
        has = f"lacks {', '.join(missing)}" if applied else "has no patch in it"
        raise Problem(
            f"The patched code is not what runs: {python} {has}.",
            "Apply the patches and restart the API server, or name those to verify with --patch.",
        )
    files: dict[str, str] = {}
    for release, row in zip(releases, rows, strict=True):
        # A name that is of no patch any more is of an older series; the content then tells.
        known = [patch for patch in series.serving(release) if patch.slug in row.applied]
        after = wheels.patch_release(release, known, progress).after
        files |= {path: blob(content) for path, content in after.items()}
    return Expected(files, applied, "the series")


def _of_checkout(checkout: Path, subject: Subject, series: Series) -> Expected:
    found = branch.look(checkout, subject.branch, subject.base)
    within, files = branch.patches_in(found, series), branch.blobs(found)
    if missing := [slug for slug in subject.patches or () if slug not in within]:
        lacks = f"lacks {', '.join(missing)}"
    elif not within:
        lacks = "has no commit of a patch of the series"
    elif not files:
        lacks = "changed no file that is installed"
    else:
        return Expected(files, tuple(within), f"the branch {found.name}")
    raise Problem(
        f"{found.name} of {found.checkout} {lacks} since {found.base}.",
        "Put them there with apply-to-checkout, or name the branch and what it comes from: --branch, --base.",
    )
