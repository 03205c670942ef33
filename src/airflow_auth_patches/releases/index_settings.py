"""The settings of uv and pip for package indexes, from variables and from the configuration files of pip."""

from __future__ import annotations

import configparser
import os
import re
import sys
from contextlib import suppress
from pathlib import Path

import platformdirs


def indexes(standard: str) -> list[str]:
    """
    Return the URLs of the package indexes: the default one, then the extra ones.

    :param standard: the default index if no setting names one.
    """
    default = _words("UV_DEFAULT_INDEX", "UV_INDEX_URL") or _pip("index-url").split()
    extra = [*_words("UV_INDEX"), *_words("UV_EXTRA_INDEX_URL"), *_pip("extra-index-url").split()]
    # uv writes NAME=URL for an index with a name.
    return list(
        dict.fromkeys(
            re.sub(r"^[\w.-]+=(?=\w+://)", "", url) for url in [*(default[:1] or [standard]), *extra]
        )
    )


def certificates() -> str | None:
    """Return the path of the certificates to trust, or ``None`` for those of the HTTP library."""
    return _pip("cert") or os.environ.get("SSL_CERT_FILE")


def offline() -> str | None:
    """Return the setting that forbids the use of an index, or ``None``."""
    yes = ("1", "true", "yes", "on", "y", "t")
    if os.environ.get("UV_OFFLINE", "").lower() in yes:
        return "UV_OFFLINE"
    return "PIP_NO_INDEX or no-index in pip.conf" if _pip("no-index").lower() in yes else None


def _words(*names: str) -> list[str]:
    return next((value.split() for name in names if (value := os.environ.get(name))), [])


def _pip(name: str) -> str:
    if value := os.environ.get(f"PIP_{name.upper().replace('-', '_')}"):
        return value
    home, config = Path.home(), platformdirs.user_config_path("pip")
    places = [platformdirs.site_config_path(), home / ".pip", config, Path(sys.prefix)]
    files = [Path("/etc/pip.conf"), *(place / "pip.conf" for place in places)]
    if chosen := os.environ.get("PIP_CONFIG_FILE"):
        files = [Path(chosen)]
    parser = configparser.RawConfigParser(strict=False)
    with suppress(configparser.Error, UnicodeDecodeError):
        parser.read(files)
    return parser.get("install", name, fallback="") or parser.get("global", name, fallback="")
