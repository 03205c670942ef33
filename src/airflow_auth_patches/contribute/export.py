"""Ready to send: each patch of a release as one commit that `git am` takes, worded as upstream words it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_auth_patches.releases.fetching import sources
from airflow_auth_patches.releases.releases import CORE, Pins, Release
from airflow_auth_patches.series import tree
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util import toml
from airflow_auth_patches.util.errors import Exit, Problem

NEWS = f"{CORE.root}/newsfragments"
#: How `Forwarded` begins where upstream's main needs no such patch.
NOT_NEEDED = "not-needed: "
#: A title upstream has fewer characters, the prefix of a backport aside.
LONGEST = 70
#: A name, and an address in angle brackets.
AUTHOR = re.compile(r"[^<>\s][^<>\r\n]* <[^<>@\s]+@[^<>@\s]+>")
UPSTREAM = re.compile(r"https://github\.com/apache/airflow/(?:issues|pull)/(\d+)$")
#: An issue or a pull request in a message of this series, which names it by its bare number.
NUMBER = re.compile(r"(?<![\w#/.,-])\d{5}(?![\w-]|[.,]\d)")


@dataclass(frozen=True)
class Commit:
    """
    A patch, ready to send.

    :param name: the name of the file; in the order of the names they apply.
    :param content: the file, as `git format-patch` writes it.
    :param text: the message.
    :param author: who sends it, as ``Name <mail>``.
    :param added: the files that it brings along: ``{monorepo path: content}``.
    """

    patch: Patch
    name: str
    content: bytes
    text: str
    author: str
    added: Mapping[str, bytes]


def title(patch: Patch, branch: str | None = None, number: int | None = None) -> str:
    """
    Return the first line of a patch's message, and of its pull request.

    :param branch: the branch that it is a backport to, as in ``v3-2-test``.
    :param number: the pull request that it is a backport of.
    """
    if branch is None:
        return patch.subject
    return f"[{branch}] {patch.subject}" + (f" (#{number})" if number is not None else "")


def message(patch: Patch, heading: str | None = None) -> str:
    """
    Return the message of a patch as upstream writes it.

    :param heading: its first line, by default the subject of the patch.

    The trailers of this series stay here; in their place stands what the patch is related to. Whether it
    also closes that is for the sender to say.
    """
    related = "".join(f"related: #{number}\n" for number in related_to(patch))
    return "\n\n".join(part for part in (heading or patch.subject, linked(patch), related) if part)


def linked(patch: Patch) -> str:
    """Return the body of a patch's message without trailers, the issues in it as upstream links them."""
    return NUMBER.sub(r"#\g<0>", patch.body.rpartition("\n\n")[0])


def related_to(patch: Patch) -> list[str]:
    """Return the numbers of the issues and pull requests upstream that a patch is related to."""
    links = [*patch.trailers.get("Bug", ()), *patch.trailers.get("Forwarded", ())]
    return list(dict.fromkeys(match[1] for link in links if (match := UPSTREAM.match(link))))


def news_lines(folder: Path) -> dict[str, str]:
    """
    Read ``news.toml``.

    :param folder: the folder of the series.
    :return: ``{slug: file name in airflow-core/newsfragments}``.
    :raises Problem: when it is missing or broken.
    """
    path = folder / "news.toml"
    with toml.opened(path) as raw:
        return {slug: str(name) for slug, name in raw.items()}


def kind_of(series: Series, patch: Patch) -> str | None:
    """Return the kind of a patch's news line, as in ``bugfix``, or ``None`` where it has none."""
    news = news_lines(series.folder).get(patch.slug)
    return news.split(".")[1] if news else None


def files_of(root: Path, series: Series, patch: Patch, number: int | None) -> dict[str, bytes]:
    """
    Return the files that a patch brings along: its tests, and its news line if it has one.

    :param root: the checkout of this project.
    :param number: the pull request that the news line is named for.
    :return: ``{monorepo path: content}``.
    :raises Problem: when one does not exist, or the commit would be of core and of the provider.
    """
    here = {path: path for path in patch.tests}
    if news := news_lines(series.folder).get(patch.slug):
        _, kind, *_ = news.split(".")
        here[f"{NEWS}/{news if number is None else f'{number}.{kind}.rst'}"] = f"{NEWS}/{news}"
    for path in (*patch.edits, *here):
        if not path.startswith((f"{patch.distribution.root}/", "shared/")):
            raise Problem(
                f"{patch.name} has {path}, which is not of {patch.distribution.name}.",
                "Upstream takes core and provider in two pull requests: make it two patches.",
            )
    try:
        return {path: (root / file).read_bytes() for path, file in here.items()}
    except OSError as error:
        raise Problem(
            f"A file of {patch.name} cannot be read: {error}.", "Restore it from the repository."
        ) from error


def commits(
    root: Path,
    series: Series,
    release: Release,
    patches: Sequence[Patch],
    author: str,
    number: int | None = None,
    branch: str | None = None,
) -> list[Commit]:
    """
    Make the commits of some patches on a release.

    :param root: the checkout of this project.
    :param patches: in series order.
    :param author: who sends them, as ``Name <mail>``.
    :param number: the pull request that their news lines are named for.
    :param branch: the branch that they are backports to; their titles say so.
    :raises Problem: when one does not apply without another, or two have the same news line.
    """
    files = sources(release)
    made: list[Commit] = []
    brought: dict[str, Patch] = {}
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as folder:
        laid = tree.Tree(Path(folder), release)
        edited = {path for patch in patches for path in patch.edits if path in files}
        tree.write_files(laid.folder, {path: files[path] for path in edited})
        laid.git("init", "--quiet", "--initial-branch=main")
        laid.commit(f"{release} as released\n")
        for order, patch in enumerate(patches, 1):
            if missing := set(patch.requires) - {earlier.slug for earlier in patches[: order - 1]}:
                raise Problem(
                    f"{patch.name} builds on {', '.join(sorted(missing))}, which is not exported.",
                    "Name it too.",
                )
            added = files_of(root, series, patch, number)
            if twice := brought.keys() & added.keys():
                path = min(twice)
                raise Problem(
                    f"{patch.name} and {brought[path].name} would both add {path}.",
                    "A pull request has one news line of a kind: export each patch for its own.",
                    Exit.USAGE,
                )
            brought.update(dict.fromkeys(added, patch))
            tree.edit(laid, patch)
            tree.write_files(laid.folder, added)
            text = message(patch, title(patch, branch, number))
            laid.commit(text, patch.date, author)
            content = tree.format_commit(laid, "HEAD", {})
            made.append(Commit(patch, f"{order:04}-{patch.slug}.patch", content, text, author, added))
    return made


def notes(
    series: Series, pins: Pins, release: Release, sent: Sequence[Commit], number: int | None
) -> list[str]:
    """
    Return what the sender must know before sending, a sentence or two each.

    :param number: the pull request that the news lines are named for.
    """
    said = []
    newest = max(r.version for r in pins.releases if r.distribution is release.distribution)
    if release.distribution is not CORE and release.version < newest:
        said.append(
            f"Providers are released from main only, and {release} is behind {newest}: "
            "these commits are for operators, and no pull request."
        )
    lines = news_lines(series.folder)
    if unnumbered := [commit.patch.slug for commit in sent if commit.patch.slug in lines and number is None]:
        said.append(
            f"The news lines of {', '.join(unnumbered)} have the numbers of issues. "
            "When there is a pull request, export its patch again with --patch and --pr."
        )
    if release.distribution is not CORE and number is not None:
        said.append("Providers have no news lines, so --pr changes nothing.")
    said += [
        f"{commit.patch.slug} can do harm without {other} of the other distribution: say so when you send it."
        for commit in sent
        for other in commit.patch.together_with
    ]
    said += [f"{slug} is not for main: {why}." for slug, why in _not_needed(sent).items()]
    said += [
        f"The title of {commit.patch.slug} has {len(commit.patch.subject)} characters; "
        f"upstream takes fewer than {LONGEST}."
        for commit in sent
        if len(commit.patch.subject) >= LONGEST
    ]
    slugs = dict.fromkeys(patch.slug for patch in series.patches)
    for commit in sent:
        text = message(commit.patch)
        if named := [slug for slug in slugs if re.search(rf"(?<![\w-]){slug}(?![\w-])", text)]:
            said.append(
                f"The message of {commit.patch.slug} names {', '.join(named)}, "
                "which upstream does not know: word it anew."
            )
    return said


def _not_needed(sent: Sequence[Commit]) -> Mapping[str, str]:
    told = {commit.patch.slug: " ".join(commit.patch.trailers.get("Forwarded", ())) for commit in sent}
    return {slug: said.removeprefix(NOT_NEEDED) for slug, said in told.items() if said.startswith(NOT_NEEDED)}
