"""Write patches as commits to send: choose them, make them, and only then touch a folder or a checkout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from airflow_auth_patches.contribute import backports, checkout, placing, pull_request
from airflow_auth_patches.contribute import export as room
from airflow_auth_patches.releases.checkout import opened as open_checkout
from airflow_auth_patches.releases.releases import CORE, Pins, Release
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.processes import attempt
from airflow_auth_patches.util.progress import Progress, Silent


@dataclass(frozen=True)
class Exported:
    """
    What was written.

    :param files: the commits, in the order in which `git am` takes them, each with its body after it.
    :param notes: what the sender must know.
    :param branch: the branch that was made.
    :param told: what is not where the release has it in the checkout.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...]
    branch: str | None = None
    told: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """
    A checkout of Airflow to make a branch in.

    :param branch: its name; ``None`` for one that says what is on it.
    :param at: the commit to begin at.
    """

    path: Path
    branch: str | None = None
    at: str = "HEAD"


def export(
    root: Path,
    series: Series,
    pins: Pins,
    release: Release,
    output: Path | None,
    names: Sequence[str] | None = None,
    *,
    author: str | None = None,
    number: int | None = None,
    bodies: bool = False,
    target: Target | None = None,
    progress: Progress | None = None,
) -> Exported:
    """
    Write patches of a release as commits that `git am` takes, and make a branch with them in a checkout.

    :param root: the checkout of this project.
    :param output: the folder to write into; it is made, or is empty. ``None`` for none.
    :param names: exactly these patches, ``None`` for all that serve the release.
    :param author: who sends them, as ``Name <mail>``; by default who git says it is.
    :param number: the pull request that their news lines are named for.
    :param bodies: whether to write the body of a pull request beside each.
    :param target: where to make a branch, if anywhere.
    :raises Problem: when a patch does not serve the release or has no place in the checkout, or the folder is
        not empty; nothing is written.
    """
    progress = progress or Silent()
    patches = chosen(series, release, names)
    author = known_author(author)
    if output is not None:
        usable(output)
    with ExitStack() as stack:
        opened, branch = None, None
        if target is not None:
            opened = stack.enter_context(open_checkout(target.path, release, target.at))
            branch = branch_name(release, patches) if target.branch is None else target.branch
            checkout.free(opened, branch)
        with progress.task(f"making {len(patches)} commits on {release}"):
            commits = room.commits(root, series, release, patches, author, number)
        files = {}
        for commit in commits:
            files[commit.name] = commit.content
            if bodies:
                labels = labels_of(series, pins, release, commit.patch)
                text = pull_request.body(root, series, pins, release, commit, labels)
                files[body_name(commit)] = text.encode()
        told: tuple[str, ...] = ()
        last = ""
        if opened is not None:
            with progress.task(f"applying them to {opened.path}"):
                planned = placing.plan(opened, release, commits)
                told = tuple(map(str, planned.told))
                last = checkout.write(opened, planned.steps)
        with written(output, files) as paths:
            if opened is not None and branch is not None:
                checkout.name_branch(opened, branch, last)
    return Exported(paths, tuple(room.notes(series, pins, release, commits, number)), branch, told)


def branch_name(release: Release, patches: Sequence[Patch]) -> str:
    """Name a branch for what is on it: its patch, or the release that they are of."""
    several = f"{release.distribution.folder}-{release.version}"
    return f"auth-patches/{patches[0].slug if len(patches) == 1 else several}"


def body_name(commit: room.Commit) -> str:
    """Return the name of the file with the body of a commit's pull request."""
    return commit.name.removesuffix(".patch") + ".md"


def labels_of(series: Series, pins: Pins, release: Release, patch: Patch) -> list[str]:
    """Return the labels to set on the pull request to main of a patch; none where it goes elsewhere."""
    newest = backports.lines(pins)[0].release
    if release.distribution is not CORE or release != newest or room.kind_of(series, patch) != "bugfix":
        return []
    return [line.label for line in backports.branches_of(series, pins, patch.slug)]


def known_author(author: str | None) -> str:
    """
    Return who sends the commits, as ``Name <mail>``.

    :param author: who was named, ``None`` for who git says it is.
    :raises Problem: when it is nobody.
    """
    author = sender() if author is None else author
    if not room.AUTHOR.fullmatch(author):
        raise Problem(f"{author!r} is no author.", "Write it as 'Name <mail@example.org>'.", Exit.USAGE)
    return author


def usable(output: Path) -> None:
    """
    Do nothing if a folder is new or empty.

    :raises Problem: when it is not.
    """
    if output.exists() and not output.is_dir():
        raise Problem(f"{output} is no folder.", "Name a new one.", Exit.USAGE)
    if output.is_dir() and any(output.iterdir()):
        raise Problem(f"{output} is not empty.", "Name a new folder: `git am` takes all that is in it.")


@contextmanager
def written(output: Path | None, files: Mapping[str, bytes]) -> Iterator[tuple[Path, ...]]:
    """
    Write files into a folder, for good if the ``with`` block ends well.

    :param output: the folder, new or empty; ``None`` to write none.
    :param files: ``{path in it: content}``.
    :return: a context manager that gives their paths.
    :raises Problem: when they cannot be written.
    """
    if output is None:
        yield ()
        return
    made = [folder for folder in (output, *output.parents) if not folder.exists()]
    paths = tuple(output / name for name in files)
    try:
        try:
            for path, content in zip(paths, files.values(), strict=True):
                made += [folder for folder in path.parents if not folder.exists() and folder not in made]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        except OSError as error:
            raise Problem(
                f"{output} cannot be written: {error}.", "Name another folder.", Exit.USAGE
            ) from error
        yield paths
    except BaseException:
        for path in paths:
            path.unlink(missing_ok=True)
        for folder in sorted(made, key=lambda each: len(each.parts), reverse=True):
            if folder.is_dir():
                folder.rmdir()
        raise


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
        if name not in slugs:
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
