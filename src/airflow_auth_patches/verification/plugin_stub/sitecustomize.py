"""
Import modules from other files than the installed ones, in this process and in its child processes.

``AUTH_PATCHES_REPLACED`` names them, as JSON: ``{module: path of its source}``. The tests of a mutant run
this way, so that the environment, which other runs use at the same time, does not change.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import os
import sys


class Loader(importlib.machinery.SourceFileLoader):
    """Load a module from another file; ``__file__`` stays the path of the installed one."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self.source = source

    def get_code(self, fullname):
        """Compile the other file, and ignore bytecode files."""
        with open(self.source, "rb") as file:
            return compile(file.read(), self.path, "exec", dont_inherit=True)


class Finder(importlib.abc.MetaPathFinder):
    """Find only the replaced modules."""

    def __init__(self, sources: dict[str, str]) -> None:
        self.sources = sources

    def find_spec(self, fullname, path=None, target=None):
        """Return the spec of a replaced module, ``None`` for any other."""
        if fullname not in self.sources:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        spec.loader = Loader(fullname, spec.origin, self.sources[fullname])
        return spec


if replaced := os.environ.get("AUTH_PATCHES_REPLACED"):
    sys.meta_path.insert(0, Finder(json.loads(replaced)))
