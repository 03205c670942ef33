"""
Loads modules from other files than the installed ones, in this process and in those that it starts.

``AUTH_PATCHES_REPLACED`` says which, as JSON: ``{module: path}``. So a proof runs tests without a guard of a
patch and changes nothing in the environment, which other runs use at the same time.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import os
import sys


class Replaced(importlib.abc.MetaPathFinder):
    """Finds the modules that are replaced, and no others."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files

    def find_spec(self, fullname, path=None, target=None):
        """Return the spec of a replaced module, else ``None``."""
        if fullname not in self.files:
            return None
        return importlib.util.spec_from_file_location(fullname, self.files[fullname])


if replaced := os.environ.get("AUTH_PATCHES_REPLACED"):
    sys.meta_path.insert(0, Replaced(json.loads(replaced)))
