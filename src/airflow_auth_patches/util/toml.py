"""Read the project's TOML files; one that is missing or broken gives one clear sentence."""

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
    Read a file for the length of a ``with`` block, which makes of it what it is for.

    :param remedy: what to do when it is broken.
    :return: its tables, for the block.
    :raises Problem: when it is missing or no TOML, or the block lacks a key, or refuses a value.
    """
    try:
        yield parse(path.read_text(encoding="utf-8"))
    except KeyError as error:
        raise Problem(f"{path} cannot be read: it lacks {error.args[0]!r}.", remedy) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise Problem(f"{path} cannot be read: {error}.", remedy) from error
