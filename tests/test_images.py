"""The commands of docs/images.md install patched wheels, without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from airflow_auth_patches.cli import main
from airflow_auth_patches.installation import apply as patching
from airflow_auth_patches.installation import environments, pair_environments, status, wheel_index, wheels
from airflow_auth_patches.installation.status import State
from airflow_auth_patches.util.errors import Exit
from airflow_auth_patches.util.processes import run

#: The releases of the page.
PAIR = "3.3.2+3.10.2"


@pytest.fixture
def folder(small, tmp_path) -> Path:
    """Return a folder of what `wheel --pair` writes, for small releases."""
    output = tmp_path / "a folder/wheels"
    built = [wheels.build(step.patched, small.pins.label, output) for step in small.plan().steps]
    first = {path: path.read_bytes() for path in wheel_index.write(built)}
    assert {path: path.read_bytes() for path in wheel_index.write(built)} == first
    return output


def blocks(root: Path, language: str) -> str:
    """Return the code of a language in the page."""
    page = (root / "docs/images.md").read_text()
    return "".join(re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL))


def instructions(root: Path, name: str) -> list[str]:
    """Return the arguments of an instruction of the Dockerfile."""
    return re.findall(rf"^{name} (.*)$", blocks(root, "dockerfile"), re.MULTILINE)


def commands(root: Path) -> list[str]:
    """Return the commands of the page: first that of the Dockerfile, last that of the sources of uv."""
    return [*instructions(root, "RUN"), *blocks(root, "shell").splitlines()]


def run_command(command: str, python: Path, folder: Path, work: Path, sources: str) -> None:
    """
    Run a command of the page as the official image does, without a network.

    :param python: the interpreter of the environment to change.
    :param folder: what `wheel --pair` wrote; the command has it as `/wheels` and as `wheels`.
    :param work: the folder to run it in, which is created.
    :param sources: the content of `pyproject.toml` there.
    """
    work.mkdir()
    (work / "wheels").symlink_to(folder)
    (work / "pyproject.toml").write_text(sources)
    environment = python.parents[1]
    settings = {
        "HOME": str(environment.parent),
        "PATH": os.pathsep.join([str(python.parent), str(environments.uv().parent), os.defpath]),
        "VIRTUAL_ENV": str(environment),
        "UV_PROJECT_ENVIRONMENT": str(environment),
        "UV_OFFLINE": "1",
        "UV_CACHE_DIR": str(work / "cache"),
        "PIP_NO_CACHE_DIR": "1",
        "PIP_CONFIG_FILE": os.devnull,
    }
    shell = ["bash", "-o", "pipefail", "-o", "errexit", "-o", "nounset", "-c"]
    words = [*shell, re.sub(r"(?<![\w.])/wheels\b", str(work / "wheels"), command)]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, cwd=work, env=settings, timeout=300
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("number", range(5))
def test_commands_of_the_page_install_the_patched_releases(root, small, folder, tmp_path, number):
    every = commands(root)
    assert len(every) == 5
    assert small.versions == ["3.1.6", "3.3.0"]
    # The script of the copied environment would run the pip of the original one.
    (small.python.parent / "pip").unlink()
    (small.python.parent / "pip").write_text(f'#!/bin/sh\nexec "{small.python}" -m pip "$@"\n')
    (small.python.parent / "pip").chmod(0o755)
    sources = blocks(root, "toml").replace("3.3.2", "3.1.6").replace("3.10.2", "3.3.0")
    run_command(every[number], small.python, folder, tmp_path / "work", sources)
    assert small.versions == [f"{plain}+{small.pins.label}" for plain in ("3.1.6", "3.3.0")]


@pytest.fixture
def image(root, pins, python) -> Iterator[Path]:
    """Return the interpreter of real releases where the official image has them, with pip and uv."""
    pair = pins.pair(PAIR)
    folder = pair_environments.folder_of(root, pair, python, "image") / "home/airflow/.local"
    environment = environments.make(pair, python, folder, packages=["pip", "uv"])
    with environments.changing(folder):
        patching.revert(environment.python, pins)
        yield environment.python


@pytest.mark.airflow
@pytest.mark.parametrize("number", [0, -1])
@pytest.mark.operator_task(13, "Build an image, or install with an index", "`wheel --pair`")
def test_page_patches_real_releases_in_the_layout_of_the_official_image(
    root, image, project, pins, tmp_path, number
):
    wheel = ["wheel", "--pair", PAIR, "--output", tmp_path / "wheels"]
    run([Path(sys.executable).parent / "airflow-auth-patches", *wheel])
    work, sources = tmp_path / "work", blocks(root, "toml")
    run_command(commands(root)[number], image, tmp_path / "wheels", work, sources)
    assert status.check(image, project, pins)[1].state == State.NOTHING_TO_DO
    run([image, "-m", "pip", "check"])
    run([image.parent / "airflow", "version"], env={"AIRFLOW_HOME": str(tmp_path / "home")})


def test_dockerfile_and_helm_values_name_the_releases_of_the_page(root):
    page = (root / "docs/images.md").read_text()
    assert f"wheel --pair {PAIR} --output wheels" in page
    (core, _) = PAIR.split("+")
    assert instructions(root, "FROM") == [f"apache/airflow:{core}"]
    assert instructions(root, "COPY") == ["wheels /wheels"]
    values = yaml.safe_load(blocks(root, "yaml"))
    assert values["airflowVersion"] == core
    built = re.findall(r"docker build --tag (\S+) \.", page)
    assert built == ["{repository}:{tag}".format(**values["images"]["airflow"])]


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
