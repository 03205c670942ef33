"""The size of each patch, compared with a budget: what a reviewer can read in one session."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from airflow_auth_patches.series.series import Patch

#: The maximum number of changed source lines, of message lines without trailers, and of test lines.
SOURCE, MESSAGE, TESTS = 60, 25, 250
#: The maximum number of changed source lines of a patch that adds configuration.
WITH_CONFIGURATION = 120
CONFIGURATION = "airflow-core/src/airflow/config_templates/config.yml"


@dataclass(frozen=True)
class Size:
    """
    The size of one form of a patch.

    :param source: the number of lines that it adds and removes.
    :param message: the number of lines of its message without trailers.
    :param tests: the number of lines of its tests.
    :param over: what is over budget, as in "90 of 60 changed lines".
    :param explained: whether a page in docs/bugs has a line with the slug and the word "budget".
    """

    patch: Patch
    source: int
    message: int
    tests: int
    over: tuple[str, ...]
    explained: bool


def size(root: Path, patch: Patch) -> Size:
    """Return the size of a patch."""
    lines = [line for edits in patch.edits.values() for hunk in edits for line in hunk.parsed.text]
    source = sum(line[:1] in b"+-" for line in lines)
    message = len(patch.body.rpartition("\n\n")[0].splitlines())
    files = [root / path for path in patch.tests]
    tests = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files if file.is_file())
    budgets = (
        (source, WITH_CONFIGURATION if CONFIGURATION in patch.edits else SOURCE, "changed lines"),
        (message, MESSAGE, "lines of message"),
        (tests, TESTS, "lines of tests"),
    )
    over = tuple(f"{count} of {most} {what}" for count, most, what in budgets if count > most)
    pages = [page.read_text(encoding="utf-8") for page in (root / "docs/bugs").glob("*.md")]
    explained = any(
        f"`{patch.slug}`" in line and "budget" in line for page in pages for line in page.splitlines()
    )
    return Size(patch, source, message, tests, over, explained)
