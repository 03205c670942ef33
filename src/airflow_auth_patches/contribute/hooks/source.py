"""The rules of reviewers for the production code that patches add, checked on the syntax tree."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

from airflow_auth_patches.contribute.hooks.added import Edited, Finding, parsed
from airflow_auth_patches.releases.releases import CORE

Function = ast.FunctionDef | ast.AsyncFunctionDef
#: Words that upstream's hook for inclusive language rejects.
WORDS = re.compile(
    r"(?:black|white)[_-]?list|\b(?:she|he|her|his|master|slave|sanity|dummy)\b", re.IGNORECASE
)


def check(file: Edited) -> Iterator[Finding]:
    """
    Yield the findings on the lines that patches add to a Python file.

    * ``session``: a parameter ``session`` is keyword-only, and only a function with ``@provide_session`` has
      the default ``NEW_SESSION``. FastAPI dependencies and SQLAlchemy event listeners are exceptions, because
      they are called with positional arguments.
    * ``session-commit``: a function of core does not commit a session that its caller passes.
    * ``monotonic``: intervals are measured with ``time.monotonic``.
    * ``airflow-exception``: new code does not raise a bare ``AirflowException``.
    * ``local-import``: an import in a function has a comment with the reason, on its line or the line above.
    * ``inclusive-language``: new code does not contain words that upstream rejects.
    """
    for number, text in file.added_lines():
        if word := WORDS.search(text):
            yield file.finding(
                number, "inclusive-language", f"Upstream rejects the word {word[0]!r}.", "Use another word."
            )
    for node in ast.walk(file.syntax):
        if isinstance(node, Function):
            yield from _signature(file, node)
            yield from _body(file, node)
        elif isinstance(node, ast.Raise) and file.adds(node.lineno) and _raised(node) == "AirflowException":
            yield file.finding(
                node.lineno,
                "airflow-exception",
                "It raises AirflowException.",
                "Raise a more specific exception, or a built-in one.",
            )
        elif isinstance(node, ast.Call) and file.adds(node.lineno) and _called(node) == "time.time":
            yield file.finding(
                node.lineno,
                "monotonic",
                "time.time() jumps when the clock is set.",
                "Use time.monotonic() to measure an interval.",
            )


def _decorators(function: Function) -> set[str]:
    return {_name(each).rpartition(".")[2] for each in function.decorator_list}


def _undecorated(function: Function) -> ast.Name | None:
    """Return the default NEW_SESSION of a function without ``@provide_session``, or ``None``."""
    if "provide_session" in _decorators(function):
        return None
    defaults = (*function.args.defaults, *function.args.kw_defaults)
    return next((each for each in defaults if isinstance(each, ast.Name) and each.id == "NEW_SESSION"), None)


def _signature(file: Edited, function: Function) -> Iterator[Finding]:
    decorators = _decorators(function)
    arguments = function.args
    for argument in (*arguments.posonlyargs, *arguments.args):
        if argument.arg != "session" or not file.adds(argument.lineno):
            continue
        kind = ast.unparse(argument.annotation) if argument.annotation else ""
        if not kind.endswith("SessionDep") and "listens_for" not in decorators:
            yield file.finding(
                argument.lineno,
                "session",
                f"{function.name} takes session as a positional argument.",
                "Make it keyword-only: put a * before it.",
            )
    # A patch may remove the decorator without changing the line of the default.
    if (default := _undecorated(function)) and not any(
        isinstance(node, Function) and node.name == function.name and _undecorated(node)
        for node in ast.walk(parsed(file.before or b""))
    ):
        yield file.finding(
            default.lineno,
            "session",
            f"{function.name} has the default NEW_SESSION without @provide_session.",
            "Add the decorator.",
        )


def _body(file: Edited, function: Function) -> Iterator[Finding]:
    lines = file.lines
    for node in _inside(function, without=lambda inner: True):
        if isinstance(node, ast.Import | ast.ImportFrom) and file.adds(node.lineno):
            above = lines[node.lineno - 2].strip() if node.lineno > 1 else ""
            if "#" not in lines[node.lineno - 1] and not above.startswith("#"):
                yield file.finding(
                    node.lineno,
                    "local-import",
                    f"{function.name} has an import without a comment that says why.",
                    "Import at the top of the file, or add a comment.",
                )
    if _is_handed(function) and file.release.distribution is CORE:
        for node in _inside(function, without=_is_handed):
            if isinstance(node, ast.Call) and _called(node) == "session.commit" and file.adds(node.lineno):
                yield file.finding(
                    node.lineno,
                    "session-commit",
                    f"{function.name} commits a session that its caller passes.",
                    "Let the caller commit.",
                )


def _is_handed(function: Function) -> bool:
    """Check whether a function has a parameter ``session``."""
    arguments = function.args
    return any(
        each.arg == "session" for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    )


def _inside(function: Function, without: Callable[[Function], bool]) -> Iterator[ast.AST]:
    """Yield the nodes of a function's body, except those in nested functions that are left out."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not (isinstance(node, Function) and without(node)):
            waiting += ast.iter_child_nodes(node)


def _name(node: ast.expr) -> str:
    return ast.unparse(node.func if isinstance(node, ast.Call) else node)


def _called(call: ast.Call) -> str:
    return ast.unparse(call.func)


def _raised(node: ast.Raise) -> str:
    return _name(node.exc).rpartition(".")[2] if node.exc else ""
