"""The packages of the tool import downwards only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

NAME = "airflow_auth_patches"
#: Each imports from those after it only.
PACKAGES = (
    "cli",
    "contribute",
    "demo",
    "verification",
    "installation",
    "series",
    "releases",
    "util",
)


def imports(file: Path) -> Iterator[str]:
    """Give the packages of the tool that a module imports from."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == NAME:
            below = node.module.split(".")[1:]
            yield from below[:1] or (alias.name for alias in node.names)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_from_those_below_it_only(root, package):
    allowed = {*PACKAGES[PACKAGES.index(package) :]}
    files = [*(root / "src" / NAME / package).rglob("*.py")]
    assert files
    assert {
        f"{file.name}: {name}" for file in files for name in imports(file) if name not in allowed
    } == set()


def test_every_module_is_in_a_package(root):
    folder = root / "src" / NAME
    here = {file.relative_to(folder).parts[0] for file in folder.rglob("*.py")}
    assert here == {"__init__.py", *PACKAGES}
