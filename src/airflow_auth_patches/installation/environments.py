"""Virtual environments with a pair of releases in them, stock or patched, made with uv."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from airflow_auth_patches.releases.releases import Pair
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.processes import program, run
from airflow_auth_patches.util.progress import Progress, Silent

#: What the servers and the unit tests need beside Airflow.
EXTRAS = (
    "psycopg2-binary",
    "asyncpg",
    "pymysql",
    "aiomysql",
    "pytest>=8.3,<9",
    "pytest-asyncio",
    "pytest-timeout",
    "time-machine",
    "httpx",
    "hypothesis",
)


@dataclass(frozen=True)
class Environment:
    """
    A Python environment, by its interpreter.

    :param python: path of the interpreter, not resolved (a resolved one would leave the environment).
    """

    python: Path

    @property
    def airflow(self) -> Path:
        """Path of the environment's ``airflow`` command."""
        return self.python.parent / "airflow"


def uv() -> Path:
    """
    Return the path of uv: beside this Python, else on ``PATH``.

    :raises Problem: when there is none.
    """
    return program("uv", "Install it: python -m pip install uv.")


def _candidates(version: str) -> Iterator[str]:
    yield getattr(sys, "_base_executable", sys.executable)
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        yield str(Path(folder) / f"python{version}")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    yield from (str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True))


def interpreter(version: str) -> Path | None:
    """
    Return an installed interpreter of a Python version that runs, or ``None``.

    Looked for: the one that runs this, ``pythonX.Y`` on ``PATH``, pyenv's (whose shims do not run every
    version).

    :param version: as in ``3.11``.
    """
    for candidate in _candidates(version):
        if not Path(candidate).exists():
            continue
        asked = subprocess.run(
            [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        if asked.returncode == 0 and asked.stdout.strip() == version:
            return Path(candidate)
    return None


def _wanted(pair: Pair, packages: Sequence[str]) -> list[str]:
    return [str(pair.core), str(pair.fab), *pair.core.constraints, *pair.fab.constraints, *packages]


def specification(pair: Pair, python: str, packages: Sequence[str] = EXTRAS) -> str:
    """
    Return all that decides what is installed in an environment of a pair, a line each.

    :param python: the Python version, as in ``3.11``.
    :param packages: what is installed in addition to Airflow.
    """
    return "\n".join([python, str(pair.exclude_newer), *_wanted(pair, packages)])


def make(
    pair: Pair,
    python: str,
    folder: Path,
    progress: Progress | None = None,
    *,
    packages: Sequence[str] = EXTRAS,
) -> Environment:
    """
    Return an environment with a pair of stock releases, making it if it is not there.

    :param python: the Python version, as in ``3.11``.
    :param folder: where the environment is, or will be; what else is there is removed.
    :param packages: what is installed in addition to Airflow.
    :raises Problem: when that Python is missing or the packages cannot be installed; the folder is then gone.
    """
    spec = specification(pair, python, packages)
    marker = folder / ".ready"
    environment = Environment(folder / "bin" / "python")
    if marker.exists() and marker.read_text() == spec:
        return environment
    base = interpreter(python)
    if base is None:
        raise Problem(
            f"Python {python} is not on this machine.", "Install it, or choose another.", Exit.USAGE
        )
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with (progress or Silent()).task(
            f"installing Airflow {pair.core.version} with FAB {pair.fab.version}"
        ):
            run([uv(), "venv", "--quiet", "--python", base, folder])
            install(
                environment,
                ["--exclude-newer", f"{pair.exclude_newer}T00:00:00Z", *_wanted(pair, packages)],
            )
        marker.write_text(spec)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return environment


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """
    Change what is installed in an environment, in a ``with`` block.

    Where the block fails or its process is killed, it is no environment any more, and the next
    :func:`make` makes it anew.
    """
    marker = folder / ".ready"
    aside = marker.rename(folder / ".changing")
    yield
    aside.rename(marker)


def install(environment: Environment, arguments: Sequence[str | Path]) -> None:
    """
    Run ``uv pip install`` in an environment of our own.

    :raises Problem: when uv fails.
    """
    run([uv(), "pip", "install", "--quiet", "--python", environment.python, *arguments], timeout=900)
