"""`apply`, `revert` and `repair` with each pip from 23 on, with uv, and on each Python."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_auth_patches.installation import apply as patching
from airflow_auth_patches.installation import environments, repair
from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.util.processes import run

STOCK = ["3.1.6", "3.3.0"]


@pytest.fixture
def make(small: Any, small_airflow: Path, tmp_path: Path, pins: Pins) -> Callable[..., Any]:
    """Return a function that makes an environment with small releases."""

    def environment(version: str, pip: str) -> Any:
        base = environments.interpreter(version)
        if base is None:
            pytest.skip(f"Python {version} is not installed")
        python = tmp_path / "env/bin/python"
        run([base, "-m", "venv", "--copies", "--without-pip", tmp_path / "env"])
        words = [environments.uv(), "pip", "install", "--quiet", "--python", python]
        releases = [str(release) for release in (pins.pair("3.1.6+3.3.0").core, pins.pair("3.1.6+3.3.0").fab)]
        run([*words, "--no-index", "--no-deps", "--find-links", small_airflow / "cache", *releases])
        if pip:
            run([*words, pip])
        return type(small)(python, small_airflow / "patches")

    return environment


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("version", "pip"),
    [
        ("3.11", "pip==23.0.1"),
        ("3.11", ""),
        pytest.param("3.10", "pip==23.0.1", marks=SLOW),
        pytest.param("3.10", "", marks=SLOW),
        pytest.param("3.11", "pip==24.0", marks=SLOW),
        pytest.param("3.11", "pip==25.0", marks=SLOW),
        pytest.param("3.12", "pip==24.0", marks=SLOW),
        pytest.param("3.12", "pip", marks=SLOW),
        pytest.param("3.13", "pip", marks=SLOW),
        pytest.param("3.13", "", marks=SLOW),
    ],
)
def test_every_installer_patches_restores_and_repairs(make, version, pip):
    small = make(version, pip)
    patching.apply(small.plan(), small.pins)
    assert small.versions != STOCK
    assert [each.partition("+")[0] for each in small.versions] == STOCK
    patching.revert(small.python, small.pins)
    assert small.versions == STOCK
    (info,) = small.site.glob("apache_airflow_core-*.dist-info")
    shutil.rmtree(info)
    assert repair.repair(small.python, small.pins, releases=[small.pins.pair("3.1.6+3.3.0").core]) is not None
    assert small.versions == STOCK
