"""Read the project's TOML files, and report a missing or broken file in one sentence."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_auth_patches.util.errors import Problem

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

parse = tomllib.loads


@contextmanager
def opened(path: Path, remedy: str = "Restore it from the repository.") -> Iterator[dict[str, Any]]:
    """
    Read a TOML file for a ``with`` block that converts its content.

    Missing keys and wrong values that the block meets are reported as faults of the file.

    :param path: the file.
    :param remedy: what to do if the file is broken, for the error message.
    :return: a context manager that gives the content of the file.
    :raises Problem: if the file is missing or is not TOML, or if a key is missing or a value is wrong.
    """
    try:
        yield parse(path.read_text(encoding="utf-8"))
    except KeyError as error:
        raise Problem(f"{path} cannot be read: it lacks {error.args[0]!r}.", remedy) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise Problem(f"{path} cannot be read: {error}.", remedy) from error
