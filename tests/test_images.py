"""The commands of docs/images.md install patched wheels, without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_auth_patches.cli import main
from airflow_auth_patches.installation import environments, wheel_index, wheels
from airflow_auth_patches.util.errors import Exit

WHEELS = "/wheels"


@pytest.fixture
def folder(small, tmp_path) -> Path:
    """Return a folder of what `wheel --pair` writes, for small releases."""
    output = tmp_path / "a folder/wheels"
    built = [wheels.build(step.patched, small.pins.label, output) for step in small.plan().steps]
    first = {path: path.read_bytes() for path in wheel_index.write(built)}
    assert {path: path.read_bytes() for path in wheel_index.write(built)} == first
    return output


def commands(root: Path) -> list[str]:
    """Return the `RUN` line of the Dockerfile and the lines of pip and uv."""
    page = (root / "docs/images.md").read_text()
    return re.findall(r"^(?:RUN )?((?:uv )?pip install .*)$", page, re.MULTILINE)


@pytest.mark.parametrize("number", range(3))
@pytest.mark.operator_task(13, "Build an image, or install with an index", "`wheel --pair`")
def test_commands_of_the_page_install_the_patched_releases(root, small, folder, tmp_path, number):
    every = commands(root)
    assert len(every) == 3
    assert small.versions == ["3.1.6", "3.3.0"]
    link = tmp_path / "wheels"
    link.symlink_to(folder)
    # The script of the copied environment would run the pip of the original one.
    (small.python.parent / "pip").unlink()
    (small.python.parent / "pip").write_text(f'#!/bin/sh\nexec "{small.python}" -m pip "$@"\n')
    (small.python.parent / "pip").chmod(0o755)
    places = [small.python.parent, environments.uv().parent, os.environ["PATH"]]
    settings = {
        "PATH": os.pathsep.join(map(str, places)),
        "VIRTUAL_ENV": str(small.python.parents[1]),
        "PIP_CONFIG_FILE": os.devnull,
    }
    removed = ("UV_", "PIP_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(removed)}
    command = every[number].replace(WHEELS, str(link))
    done = subprocess.run(
        command,
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        env={**inherited, **settings},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    label = f"+{small.pins.label}"
    assert [
        version.startswith(f"{plain}{label}")
        for version, plain in zip(small.versions, ("3.1.6", "3.3.0"), strict=True)
    ] == [True, True]


def test_pair_is_built_with_its_default_or_the_named_patches(pins, tmp_path, monkeypatch, capsys):
    def wheel(*words: str) -> str | int | None:
        monkeypatch.setattr(
            sys, "argv", ["airflow-auth-patches", "wheel", "--output", str(tmp_path / "out"), *words]
        )
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    def built() -> list[str]:
        return (tmp_path / "out/constraints.txt").read_text().splitlines()

    pair = ("--pair", "3.1.6+3.3.0")
    for words in (("--pair", "3.1.6+9.9"), (*pair, "--release", "apache-airflow-core==3.1.6")):
        assert wheel(*words) == Exit.USAGE
    assert wheel(*pair, "--patch", "revoked-token-cache") == Exit.USAGE
    assert not (tmp_path / "out").exists()
    assert wheel(*pair) == Exit.OK
    label = pins.label
    assert built() == [f"apache-airflow-core==3.1.6+{label}", f"apache-airflow-providers-fab==3.3.0+{label}"]
    assert wheel(*pair, "--patch", "session-cleanup") == Exit.OK
    (only,) = built()
    assert only.startswith(f"apache-airflow-providers-fab==3.3.0+{label}.x")
    assert [page.parent.name for page in (tmp_path / "out/simple").glob("*/index.html")] == [
        "apache-airflow-providers-fab"
    ]
    capsys.readouterr()


def test_hashes_are_those_of_the_wheels(folder):
    words = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    assert subprocess.run(words, cwd=folder, capture_output=True, check=False).returncode == 0
    (wheel,) = folder.glob("apache_airflow_core-*.whl")
    wheel.write_bytes(wheel.read_bytes() + b"\n")
    assert subprocess.run(words, cwd=folder, capture_output=True, check=False).returncode == 1
