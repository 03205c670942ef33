"""The rules of reviewers for the tests that the series adds, checked on the syntax tree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from airflow_auth_patches.contribute.hooks.added import Finding, parsed
from airflow_auth_patches.releases.releases import CORE

MOCKS = {"Mock", "MagicMock", "AsyncMock", "NonCallableMock", "NonCallableMagicMock"}
#: The arguments that give a mock the interface of the real object, or replace it.
SHAPES = {"spec", "spec_set", "autospec", "wraps", "new", "new_callable"}
#: The number of positional arguments of each form of patch before ``new``.
BEFORE_NEW = {"patch": 1, "patch.object": 2}
ISSUE = re.compile(r"#\d{3,}|(?<![\w.,])\d{5}(?![\w.,]\d)\b|\bGH-?\d+|/(?:issues|pull)/\d+")


def check(root: Path, path: str, file: Path) -> Iterator[Finding]:
    """
    Yield the findings in a test file.

    * ``caplog``: tests do not use it.
    * ``mock-spec``: a mock, also one from ``patch``, has a spec.
    * ``sleep``: tests do not sleep; ``asyncio.sleep(0)`` is allowed, because it only yields.
    * ``issue-number``: a docstring does not name an issue or a pull request.
    * ``version-flag``: tests of core have no ``AIRFLOW_V_`` flags, which are for providers.

    :param root: the checkout of this project.
    :param path: the path of the file in the monorepo.
    """
    content = file.read_text(encoding="utf-8")
    core = path.startswith(f"{CORE.root}/")
    for number, text in enumerate(content.splitlines(), 1):
        if not text.lstrip().startswith("#") and re.search(r"\bcaplog\b", text):
            yield Finding(file, number, "It uses caplog.", "caplog", "Mock the logger, or assert the effect.")
        if core and re.search(r"import .*\bAIRFLOW_V_", text):
            yield Finding(
                file,
                number,
                "It uses a version flag, which is only for tests of providers.",
                "version-flag",
                "Check for the feature instead.",
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
                    "Describe the behaviour instead.",
                )


def _call(file: Path, call: ast.Call) -> Iterator[Finding]:
    words = ast.unparse(call.func).split(".")
    given = {keyword.arg for keyword in call.keywords}
    if words[-1] in MOCKS and words[:-1] in ([], ["mock"], ["mocker"], ["unittest", "mock"]):
        if not given & SHAPES and not call.args:
            yield Finding(
                file,
                call.lineno,
                f"A {words[-1]} without a spec accepts any call.",
                "mock-spec",
                "Add spec=.",
            )
        return
    patch = ".".join(words[words.index("patch") :]) if "patch" in words else ""
    if patch in BEFORE_NEW and words[0] in ("patch", "mock", "mocker", "unittest"):
        if not given & SHAPES and len(call.args) <= BEFORE_NEW[patch]:
            yield Finding(
                file,
                call.lineno,
                f"The mock of {patch} accepts any call.",
                "mock-spec",
                "Add autospec=True or spec=.",
            )
    elif words[-1] == "sleep" and not (words[0] == "asyncio" and _is_zero(call)):
        yield Finding(file, call.lineno, "It sleeps.", "sleep", "Wait for an event or a barrier instead.")


def _is_zero(call: ast.Call) -> bool:
    return len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0
