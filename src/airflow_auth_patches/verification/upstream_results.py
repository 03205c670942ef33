"""Recorded results of upstream's tests, ``docs/results/upstream-tests.json``, and their Markdown table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.files import write_whole
from airflow_auth_patches.util.show import markdown_table
from airflow_auth_patches.verification.run_pytest import tally
from airflow_auth_patches.verification.upstream import Comparison

FILE = "docs/results/upstream-tests.json"
COLUMNS = ("passed", "failed", "skipped")


def record(path: Path, pair: str, commit: str | None, measured: date, found: Comparison) -> None:
    """
    Record a comparison. It replaces an older one of the same tests and releases.

    :param path: the file; it does not need to exist.
    :param pair: the releases, core first: ``3.3.2+3.10.2``.
    :param commit: the commit whose tests of core ran; ``None`` for the provider's tests.
    :raises Problem: when the file cannot be read or written.
    """
    tests = "provider" if commit is None else "core"
    rows = [
        row for row in (read(path) if path.exists() else ()) if (row["tests"], row["pair"]) != (tests, pair)
    ]
    rows.append(
        {
            "tests": tests,
            "pair": pair,
            "commit": commit,
            "measured": measured.isoformat(),
            "stock": tally(found.stock),
            "patched": tally(found.patched),
            "newly_failing": [*found.broken, *found.listed],
            "cured": list(found.cured),
        }
    )
    write_whole(path, json.dumps(sorted(rows, key=lambda row: (row["tests"], row["pair"])), indent=1) + "\n")


def read(path: Path) -> list[Mapping[str, Any]]:
    """
    Return the recorded comparisons.

    :raises Problem: when the file is missing or invalid.
    """
    try:
        rows: list[Mapping[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        for row in rows:
            row["tests"], row["pair"], row["commit"], row["stock"], row["patched"], row["newly_failing"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Problem(
            f"{path} is not a recorded result of upstream's tests: {error!r}.", "Restore it from git."
        ) from error
    return rows


def table(path: Path) -> str:
    """Return a Markdown table with a row per recorded comparison."""
    rows = []
    for row in read(path):
        tests = "provider's sdist" if row["commit"] is None else f"core, commit `{row['commit']}`"
        counts = (
            ", ".join(f"{row[build].get(word, 0)} {word}" for word in COLUMNS)
            for build in ("stock", "patched")
        )
        rows.append([tests, row["pair"], *counts, str(len(row["newly_failing"])), row["measured"]])
    return markdown_table(["tests", "releases", "stock", "patched", "newly failing", "day"], rows)
