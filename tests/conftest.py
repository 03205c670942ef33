"""Fixtures of the whole suite."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

import pytest

from airflow_auth_patches import releases, series
from airflow_auth_patches.releases import Pins
from airflow_auth_patches.series import Series

ROOT = Path(__file__).parents[1]


# A shell's background job ignores Ctrl-C, and so would every program that the tests start and interrupt.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number is signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def python() -> str:
    """Return the Python version that environments of Airflow are made with, unless a test names another."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="session")
def project() -> Series:
    return series.load(ROOT / "patches")


@pytest.fixture(scope="session")
def pins() -> Pins:
    return releases.load(ROOT / "patches")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the project's own files that a test may break."""
    target = tmp_path / "project"
    for name in ("patches", "airflow-core", "providers", "tests/standin"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", target)
    return target
