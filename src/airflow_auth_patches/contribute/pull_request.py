"""Write the body of a pull request from a patch's message, the measurements and the unit tests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from packaging.version import Version

from airflow_auth_patches.contribute import export, upstream
from airflow_auth_patches.contribute.export import Commit
from airflow_auth_patches.contribute.upstream import Upstream
from airflow_auth_patches.demo import recorded
from airflow_auth_patches.releases.releases import CORE, Pins, Release
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Patch
from airflow_auth_patches.util import toml
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.verification import expectations

#: This section in upstream's template, for the sender to fill in.
GENERATIVE = """\
##### Was generative AI tooling used to co-author this PR?

- [ ] Yes (please specify the tool below)

<!-- If yes, tick the box, and fill in and uncomment this line:
Generated-by: <tool> following [the guidelines](https://github.com/apache/airflow/blob/main/contributing-docs/05_pull_requests.rst#gen-ai-assisted-contributions)
-->"""
#: Reviewers read no more words than this. Comments do not count.
MOST_WORDS = 400
#: A name in code: a decorator (which would otherwise mention a GitHub user), a call, a name with underscores.
CODE = re.compile(
    r"(?<![\w@/.`])(?:@\w+|\.?(?:[A-Za-z_]\w*\.)*(?:[A-Za-z]\w*\(\)|\w*_\w+(?:\.\w+)*(?:\([\w.]*\))?))"
)
SCENARIOS = "scenarios.toml"
QUOTED = re.compile(r"(`[^`]*`)")


def body(
    project: Project,
    release: Release,
    commit: Commit,
    labels: Sequence[str] = (),
    origin: int | None = None,
    difference: str = "",
) -> str:
    """
    Return the body of a patch's pull request.

    :param release: the release on which the commit was made.
    :param origin: for a backport, the number of the original pull request.
    :param difference: for a backport, the difference from the original, as ``git range-diff`` prints it.
    :return: Markdown with one line for each paragraph, because GitHub keeps the line breaks of a body.
    :raises Problem: if the measurements or the expectations of the patch cannot be read.
    """
    patch = commit.patch
    known = upstream.load(project.series.folder)
    parts = [_for_the_sender(commit, labels, known)]
    if origin is not None:
        parts.append(f"Backport of #{origin}.")
    if patch.cures:
        seen = [f"- {marked(_sentence(project.series.bugs[slug].sees))}" for slug in patch.cures]
        parts += ["### What a user sees", "\n".join(seen)]
    parts += ["### What changes, and why", marked(reflowed(export.linked(patch)))]
    parts += _others(project, release, patch)
    parts += ["### Measurements", *_measured(project, patch), _tested(project, patch)]
    parts += ["### How to verify", *_verify(project.releases, release, commit)]
    if patch.trade_off:
        parts += ["### Trade-off", _sentence(patch.trade_off)]
    if questions := [each for each in known.questions if patch.slug in each.patches]:
        parts += ["### Questions", "\n".join(f"- *{each.ask}* {each.answer}" for each in questions)]
    if difference:
        parts += ["### Difference from the original", f"```\n{difference.rstrip()}\n```"]
    if numbers := export.related_to(patch):
        parts.append("\n".join(f"related: #{number}" for number in numbers))
    parts += ["---", GENERATIVE]
    return "\n\n".join(parts) + "\n"


def words(text: str) -> int:
    """Return the number of words of a body, without comments and a difference between branches."""
    said = re.sub(r"<!--.*?-->|### Difference from the original\n\n```.*?```", "", text, flags=re.DOTALL)
    return len(re.findall(r"\S*\w\S*", said))


def reflowed(text: str) -> str:
    """Return paragraphs and lists with one line for each paragraph and each item."""
    paragraphs = []
    for paragraph in text.split("\n\n"):
        lines: list[str] = []
        for line in paragraph.splitlines():
            if lines and not line.startswith("- "):
                lines[-1] += f" {line.strip()}"
            else:
                lines.append(line)
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs)


def marked(text: str) -> str:
    """Return a text with backticks around the names of code that do not have them."""
    parts = QUOTED.split(text)
    return "".join(part if part.startswith("`") else CODE.sub(r"`\g<0>`", part) for part in parts)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _for_the_sender(commit: Commit, labels: Sequence[str], known: Upstream) -> str:
    slug, title = commit.patch.slug, commit.text.partition("\n")[0]
    lines = [f"Title ({len(title)} characters): {title}"]
    if labels:
        lines.append(f"Labels: {', '.join(labels)}")
    for told in commit.patch.trailers.get("Forwarded", ()):
        if told.startswith(export.NOT_NEEDED):
            lines.append(f"Not for main: {told.removeprefix(export.NOT_NEEDED)}.")
        elif told != "no":
            lines.append(f"Sent before: {told}")
    if slug in known.security:
        lines.append(
            f"Not a public pull request, but a matter for the security process: {known.security[slug]}"
        )
    if slug in known.discuss:
        lines.append(f"Discuss it first: {known.discuss[slug]}")
    lines.append("If it closes an issue, replace `related: #N` by `closes: #N`. Remove this comment.")
    return "<!--\n" + "\n".join(lines) + "\n-->"


def _others(project: Project, release: Release, patch: Patch) -> list[str]:
    """Return the required and co-required patches by title, because upstream does not know the slugs."""
    said = []
    for slug in patch.requires:
        said.append(f'It builds on "{project.series.forms(slug)[0].subject}".')
    for slug in patch.together_with:
        other, served = project.series.forms(slug)[0], [each.version for each in project.served(slug)]
        pins = project.releases
        if release == upstream.newest(pins, patch.distribution) and not any(
            form.serves(upstream.newest(pins, other.distribution)) for form in project.series.forms(slug)
        ):
            continue  # main needs no such patch
        said.append(
            f"With {other.distribution.name} {min(served)} to {max(served)} it also requires "
            f'"{other.subject}": alone, it can break requests.'
        )
    return ["\n".join(f"- {line}" for line in said)] if said else []


def scenarios(folder: Path) -> dict[str, tuple[str, ...]]:
    """
    Read ``scenarios.toml``.

    :return: ``{slug: scenarios of demo}``, the scenarios that show the effect of each patch.
    :raises Problem: if the file is missing or broken.
    """
    with toml.opened(folder / SCENARIOS) as raw:
        return {slug: tuple(name.strip() for name in names) for slug, names in raw.items()}


def measured(project: Project, slug: str) -> list[recorded.Result]:
    """
    Return the recorded results of a patch, on the releases that it is for.

    :return: the results, in the order of the demonstration; empty if no scenario shows the patch.
    :raises Problem: if a file cannot be read, or a scenario has no recorded result.
    """
    names = scenarios(project.series.folder).get(slug, ())
    if not names:
        return []
    served = {str(each.version) for each in project.served(slug)}
    column = "core" if project.series.forms(slug)[0].distribution is CORE else "fab"
    found = recorded.read(project.root / recorded.FILE)
    rows = [row for row in found if row["scenario"] in names and row[column] in served]
    if missing := [name for name in names if name not in {row["scenario"] for row in rows}]:
        raise Problem(
            f"{recorded.FILE} has no result of {', '.join(missing)} on a release that {slug} is for.",
            f"Run `airflow-auth-patches demo --only {missing[0]} --record {recorded.FILE}`.",
        )
    return rows


def _measured(project: Project, patch: Patch) -> list[str]:
    """Return the result of the first scenario of a patch, on the newest releases."""
    rows = measured(project, patch.slug)
    if not rows:
        return []
    first = scenarios(project.series.folder)[patch.slug][0]
    row = max(
        (each for each in rows if each["scenario"] == first),
        key=lambda each: (Version(each["core"]), Version(each["fab"])),
    )
    day = date.fromisoformat(row["measured"])
    # The first statement is the decisive one. The pages of the bugs have them all.
    stock, patched = (row[build]["sees"].partition("; ")[0] for build in ("stock", "patched"))
    return [
        f"`{first}` of airflow-auth-patches, {row['core']}+{row['fab']}, {day.day} {day:%B %Y}:",
        f"- before: {marked(stock)}\n- after, with all fixes of the series: {marked(patched)}",
    ]


def _tested(project: Project, patch: Patch) -> str:
    """Return a sentence that counts a patch's tests and mutants."""
    expected = expectations.load(project.series.folder, patch.slug)
    failing, mutants = len(expected.fails_on_stock), len(expected.mutants_of(patch))
    text = f"Unit tests that fail without this change: {failing}."
    return text + (f" Guards removed in turn, each failing a test: {mutants}." if mutants else "")


def breeze(pins: Pins, release: Release) -> list[str]:
    """
    Return the command that starts Airflow in Breeze with a change.

    With a released core, Breeze mounts only the providers. A change of core is loaded only with ``selected``.

    :param release: the release of the changed distribution.
    """
    command = ["breeze", "start-airflow", "--mount-sources"]
    if release.distribution is CORE:
        command.append("selected")
    else:
        # The first pair has the core of the same time.
        core = next((pair.core for pair in pins.pairs if pair.fab == release), None)
        core = core or max(
            (each for each in pins.releases if each.distribution is CORE), key=lambda r: r.version
        )
        command += ["providers-and-tests", "--use-airflow-version", str(core.version)]
    return [*command, "--auth-manager", "FabAuthManager", "--backend", "postgres"]


def _verify(pins: Pins, release: Release, commit: Commit) -> list[str]:
    return [
        f"```\n{' '.join(breeze(pins, release))}\npytest {' '.join(commit.patch.tests)}\n```",
    ]
