"""Run ruff and mypy with upstream's configuration on added files, and on the lines that patches add."""

from __future__ import annotations

import collections
import difflib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_auth_patches.contribute.hooks.added import Edited, Finding, Patched
from airflow_auth_patches.releases.fetching import sources
from airflow_auth_patches.series import tree
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.processes import attempt, program, run

#: Upstream's configuration, as far as it concerns the series.
RUFF = Path(__file__).with_name("upstream-ruff.toml")
MYPY = Path(__file__).with_name("upstream-mypy.ini")
REMEDY = "Install the development tools: `make setup`."


def ruff_on_edits(patched: Patched) -> Iterator[Finding]:
    """
    Yield what ruff finds in the patched files but not in the stock ones, and what it would reformat.

    :raises Problem: if ruff is missing or fails.
    """
    files = {path: file for path, file in patched.files.items() if path.endswith(".py")}
    if not files:
        return
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as name:
        stock, after = Path(name) / "stock", Path(name) / "patched"
        released = {path: file.before for path, file in files.items() if file.before is not None}
        stock.mkdir()
        tree.write_files(stock, released)
        tree.write_files(after, {path: file.after for path, file in files.items()})
        known = collections.Counter(_key(path, found, released[path]) for path, found in _ruff(stock))
        for path, found in _ruff(after):
            key = _key(path, found, files[path].after)
            if known[key] > 0:
                known[key] -= 1
                continue
            yield files[path].finding(
                found["location"]["row"], _code(found), _sentence(found["message"]), _what_to_do(found)
            )
        # Files that do not parse are not formatted; the check above reports them.
        attempt(
            [program("ruff", REMEDY), "format", "--quiet", "--no-cache", "--config", RUFF, "."], cwd=after
        )
        for path, file in files.items():
            yield from _formatted(file, (after / path).read_text())


def ruff_on_added(root: Path) -> Iterator[Finding]:
    """
    Yield what ruff finds in the files that the series adds, and what it would reformat.

    :param root: the checkout of this project.
    :raises Problem: if ruff is missing or fails.
    """
    folders = _folders(root)
    if not folders:
        return
    for path, found in _ruff(root, *folders):
        yield Finding(
            root / path,
            found["location"]["row"],
            _sentence(found["message"]),
            _code(found),
            _what_to_do(found),
        )
    told = attempt(
        [program("ruff", REMEDY), "format", "--no-cache", "--config", RUFF, "--diff", *folders], cwd=root
    )
    path = ""
    for line in told.stdout.splitlines():
        if line.startswith("--- "):
            path = line.removeprefix("--- ")
        elif match := re.match(r"@@ -(\d+)", line):
            yield Finding(
                root / path,
                # A hunk of ruff's diff begins three lines before the change.
                int(match[1]) + 3 * (match[1] != "1"),
                "Ruff would reformat it.",
                "format",
                f"Run `ruff format --config {_shown(root, RUFF)}`.",
            )


def mypy_on_added(root: Path) -> Iterator[Finding]:
    """
    Yield what mypy finds in the files that the series adds. Imports from Airflow have the type ``Any``.

    :param root: the checkout of this project.
    :raises Problem: if mypy is missing or crashes.
    """
    files = [file for folder in _folders(root) for file in sorted((root / folder).rglob("*.py"))]
    if not files:
        return
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as cache:
        for found in _mypy(root, [file.relative_to(root) for file in files], "--cache-dir", cache):
            yield Finding(
                root / found["file"],
                max(found["line"], 1),
                _sentence(found["message"]),
                _type_rule(found),
                found["hint"] or "Correct the type.",
            )


def mypy_on_edits(patched: Patched, python: Path) -> Iterator[Finding]:
    """
    Yield what mypy finds in the patched files but not in the stock ones.

    :param python: the interpreter of an environment with the dependencies of the release.
    :raises Problem: if mypy is missing or crashes.
    """
    files = {path: file for path, file in patched.files.items() if path.endswith(".py")}
    if not files:
        return
    source = f"{patched.release.distribution.root}/src"
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as name:
        folder = Path(name)
        options: list[str | Path] = ["--python-executable", python, "--cache-dir", folder / ".cache"]
        stock = {path: content for path, content in sources(patched.release).items() if path.endswith(".py")}
        tree.write_files(folder, stock)
        released = {path: file.before for path, file in files.items() if file.before is not None}
        known = collections.Counter(
            _key(found["file"], found, released[found["file"]])
            for found in _mypy(folder, [*released], *options, path=source)
        )
        tree.write_files(folder, {path: file.after for path, file in files.items()})
        for found in _mypy(folder, [*files], *options, path=source):
            file = files[found["file"]]
            key = _key(found["file"], found, file.after)
            if known[key] > 0:
                known[key] -= 1
                continue
            yield file.finding(
                max(found["line"], 1),
                _type_rule(found),
                _sentence(found["message"]),
                found["hint"] or "Correct the type.",
            )


def _mypy(
    folder: Path, files: Sequence[str | Path], *options: str | Path, path: str | None = None
) -> list[Mapping[str, Any]]:
    """Return the errors in mypy's JSON output; `path` is the first folder in which it searches modules."""
    if not files:
        return []
    told = attempt(
        [program("mypy", REMEDY), "--config-file", MYPY, "--output", "json", *options, *files],
        cwd=folder,
        env={"MYPYPATH": path},
    )
    lines = [line for line in told.stdout.splitlines() if line.startswith("{")]
    if told.returncode and not lines:
        raise Problem(
            f"mypy failed: {(told.stderr or told.stdout).strip()}", "Correct its configuration.", Exit.FAILED
        )
    return [found for found in map(json.loads, lines) if found["severity"] == "error"]


def _type_rule(found: Mapping[str, Any]) -> str:
    return f"mypy {found['code']}" if found["code"] else "mypy"


def _shown(root: Path, path: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path


def _folders(root: Path) -> list[str]:
    return [folder for folder in ("airflow-core", "providers") if (root / folder).is_dir()]


def _ruff(folder: Path, *paths: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Return what ruff finds: ``[(path below the folder, entry of its JSON output)]``."""
    told = run(
        [
            program("ruff", REMEDY),
            *("check", "--quiet", "--no-cache", "--exit-zero", "--output-format", "json", "--config", RUFF),
            *(paths or (".",)),
        ],
        cwd=folder,
    )
    base = folder.resolve()
    return [
        (Path(found["filename"]).resolve().relative_to(base).as_posix(), found) for found in json.loads(told)
    ]


def _code(found: Mapping[str, Any]) -> str:
    return found["code"] or "syntax"


def _key(path: str, found: Mapping[str, Any], content: bytes) -> tuple[str, str, str, bytes]:
    """Return the key of a finding that does not depend on its line number: path, rule, message, line text."""
    lines = content.splitlines()
    row = found["location"]["row"] if "location" in found else found["line"]
    text = lines[row - 1].strip() if row <= len(lines) else b""
    return path, _code(found), found["message"], text


def _sentence(message: str) -> str:
    return message if message.endswith((".", "!", "?")) else f"{message}."


def _what_to_do(found: Mapping[str, Any]) -> str:
    if (fix := found.get("fix")) and fix.get("message"):
        return _sentence(fix["message"])
    return f"See {found['url']}" if found.get("url") else "Correct it."


def _formatted(file: Edited, formatted: str) -> Iterator[Finding]:
    """Yield a finding for each place that a patch adds and ruff would reformat."""
    was, wanted = file.lines, formatted.split("\n")
    if was == wanted:
        return
    for kind, start, end, _, _ in difflib.SequenceMatcher(None, was, wanted, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        touched: Sequence[int] = range(start + 1, end + 1) or (start, start + 1)
        line = next((line for line in touched if file.adds(line)), None)
        if line is not None:
            yield file.finding(
                line, "format", "Ruff would reformat it.", "Format it in a tree and export it with `refresh`."
            )
