"""Write patches as commits to send: choose them, make them, and only then touch the folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_auth_patches import export as room
from airflow_auth_patches.errors import Exit, Problem
from airflow_auth_patches.processes import attempt
from airflow_auth_patches.progress import Progress, Silent
from airflow_auth_patches.releases import Pins, Release
from airflow_auth_patches.series import Patch, Series


@dataclass(frozen=True)
class Exported:
    """
    What was written.

    :param files: in the order in which `git am` takes them.
    :param notes: what the sender must know.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...]


def export(
    root: Path,
    series: Series,
    pins: Pins,
    release: Release,
    output: Path,
    names: Sequence[str] | None = None,
    *,
    author: str | None = None,
    number: int | None = None,
    progress: Progress | None = None,
) -> Exported:
    """
    Write patches of a release as commits that `git am` takes.

    :param root: the checkout of this project.
    :param output: the folder to write into; it is made, or is empty.
    :param names: exactly these patches, ``None`` for all that serve the release.
    :param author: who sends them, as ``Name <mail>``; by default who git says it is.
    :param number: the pull request that their news lines are named for.
    :raises Problem: when a patch does not serve the release, or the folder is not empty; nothing is written.
    """
    patches = chosen(series, release, names)
    author = sender() if author is None else author
    if not room.AUTHOR.fullmatch(author):
        raise Problem(f"{author!r} is no author.", "Write it as 'Name <mail@example.org>'.", Exit.USAGE)
    if output.exists() and not output.is_dir():
        raise Problem(f"{output} is no folder.", "Name a new one.", Exit.USAGE)
    if output.is_dir() and any(output.iterdir()):
        raise Problem(f"{output} is not empty.", "Name a new folder: `git am` takes all that is in it.")
    with (progress or Silent()).task(f"making {len(patches)} commits on {release}"):
        commits = room.commits(root, series, release, patches, author, number)
    try:
        output.mkdir(parents=True, exist_ok=True)
        for commit in commits:
            (output / commit.name).write_bytes(commit.content)
    except OSError as error:
        raise Problem(f"{output} cannot be written: {error}.", "Name another folder.", Exit.USAGE) from error
    files = tuple(output / commit.name for commit in commits)
    return Exported(files, tuple(room.notes(series, pins, release, commits, number)))


def chosen(series: Series, release: Release, names: Sequence[str] | None) -> list[Patch]:
    """
    Return the patches to send, in series order.

    :raises Problem: when there is none, or a named one does not serve the release.
    """
    serving = series.serving(release)
    held = ", ".join(patch.slug for patch in serving) or "no patch"
    if names is None:
        if not serving:
            raise Problem(f"No patch serves {release}.", "See `airflow-auth-patches list --releases`.")
        return serving
    picked = series.select(release, names)
    slugs = {patch.slug for patch in picked}
    for name in names:
        if name in slugs:
            continue
        if joins := next((patch.joins for patch in serving if patch.slug == name), ()):
            raise Problem(
                f"{name} joins {', '.join(joins)}: it goes out whenever all of them do, and never otherwise.",
                "Name them.",
            )
        raise Problem(f"{name} does not serve {release}.", f"That is served by {held}.")
    return picked


def sender() -> str:
    """
    Return who git says the user is, as ``Name <mail>``.

    :raises Problem: when it is not told.
    """
    name, mail = (attempt(["git", "config", f"user.{key}"]).stdout.strip() for key in ("name", "email"))
    if not (name and mail):
        raise Problem(
            "Git does not know who sends these commits.",
            "Give --author 'Name <mail@example.org>', or set git's user.name and user.email.",
            Exit.USAGE,
        )
    return f"{name} <{mail}>"
