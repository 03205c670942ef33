"""Export patches as commits: choose and make them first, and only then write to a folder or a checkout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from airflow_auth_patches.contribute import backports, pull_request, upstream, worktree
from airflow_auth_patches.contribute import export as export_module
from airflow_auth_patches.releases.checkout import commit_of
from airflow_auth_patches.releases.releases import Release
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util.errors import Problem, UsageProblem
from airflow_auth_patches.util.processes import attempt
from airflow_auth_patches.util.progress import SILENT, Progress


@dataclass(frozen=True)
class Exported:
    """
    The result of an export.

    :param files: the files of the commits, in the order for `git am`, each followed by its body; for
        backports, in a folder for each branch.
    :param branch: the branch that was created.
    :param told: the hunks that moved and the files that were merged in the checkout.
    :param missing: ``{slug: reasons}`` of the patches that are not on the branch, because they do not apply.
    :param differences: ``{heading: git range-diff}`` of each older line with the newest one that has the
        patches.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...]
    branch: str | None = None
    told: tuple[str, ...] = ()
    missing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    differences: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """
    A checkout of Airflow in which to create a branch.

    :param branch: the name of the branch; ``None`` to name it for its patches.
    :param skip_conflicts: whether to create the branch without the patches that do not apply.
    """

    path: Path
    branch: str | None = None
    at: str = "HEAD"
    skip_conflicts: bool = False


def export(
    project: Project,
    release: Release,
    output: Path | None,
    names: Sequence[str] | None = None,
    *,
    author: str | None = None,
    number: int | None = None,
    bodies: bool = False,
    news: bool = True,
    target: Target | None = None,
    progress: Progress = SILENT,
) -> Exported:
    """
    Export patches of a release as commits for `git am`, or as a branch in a checkout, or both.

    :param output: the folder to write into, new or empty; ``None`` to write no files.
    :param names: exactly these patches; ``None`` for all that are for the release.
    :param author: the author, as ``Name <mail>``; by default git's user.
    :param number: the number of the pull request, for the names of the newsfragments.
    :param bodies: whether to write the body of a pull request for each commit, and the issue to file if its
        bug has none.
    :param news: whether to add the newsfragments.
    :param target: the checkout in which to create a branch; ``None`` for no branch.
    :raises Problem: if a patch is not for the release or does not apply to the checkout, or if the folder is
        not empty. Nothing is written then.
    """
    patches = chosen(project.series, release, names)
    author = known_author(author)
    if output is not None:
        usable(output)
    with ExitStack() as stack:
        branch, result = None, None
        if target is not None:
            start = commit_of(target.path, release, target.at)
            several = f"{release.distribution.folder}-{release.version}"
            named = f"auth-patches/{patches[0].slug if len(patches) == 1 else several}"
            branch = named if target.branch is None else target.branch
            worktree.check_name(target.path, branch)
        with progress.task(f"making {len(patches)} commits on {release}"):
            commits = export_module.commits(project, release, patches, author, number, news=news)
        files = {}
        for commit in commits:
            files[commit.name] = commit.content
            if bodies:
                labels = labels_of(project, release, commit.patch)
                text = pull_request.body(project, release, commit, labels)
                files[body_name(commit)] = text.encode()
                if issue := upstream.issue(project, commit.patch):
                    files[body_name(commit).removesuffix("md") + "issue.md"] = issue.encode()
        if target is not None:
            with progress.task(f"applying them to {target.path}"):
                in_worktree = worktree.applied(target.path, start, release, commits, files=False)
                result = stack.enter_context(in_worktree)
            if result.failed and (not target.skip_conflicts or len(result.failed) == len(commits)):
                raise worktree.refusal(target.path, result, len(commits))
        with written(output, files) as paths:
            if target is not None and branch is not None and result is not None:
                worktree.create_branch(target.path, branch, result.head)
    notes = tuple(export_module.notes(project, release, commits, number, news=news))
    if result is None:
        return Exported(paths, notes)
    return Exported(paths, notes, branch, result.notes, result.failed)


def body_name(commit: export_module.Commit) -> str:
    """Return the name of the file with the body of a commit's pull request."""
    return commit.name.removesuffix(".patch") + ".md"


def labels_of(project: Project, release: Release, patch: Patch) -> list[str]:
    """Return the labels for the pull request to main of a patch; empty if it does not go to main."""
    lines, forms = backports.lines(project.releases), project.series.forms(patch.slug)
    if release != lines[0].release or export_module.kind_of(project.series, patch) != "bugfix":
        return []
    served = [line for line in lines if any(form.serves(line.release) for form in forms)]
    return [line.label for line in served if line.label]


def known_author(author: str | None) -> str:
    """
    Return the author of the commits, as ``Name <mail>``.

    :param author: the given author; ``None`` for git's user.
    :raises Problem: if the author is not valid, or git has no user.
    """
    author = _user() if author is None else author
    if not export_module.AUTHOR.fullmatch(author):
        raise UsageProblem(f"{author!r} is not a valid author.", "Write it as 'Name <mail@example.org>'.")
    return author


def usable(output: Path) -> None:
    """
    Check that a folder is new or empty.

    :raises Problem: if it is not.
    """
    if output.exists() and not output.is_dir():
        raise UsageProblem(f"{output} is not a folder.", "Name a new folder.")
    if output.is_dir() and any(output.iterdir()):
        raise Problem(
            f"{output} is not empty.", "Name a new folder, because `git am` applies all files in it."
        )


@contextmanager
def written(output: Path | None, files: Mapping[str, bytes]) -> Iterator[tuple[Path, ...]]:
    """
    Write files into a folder, and remove them if the ``with`` block fails.

    :param output: the folder, new or empty; ``None`` to write no files.
    :param files: ``{path in the folder: content}``.
    :return: a context manager that gives the paths of the files.
    :raises Problem: if the files cannot be written.
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
            raise UsageProblem(f"{output} cannot be written: {error}.", "Name another folder.") from error
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
    Return the patches to export, in series order.

    :raises Problem: if there is none, or a named patch is not for the release.
    """
    serving = series.serving(release)
    all_slugs = ", ".join(patch.slug for patch in serving) or "none"
    if names is None:
        if not serving:
            raise Problem(f"No patch is for {release}.", "See `airflow-auth-patches list --releases`.")
        return serving
    picked = series.select(release, names)
    slugs = {patch.slug for patch in picked}
    for name in names:
        if name not in slugs:
            raise Problem(f"{name} is not for {release}.", f"The patches for it are: {all_slugs}.")
    return picked


def _user() -> str:
    """Return git's user, as ``Name <mail>``."""
    name, mail = (attempt(["git", "config", f"user.{key}"]).stdout.strip() for key in ("name", "email"))
    if not (name and mail):
        raise UsageProblem(
            "The author of the commits is unknown: git has no user name or email.",
            "Use --author 'Name <mail@example.org>', or set git's user.name and user.email.",
        )
    return f"{name} <{mail}>"
