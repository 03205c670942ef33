"""Configuration during a test, by the name of the monorepo."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any


def _parsers() -> list[Any]:
    from airflow.configuration import conf

    parsers = [conf]
    if importlib.util.find_spec("airflow.sdk.configuration"):
        from airflow.sdk.configuration import conf as sdk_conf

        if sdk_conf is not conf:
            parsers.append(sdk_conf)
    return parsers


@contextmanager
def _option(parser: Any, section: str, key: str, value: str | None) -> Iterator[None]:
    had = parser.has_section(section) and key in parser[section]
    before = parser[section][key] if had else None
    if value is None:
        if had:
            parser.remove_option(section, key)
    else:
        if not parser.has_section(section):
            parser.add_section(section)
        parser.set(section, key, value)
    try:
        yield
    finally:
        if had:
            parser.set(section, key, before)
        elif parser.has_section(section):
            parser.remove_option(section, key)


@contextmanager
def conf_vars(overrides: Mapping[tuple[str, str], str | None]) -> Iterator[None]:
    """
    Set configuration options, and restore them at the end; also usable as a decorator.

    :param overrides: ``{(section, key): value}``; ``None`` removes the option, so that its default applies.
    """
    saved_env = {}
    with ExitStack() as stack:
        for (section, key), value in overrides.items():
            name = f"AIRFLOW__{section.upper()}__{key.upper()}"
            if name in os.environ:
                saved_env[name] = os.environ.pop(name)
            for parser in _parsers():
                stack.enter_context(_option(parser, section, key, value))
        try:
            yield
        finally:
            os.environ.update(saved_env)
