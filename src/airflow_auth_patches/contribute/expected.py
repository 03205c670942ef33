"""Find out which code a server must run: from the series and an installation, or from a branch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_auth_patches.contribute import branch
from airflow_auth_patches.installation import wheels
from airflow_auth_patches.installation.listening import blob
from airflow_auth_patches.installation.status import status
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util.errors import Problem, UsageProblem
from airflow_auth_patches.util.progress import Progress


@dataclass(frozen=True)
class Subject:
    """
    The server to verify, and where it runs.

    :param checkout: the Airflow checkout that the server runs; ``None`` if patched releases are installed.
    :param branch: the branch of the checkout; by default the one that is checked out.
    :param base: the ref from which the branch starts; by default it is detected.
    :param python: the interpreter of the server: in the container if one is named, else on this machine.
    :param container: the container of the server. Without a container and an interpreter, the container that
        publishes the port.
    :param patches: the patches that must run; by default those of the branch, or those that `apply` installs
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
    The code that a patched server must run.

    :param files: ``{path below site-packages: git object id of the content}``.
    :param patches: the slugs of the patches in these files.
    :param source: the origin of the files, for messages.
    """

    files: Mapping[str, str]
    patches: tuple[str, ...]
    source: str


def expect(subject: Subject, project: Project, progress: Progress) -> Expected:
    """
    Return the code that a server must run.

    :raises Problem: if neither a checkout nor an installation is named, or it lacks a patch.
    """
    project.series.known(subject.patches or ())
    if subject.checkout is not None:
        return _of_checkout(subject.checkout, subject, project.series)
    if subject.branch is not None or subject.base is not None:
        raise UsageProblem("--branch and --base need a checkout.", "Name the checkout: --checkout PATH.")
    if subject.python is not None and not subject.contained:
        return _of_installation(subject.python, subject.patches, project, progress)
    raise UsageProblem(
        "The code that the server must run is unknown.",
        "Name the checkout that Breeze runs (--checkout PATH), or the interpreter of a server without Breeze "
        "(--python PATH).",
    )


def expect_none(subject: Subject, project: Project, progress: Progress) -> Expected:
    """
    Return the code that a server without patches must not run.

    :return: the files of the branch; no files for an installation, which has none of the named patches.
    :raises Problem: if neither a checkout nor an installation and patches are named, or it has one of them.
    """
    if subject.checkout is not None or subject.python is None or subject.contained:
        return expect(subject, project, progress)
    names = tuple(subject.patches or ())
    project.series.known(names)
    rows = status(subject.python, project.series, project.releases, progress).rows
    if not names or (has := {slug for row in rows for slug in row.applied} & set(names)):
        raise UsageProblem(
            f"{subject.python} has {', '.join(sorted(has))}." if names else "The patches are not named.",
            "Name patches that the server does not have, with --patch.",
        )
    return Expected({}, names, "the series")


def _of_installation(
    python: Path, names: Sequence[str] | None, project: Project, progress: Progress
) -> Expected:
    rows = status(python, project.series, project.releases, progress).rows
    for row in rows:
        if row.state not in ("pristine", "patched"):
            told = f"{row.installed.distribution.name} {row.installed.version}"
            raise Problem(
                f"{told} is {row.state}: {'; '.join(row.notes[:3])}.",
                "Reinstall it, or name the interpreter of another installation with --python.",
            )
    applied = tuple(slug for row in rows for slug in row.applied)
    releases = [row.installed.release for row in rows if row.installed.release]
    chosen = names or [
        patch.slug for release in releases for patch in project.series.select(release, optional=False)
    ]
    missing = [slug for slug in chosen if slug not in applied]
    if missing or not applied:
        has = f"lacks {', '.join(missing)}" if applied else "has no patch"
        raise Problem(
            f"The server does not run the patched code: {python} {has}.",
            "Apply the patches and restart the API server, or name the patches to verify with --patch.",
        )
    files: dict[str, str] = {}
    for release, row in zip(releases, rows, strict=True):
        # An older series may have patches that no longer exist; the check of the content finds these.
        known = [patch for patch in project.series.serving(release) if patch.slug in row.applied]
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
        lacks = "changed no installed file"
    else:
        return Expected(files, tuple(within), f"the branch {found.name}")
    raise Problem(
        f"{found.name} of {found.checkout} {lacks} since {found.base}.",
        "Add the patches with apply-to-checkout, or name the branch and its base: --branch, --base.",
    )
