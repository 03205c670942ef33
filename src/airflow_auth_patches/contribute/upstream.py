"""What a sender of pull requests must know in addition to the patches: ``upstream.toml``, and their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from airflow_auth_patches.releases.releases import CORE, DISTRIBUTIONS, Distribution, Pins, Release
from airflow_auth_patches.series import probes
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Patch
from airflow_auth_patches.util import toml
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.show import markdown_table

FILE = "upstream.toml"
ISSUES = "docs/upstream-issues.md"
#: The number of pull requests that a contributor without write access may have open.
OPEN = 5


@dataclass(frozen=True)
class Question:
    """
    A question that reviewers are likely to ask about some patches.

    :param patches: the slugs.
    """

    ask: str
    answer: str
    patches: tuple[str, ...]


@dataclass(frozen=True)
class Upstream:
    """
    The content of ``upstream.toml``.

    :param discuss: ``{slug: why to discuss it before the pull request}``.
    :param security: ``{slug: why it goes through the security process}``.
    :param issues: ``{heading of the issue to file: slugs of its bugs}``.
    """

    discuss: Mapping[str, str]
    security: Mapping[str, str]
    questions: Sequence[Question]
    issues: Mapping[str, Sequence[str]]


def load(folder: Path) -> Upstream:
    """
    Read ``upstream.toml``.

    :raises Problem: if the file is missing or broken.
    """
    with toml.opened(folder / FILE) as raw:
        asked = [Question(each["ask"], each["answer"], tuple(each["patches"])) for each in raw["question"]]
        return Upstream(raw["discuss"], raw["security"], asked, raw["issues"])


def issue(project: Project, patch: Patch) -> str | None:
    """
    Return the text of the issue to file for a patch, or ``None`` if its bug has an issue.

    :raises Problem: if the text is missing.
    """
    bugs = {*patch.cures, *(bug.slug for bug in project.series.bugs.values() if patch.slug in bug.needs)}
    headings = [name for name, about in load(project.series.folder).issues.items() if bugs & set(about)]
    if not headings:
        return None
    intro, *sections = (project.root / ISSUES).read_text(encoding="utf-8").split("\n## ")
    found = {heading: text for heading, _, text in (each.partition("\n") for each in sections)}
    if missing := [name for name in headings if name not in found]:
        raise Problem(f"{ISSUES} has no section {missing[0]!r}.", f"Write it, or correct {FILE}.")
    setting = intro.partition("\n\n")[2].strip()
    return "\n".join(f"# {name}\n{found[name].rstrip()}\n\n{setting}\n" for name in headings)


def newest(pins: Pins, distribution: Distribution) -> Release:
    """Return the newest pinned release of a distribution, which stands for upstream's main."""
    return max((r for r in pins.releases if r.distribution is distribution), key=lambda r: r.version)


def next_version(release: Release, *, main: bool) -> Version:
    """
    Return the next release of a line, for the ``version_added`` of a new option.

    :param release: the newest pinned release of the line.
    :param main: whether the line is main, whose next release is the next minor version.
    """
    major, minor, micro = release.version.release
    if release.version.is_prerelease:
        return Version(release.version.base_version)
    return Version(f"{major}.{minor + 1}.0" if main else f"{major}.{minor}.{micro + 1}")


@dataclass(frozen=True)
class Sending:
    """
    A pull request to send to main.

    :param patch: the newest form of the patch.
    :param after: the slugs of the patches that must be merged before.
    :param batch: the pull requests of a batch are open at the same time; ``None`` for the security process.
    """

    patch: Patch
    after: Sequence[str]
    batch: int | None


def order(project: Project) -> list[Sending]:
    """
    Return the patches to send to main, in the order of sending, `OPEN` at a time.

    Patches come after those that they need. Otherwise those that need no discussion come first.
    """
    known, bugs = load(project.series.folder), project.series.bugs
    to_send = {
        patch.slug: patch
        for distribution in DISTRIBUTIONS
        for patch in project.series.serving(newest(project.releases, distribution))
        if probes.required(patch)
    }
    after = {
        slug: [
            each
            for each in (*patch.requires, *(need for bug in patch.cures for need in bugs[bug].needs))
            if each in to_send
        ]
        for slug, patch in to_send.items()
    }

    def late(slug: str) -> bool:
        return slug in known.discuss or any(map(late, after[slug]))

    batches: dict[str, int] = {}
    for slug in sorted(to_send, key=late):
        if slug not in known.security:
            batch = 1 + max((batches[each] for each in after[slug]), default=0)
            while Counter(batches.values())[batch] == OPEN:
                batch += 1
            batches[slug] = batch
    sendings = [Sending(to_send[slug], after[slug], batch) for slug, batch in batches.items()]
    sendings.sort(key=lambda each: each.batch or 0)
    return [*sendings, *(Sending(to_send[slug], after[slug], None) for slug in known.security)]


def table(project: Project) -> str:
    """Return the order of sending as a Markdown table."""
    known = load(project.series.folder)
    rows = [
        (
            "security process" if each.batch is None else str(each.batch),
            f"`{each.patch.slug}`",
            "core" if each.patch.distribution is CORE else "fab",
            ", ".join(f"`{slug}`" for slug in each.after) or "-",
            known.security.get(each.patch.slug) or known.discuss.get(each.patch.slug, "-"),
        )
        for each in order(project)
    ]
    return markdown_table(("batch", "patch", "distribution", "after", "discuss first"), rows)
