"""The body of a pull request: what a patch's message says, what was measured, and what the sender adds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from airflow_auth_patches.contribute import export, measurements
from airflow_auth_patches.contribute.export import Commit
from airflow_auth_patches.demo import recorded
from airflow_auth_patches.releases.releases import CORE, Pins, Release
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.verification import expectations

#: Upstream's own heading, by which its hooks and readers know the block.
GENERATIVE = "##### Was generative AI tooling used to co-author this PR?"
#: A name in code: a decorator, which as it is would call whoever has that name there; a call; an underscore.
CODE = re.compile(
    r"(?<![\w@/.`])(?:@\w+|\.?(?:[A-Za-z_]\w*\.)*(?:[A-Za-z]\w*\(\)|\w*_\w+(?:\.\w+)*(?:\([\w.]*\))?))"
)
QUOTED = re.compile(r"(`[^`]*`)")


def body(
    root: Path,
    series: Series,
    pins: Pins,
    release: Release,
    commit: Commit,
    labels: Sequence[str] = (),
    origin: int | None = None,
    difference: str = "",
) -> str:
    """
    Write the body of a patch's pull request.

    :param root: the checkout of this project.
    :param release: what the commit was made on.
    :param labels: those to set on the pull request.
    :param origin: the pull request that this one is a backport of.
    :param difference: how it differs from that, as ``git range-diff`` prints it.
    :return: Markdown, one paragraph a line, as upstream's site breaks lines where the text does.
    :raises Problem: when its measurements or its expectations cannot be read.
    """
    patch = commit.patch
    parts = [_for_the_sender(commit, labels)]
    if origin is not None:
        parts.append(f"Backport of #{origin}.")
    if patch.cures:
        seen = [f"- {marked(_sentence(series.bugs[slug].sees))}" for slug in patch.cures]
        parts += ["### What a user sees", "\n".join(seen)]
    parts += ["### What changes, and why", marked(reflowed(export.linked(patch)))]
    parts += _others(series, pins, patch)
    parts += [
        "### Measurements",
        *_measured(root, series, pins, patch),
        expectations.summary(expectations.load(series.folder, patch.slug), patch),
    ]
    parts += ["### How to verify", *_verify(pins, release, commit)]
    if patch.trade_off:
        parts += ["### Trade-off", _sentence(patch.trade_off)]
    if difference:
        parts += ["### Difference from the original", f"```\n{difference.rstrip()}\n```"]
    if numbers := export.related_to(patch):
        parts.append("\n".join(f"related: #{number}" for number in numbers))
    parts += [
        "---",
        GENERATIVE,
        "- [ ] Yes (name the tool here)",
        "<!-- Tick the box and add a line `Generated-by: TOOL` if so; leave it as it is if not. -->",
    ]
    return "\n\n".join(parts) + "\n"


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
    """Return a text with the names of code in it marked as such; what is marked already stays so."""
    parts = QUOTED.split(text)
    return "".join(part if part.startswith("`") else CODE.sub(r"`\g<0>`", part) for part in parts)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _for_the_sender(commit: Commit, labels: Sequence[str]) -> str:
    title = commit.text.partition("\n")[0]
    lines = [f"Title ({len(title)} characters): {title}"]
    if labels:
        lines.append(f"Labels: {', '.join(labels)}")
    for told in commit.patch.trailers.get("Forwarded", ()):
        if told.startswith(export.NOT_NEEDED):
            lines.append(f"Not for main: {told.removeprefix(export.NOT_NEEDED)}.")
        elif told != "no":
            lines.append(f"Sent before: {told}")
    lines.append("Put `closes: #N` for `related: #N` where it does. Take this comment out.")
    return "<!--\n" + "\n".join(lines) + "\n-->"


def _others(series: Series, pins: Pins, patch: Patch) -> list[str]:
    """Name what this one stands on or belongs to, by its title: upstream knows no slugs."""
    said = []
    for slug in patch.requires:
        said.append(f'It builds on "{_forms(series, slug)[0].subject}".')
    for slug in patch.together_with:
        other, *_ = forms = _forms(series, slug)
        served = [each.version for each in pins.releases if any(form.serves(each) for form in forms)]
        said.append(
            f"With {other.distribution.name} {min(served)} to {max(served)} it can do harm without the other "
            f'half, "{other.subject}".'
        )
    return ["\n".join(f"- {line}" for line in said)] if said else []


def _forms(series: Series, slug: str) -> list[Patch]:
    return [patch for patch in series.patches if patch.slug == slug]


def _measured(root: Path, series: Series, pins: Pins, patch: Patch) -> list[str]:
    rows = measurements.of_patch(root, series, pins, patch.slug)
    if not rows:
        return []
    commands = dict.fromkeys(f"airflow-auth-patches demo --only {row['scenario']}" for row in rows)
    return [
        "Real API servers, booted from the released distributions. *Stock* is as released; *patched* has the "
        "whole series of fixes of the authentication path, of which this is one. Releases are written "
        "core+provider.",
        marked(recorded.table(rows)),
        "What each scenario does:",
        marked(recorded.abouts(rows)),
        "To repeat it in a checkout of airflow-auth-patches, after `make setup`:",
        "```\n" + "\n".join(commands) + "\n```",
    ]


def breeze(pins: Pins, release: Release) -> list[str]:
    """
    Return the command that starts Airflow with a change in Breeze.

    With a released core Breeze mounts the providers alone: a change of core is loaded only with ``selected``.

    :param release: what is changed.
    """
    command = ["breeze", "start-airflow", "--mount-sources"]
    if release.distribution is CORE:
        command.append("selected")
    else:
        # The first pair has the core of its days.
        core = next((pair.core for pair in pins.pairs if pair.fab == release), None)
        core = core or max(
            (each for each in pins.releases if each.distribution is CORE), key=lambda r: r.version
        )
        command += ["providers-and-tests", "--use-airflow-version", str(core.version)]
    return [*command, "--auth-manager", "FabAuthManager", "--backend", "postgres"]


def _verify(pins: Pins, release: Release, commit: Commit) -> list[str]:
    return [
        "On this branch; the API server is then at http://localhost:28080:",
        f"```\n{' '.join(breeze(pins, release))}\n```",
        "The unit tests, inside Breeze:",
        f"```\npytest {' '.join(commit.patch.tests)}\n```",
    ]
