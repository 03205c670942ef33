"""The tables of what an operator does with the tool in the tests, and of what kills leave."""

from __future__ import annotations

import ast
import json
from pathlib import Path

from airflow_auth_patches.util.show import markdown_table

MARKER = "pytest.mark.operator_task"


def tasks(folder: Path) -> str:
    """
    Return the tasks of operators that tests run, as a table in Markdown, in the order of their numbers.

    A test is marked with ``@pytest.mark.operator_task(number, "what happens", "commands")``.

    :param folder: the folder of the tests.
    """
    rows = []
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.FunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == MARKER:
                    number, what, commands = map(ast.literal_eval, mark.args)
                    test = f"`{path.relative_to(folder).as_posix()}::{node.name}`"
                    rows.append((number, what, commands, test))
    return markdown_table(["task", "commands", "test"], [row[1:] for row in sorted(rows)])


def kills(file: Path) -> str:
    """
    Return the recorded outcomes of ``tests/test_kill.py``, as a table in Markdown.

    :param file: the record, ``docs/results/kills.json``.
    """
    states = {"stock": "complete, unchanged", "patched": "complete, patched", "repaired": "damaged, cured"}
    rows = []
    for row in json.loads(file.read_text("utf-8")):
        who = {"both": f"the tool and {row['installer']}", "tool": "the tool"}.get(
            row["killed"], row["killed"]
        )
        counts = [row.get(state, 0) for state in states]
        rows.append([row["installer"], who, *map(str, [sum(counts), *counts])])
    return markdown_table(["installer", "killed", "kills", *states.values()], rows)
