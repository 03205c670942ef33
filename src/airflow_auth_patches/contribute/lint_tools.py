"""Run ruff and mypy with upstream's configuration on files of a folder that has the monorepo's layout."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_auth_patches.util.errors import Exit, Fault, Problem
from airflow_auth_patches.util.processes import attempt, program, run

#: Upstream's configuration, as far as it concerns the series.
RUFF = Path(__file__).with_name("upstream-ruff.toml")
MYPY = Path(__file__).with_name("upstream-mypy.ini")
LICENCE = b"# Licensed to the Apache Software Foundation (ASF) under one\n"
INSTALL = "Install the development tools: `make setup`."
FORMAT = f"Run `ruff format --config {RUFF}`; for a patch, in its tree."

#: The oldest Python on which the added files run: that of the oldest releases.
OLDEST = "3.10"


@dataclass(frozen=True)
class Finding(Fault):
    """
    A fault that upstream would not accept.

    :param path: the file: below the folder that is checked, or a file of this project.
    :param what: one sentence, for a patch with the file and line of the patched release.
    :param rule: the rule of ruff or mypy, or a rule of this project.
    """

    rule: str
    remedy: str
    text: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.what} {self.remedy}"


def ruff(folder: Path, files: Sequence[str], oldest: str = OLDEST) -> list[Finding]:
    """
    Return what ruff finds in files, the places that it would reformat, and files without licence header.

    :param files: the monorepo paths of the files.
    :param oldest: the oldest Python on which the files run, as in ``3.11``.
    :raises Problem: if ruff is missing or fails.
    """
    if not files:
        return []
    options = ["--no-cache", "--config", str(RUFF), "--target-version", f"py{oldest.replace('.', '')}"]
    tool = str(program("ruff", INSTALL))
    check = [tool, "check", "--quiet", "--exit-zero", "--output-format", "json", *options]
    found = [
        _finding(folder, Path(file), 1, "It has no licence header", "licence", "Copy that of another file.")
        for file in files
        if LICENCE not in (folder / file).read_bytes()[:200]
    ]
    for each in json.loads(run([*check, *files], cwd=folder)):
        path = Path(each["filename"]).resolve().relative_to(folder.resolve())
        fix = (each.get("fix") or {}).get("message")
        remedy = f"{fix}." if fix else f"See {each['url']}." if each.get("url") else "Correct it."
        rule = each["code"] or "syntax"
        found.append(_finding(folder, path, each["location"]["row"], each["message"], rule, remedy))
    # Files that do not parse are not formatted; the check above reports them.
    told = attempt([tool, "format", "--diff", *options, *files], cwd=folder)
    for line in told.stdout.splitlines():
        if line.startswith("--- "):
            path = Path(line.removeprefix("--- "))
        elif match := re.match(r"@@ -(\d+)", line):
            # A hunk begins three lines before the change, except at the start of the file.
            row = int(match[1]) + 3 * (match[1] != "1")
            found.append(_finding(folder, path, row, "Ruff would reformat it", "format", FORMAT))
    return found


def mypy(
    folder: Path,
    files: Sequence[str],
    source: str = "",
    python: Path | None = None,
    oldest: str = OLDEST,
) -> list[Finding]:
    """
    Return what mypy finds in files.

    :param files: the monorepo paths of the files.
    :param source: the first folder in which mypy searches modules, below ``folder``.
    :param python: the interpreter of an environment with the packages that the files import. Without it,
        imports of packages have the type ``Any``, whatever the environment of this tool contains.
    :param oldest: the oldest Python on which the files run, as in ``3.11``.
    :raises Problem: if mypy is missing or crashes.
    """
    if not files:
        return []
    options = ["--config-file", str(MYPY), "--python-version", oldest, "--output", "json"]
    options += ["--python-executable", str(python)] if python else ["--no-site-packages"]
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as name:
        # The stock and the patched files of a release, in one temporary folder, share a cache.
        cache = str(folder / ".mypy_cache") if python else name
        words = [str(program("mypy", INSTALL)), "--cache-dir", cache, *options, *files]
        told = attempt(words, cwd=folder, env={"MYPYPATH": source or None})
    found = [json.loads(line) for line in told.stdout.splitlines() if line.startswith("{")]
    if told.returncode and not found:
        raise Problem(
            f"mypy failed: {(told.stderr or told.stdout).strip()}", "Correct its configuration.", Exit.FAILED
        )
    return [
        _finding(
            folder,
            Path(each["file"]),
            max(each["line"], 1),
            each["message"],
            f"mypy {each['code']}" if each["code"] else "mypy",
            each["hint"] or "Correct the type.",
        )
        for each in found
        if each["severity"] == "error"
    ]


def _finding(folder: Path, path: Path, line: int, message: str, rule: str, remedy: str) -> Finding:
    # As Python and git count lines: a form feed does not end one.
    lines = (folder / path).read_bytes().decode().split("\n")
    text = lines[line - 1] if line <= len(lines) else ""
    what = message if message.endswith((".", "!", "?")) else f"{message}."
    return Finding(path, line, what, rule, remedy, text)
