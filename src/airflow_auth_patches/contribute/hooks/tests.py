"""What reviewers look for in the tests that the series adds, by their syntax tree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from airflow_auth_patches.contribute.hooks.added import Finding, parsed
from airflow_auth_patches.releases.releases import CORE

MOCKS = {"Mock", "MagicMock", "AsyncMock", "NonCallableMock", "NonCallableMagicMock"}
#: What gives a mock, or what stands in for one, the shape of the real thing.
SHAPES = {"spec", "spec_set", "autospec", "wraps", "new", "new_callable"}
#: How many arguments by position each form of patch takes before its ``new``.
BEFORE_NEW = {"patch": 1, "patch.object": 2}
ISSUE = re.compile(r"#\d{3,}|(?<![\w.,])\d{5}(?![\w.,]\d)\b|\bGH-?\d+|/(?:issues|pull)/\d+")


def check(root: Path, path: str, file: Path) -> Iterator[Finding]:
    """
    Give what is found in a test file.

    * ``caplog``: not used.
    * ``mock-spec``: a mock, and what ``patch`` puts in, has the shape of the real thing.
    * ``sleep``: nothing waits for the clock; ``asyncio.sleep(0)`` only gives way.
    * ``issue-number``: no docstring names an issue or a pull request.
    * ``version-flag``: core's tests have no ``AIRFLOW_V_`` flags, which are for providers.

    :param root: the checkout of this project.
    :param path: the path of the file in the monorepo.
    """
    content = file.read_text(encoding="utf-8")
    core = path.startswith(f"{CORE.root}/")
    for number, text in enumerate(content.splitlines(), 1):
        if not text.lstrip().startswith("#") and re.search(r"\bcaplog\b", text):
            yield Finding(
                file, number, "It uses caplog.", "caplog", "Patch the logger, or assert the effect."
            )
        if core and re.search(r"import .*\bAIRFLOW_V_", text):
            yield Finding(
                file, number, "Core's tests have no version flags.", "version-flag", "Ask for what is there."
            )
    for node in ast.walk(parsed(content.encode())):
        if isinstance(node, ast.Call):
            yield from _call(file, node)
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            said = ast.get_docstring(node, clean=False) or ""
            if named := ISSUE.search(said):
                yield Finding(
                    file,
                    node.body[0].lineno + said[: named.start()].count("\n"),
                    f"The docstring names {named[0]}.",
                    "issue-number",
                    "Say what the test shows.",
                )


def _call(file: Path, call: ast.Call) -> Iterator[Finding]:
    words = ast.unparse(call.func).split(".")
    given = {keyword.arg for keyword in call.keywords}
    if words[-1] in MOCKS and words[:-1] in ([], ["mock"], ["mocker"], ["unittest", "mock"]):
        if not given & SHAPES and not call.args:
            yield Finding(
                file,
                call.lineno,
                f"A {words[-1]} without a spec takes any call.",
                "mock-spec",
                "Give it spec=.",
            )
        return
    patch = ".".join(words[words.index("patch") :]) if "patch" in words else ""
    if patch in BEFORE_NEW and words[0] in ("patch", "mock", "mocker", "unittest"):
        if not given & SHAPES and len(call.args) <= BEFORE_NEW[patch]:
            yield Finding(
                file,
                call.lineno,
                f"What {patch} puts in takes any call.",
                "mock-spec",
                "Give it autospec=True, or spec=.",
            )
    elif words[-1] == "sleep" and not (words[0] == "asyncio" and _is_zero(call)):
        yield Finding(
            file, call.lineno, "It waits for the clock.", "sleep", "Wait for an event or a barrier."
        )


def _is_zero(call: ast.Call) -> bool:
    return len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0
