"""Make a commit for `git am` from each patch of a release, with a message in upstream's format."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from airflow_auth_patches.contribute import upstream
from airflow_auth_patches.releases.fetching import sources
from airflow_auth_patches.releases.releases import CORE, Release
from airflow_auth_patches.series import series, tree
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util import toml
from airflow_auth_patches.util.errors import Problem, UsageProblem

NEWS = f"{CORE.root}/newsfragments"
#: The start of `Forwarded` if upstream's main does not need the patch.
NOT_NEEDED = "not-needed: "
#: Upstream's titles are shorter than this, without the prefix of a backport.
LONGEST = 70
#: A name, and an address in angle brackets.
AUTHOR = re.compile(r"[^<>\s][^<>\r\n]* <[^<>@\s]+@[^<>@\s]+>")
UPSTREAM = re.compile(r"https://github\.com/apache/airflow/(?:issues|pull)/(\d+)$")
#: A line that adds an option to the configuration.
VERSION_ADDED = re.compile(rb"(?m)^(\+ +version_added: )\S+$")
#: The number of an issue or a pull request in a message of this series, which has no `#`.
NUMBER = re.compile(r"(?<![\w#/.,-])\d{5}(?![\w-]|[.,]\d)")


@dataclass(frozen=True)
class Commit:
    """
    A patch as a commit for upstream.

    :param name: the name of the file. The order of the names is the order in which the commits apply.
    :param content: the file, as `git format-patch` writes it.
    :param author: the author, as ``Name <mail>``.
    :param added: ``{monorepo path: content}`` of the files that the commit adds to the patch.
    """

    patch: Patch
    name: str
    content: bytes
    text: str
    author: str
    added: Mapping[str, bytes]


def title(patch: Patch, branch: str | None = None, number: int | None = None) -> str:
    """
    Return the title of a patch's commit and pull request.

    :param branch: for a backport, the target branch, as in ``v3-2-test``.
    :param number: for a backport, the number of the original pull request.
    """
    if branch is None:
        return patch.subject
    return f"[{branch}] {patch.subject}" + (f" (#{number})" if number is not None else "")


def message(patch: Patch, heading: str | None = None) -> str:
    """
    Return the commit message of a patch in upstream's format.

    Lines ``related: #N`` replace the trailers of this series. The sender decides whether the patch also
    closes an issue.

    :param heading: the first line; by default the subject of the patch.
    """
    related = "".join(f"related: #{number}\n" for number in related_to(patch))
    return "\n\n".join(part for part in (heading or patch.subject, linked(patch), related) if part)


def linked(patch: Patch) -> str:
    """Return the body of a patch's message without trailers, with a ``#`` before each issue number."""
    return NUMBER.sub(r"#\g<0>", patch.body.rpartition("\n\n")[0])


def related_to(patch: Patch) -> list[str]:
    """Return the numbers of the issues and pull requests upstream that a patch is related to."""
    links = [*patch.trailers.get("Bug", ()), *patch.trailers.get("Forwarded", ())]
    return list(dict.fromkeys(match[1] for link in links if (match := UPSTREAM.match(link))))


def news_lines(folder: Path) -> dict[str, str]:
    """
    Read ``news.toml``.

    :return: ``{slug: file name in airflow-core/newsfragments}``.
    :raises Problem: if the file is missing or broken.
    """
    path = folder / "news.toml"
    with toml.opened(path) as raw:
        return {slug: str(name) for slug, name in raw.items()}


def kind_of(loaded: Series, patch: Patch) -> str | None:
    """Return the kind of a patch's newsfragment, as in ``bugfix``, or ``None`` if it has none."""
    news = news_lines(loaded.folder).get(patch.slug)
    return news.split(".")[1] if news else None


def files_of(project: Project, patch: Patch, number: int | None, *, news: bool = True) -> dict[str, bytes]:
    """
    Return the files that a commit adds to a patch: its tests, and its newsfragment if it has one.

    :param number: the number of the pull request, for the name of the newsfragment.
    :param news: whether to add the newsfragment.
    :return: ``{monorepo path: content}``.
    :raises Problem: if a file does not exist, or the commit would change both core and the provider.
    """
    here = {path: path for path in patch.tests}
    if news and (line := news_lines(project.series.folder).get(patch.slug)):
        _, kind, *_ = line.split(".")
        here[f"{NEWS}/{line if number is None else f'{number}.{kind}.rst'}"] = f"{NEWS}/{line}"
    for path in (*patch.edits, *here):
        if not path.startswith((f"{patch.distribution.root}/", "shared/")):
            raise Problem(
                f"{patch.name} has {path}, which does not belong to {patch.distribution.name}.",
                "Upstream needs separate pull requests for core and provider: split the patch.",
            )
    try:
        return {path: (project.root / file).read_bytes() for path, file in here.items()}
    except OSError as error:
        raise Problem(
            f"A file of {patch.name} cannot be read: {error}.", "Restore it from the repository."
        ) from error


def for_version(patch: Patch, version: Version) -> Patch:
    """Return a patch whose new options are there since a version, the next release of the target branch."""
    content = VERSION_ADDED.sub(rb"\g<1>%s" % str(version).encode(), patch.content)
    return series.patch_of(patch.path, patch.distribution, content)


def commits(
    project: Project,
    release: Release,
    patches: Sequence[Patch],
    author: str,
    number: int | None = None,
    branch: str | None = None,
    *,
    news: bool = True,
) -> list[Commit]:
    """
    Return the commits of some patches on a release.

    :param author: the author, as ``Name <mail>``.
    :param number: the number of the pull request, for the names of the newsfragments.
    :param branch: for backports, the target branch, which becomes a part of the titles.
    :param news: whether to add the newsfragments.
    :raises Problem: if a patch requires another that is not exported, or two patches have the same
        newsfragment.
    """
    files = sources(release)
    made: list[Commit] = []
    brought: dict[str, Patch] = {}
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as folder:
        work = tree.Tree(Path(folder), release)
        edited = {path for patch in patches for path in patch.edits if path in files}
        tree.write_files(work.folder, {path: files[path] for path in edited})
        work.git("init", "--quiet", "--initial-branch=main")
        work.commit(f"{release} as released\n")
        main = branch is None and release == upstream.newest(project.releases, release.distribution)
        version = upstream.next_version(release, main=main)
        for order, patch in enumerate((for_version(each, version) for each in patches), 1):
            if missing := set(patch.requires) - {earlier.slug for earlier in patches[: order - 1]}:
                raise Problem(
                    f"{patch.name} requires {', '.join(sorted(missing))}, which is not exported.",
                    f"Add {' '.join(f'--patch {slug}' for slug in sorted(missing))}.",
                )
            added = files_of(project, patch, number, news=news)
            if twice := brought.keys() & added.keys():
                path = min(twice)
                raise UsageProblem(
                    f"{patch.name} and {brought[path].name} would both add {path}.",
                    "A pull request has one newsfragment of each kind: export each patch separately.",
                )
            brought.update(dict.fromkeys(added, patch))
            tree.edit(work, patch)
            tree.write_files(work.folder, added)
            text = message(patch, title(patch, branch, number))
            work.commit(text, patch.date, author)
            content = tree.format_commit(work, "HEAD", {})
            made.append(Commit(patch, f"{order:04}-{patch.slug}.patch", content, text, author, added))
    return made


def notes(
    project: Project, release: Release, sent: Sequence[Commit], number: int | None, *, news: bool = True
) -> list[str]:
    """
    Return notes for the sender, one or two sentences each.

    :param number: the number of the pull request, if it is known.
    :param news: whether the commits have newsfragments.
    """
    said = []
    newest = upstream.newest(project.releases, release.distribution).version
    if release.distribution is not CORE and release.version < newest:
        said.append(
            f"Providers are released only from main, and {release} is older than {newest}. "
            "Do not open a pull request with these commits; they are for operators."
        )
    lines = news_lines(project.series.folder) if news else {}
    if unnumbered := [commit.patch.slug for commit in sent if commit.patch.slug in lines and number is None]:
        said.append(
            f"The newsfragments of {', '.join(unnumbered)} are named for issues. "
            "When the pull request exists, export its patch again with --patch and --pr."
        )
    if release.distribution is not CORE and number is not None:
        said.append("Providers have no newsfragments, so --pr changes nothing.")
    said += [
        f"{commit.patch.slug} co-requires {other} of the other distribution: mention it in the pull request."
        for commit in sent
        for other in commit.patch.together_with
    ]
    said += [f"{slug} is not for main: {why}." for slug, why in _not_needed(sent).items()]
    said += [
        f"The title of {commit.patch.slug} has {len(commit.patch.subject)} characters. "
        f"Upstream allows fewer than {LONGEST}."
        for commit in sent
        if len(commit.patch.subject) >= LONGEST
    ]
    slugs = dict.fromkeys(patch.slug for patch in project.series.patches)
    for commit in sent:
        text = message(commit.patch)
        if named := [slug for slug in slugs if re.search(rf"(?<![\w-]){slug}(?![\w-])", text)]:
            said.append(
                f"The message of {commit.patch.slug} mentions {', '.join(named)}, "
                "which upstream does not know. Reword it."
            )
    return said


def _not_needed(sent: Sequence[Commit]) -> Mapping[str, str]:
    told = {commit.patch.slug: " ".join(commit.patch.trailers.get("Forwarded", ())) for commit in sent}
    return {slug: said.removeprefix(NOT_NEEDED) for slug, said in told.items() if said.startswith(NOT_NEEDED)}
