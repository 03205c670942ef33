"""
Runs modules from other sources than the installed ones, in this process and in those that it starts.

``AUTH_PATCHES_REPLACED`` says which, as JSON: ``{module: path of its source}``. So a proof runs tests without
a guard of a patch and changes nothing in the environment, which other runs use at the same time.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import os
import sys


class Loader(importlib.machinery.SourceFileLoader):
    """Loads a module as if from its own file, which it may ask for its place, with the code of another."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self.source = source

    def get_code(self, fullname):
        """Compile the other source, past any compiled file."""
        with open(self.source, "rb") as file:
            return compile(file.read(), self.path, "exec", dont_inherit=True)


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules that are replaced, and no others."""

    def __init__(self, sources: dict[str, str]) -> None:
        self.sources = sources

    def find_spec(self, fullname, path=None, target=None):
        """Return the spec of a replaced module, else ``None``."""
        if fullname not in self.sources:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        spec.loader = Loader(fullname, spec.origin, self.sources[fullname])
        return spec


if replaced := os.environ.get("AUTH_PATCHES_REPLACED"):
    sys.meta_path.insert(0, Finder(json.loads(replaced)))
