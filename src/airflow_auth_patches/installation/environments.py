"""Create virtual environments with a pair of stock releases, with uv."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from airflow_auth_patches.releases import index_settings
from airflow_auth_patches.releases.releases import Pair
from airflow_auth_patches.util import preconditions
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.processes import program, run
from airflow_auth_patches.util.progress import Progress, Silent

#: The packages that the servers and the unit tests need in addition to Airflow.
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


#: What to do when uv cannot install packages.
INDEX_REMEDY = (
    "Check the network, the package index (UV_DEFAULT_INDEX, SSL_CERT_FILE), the free disk space and the "
    "permissions of uv's cache (UV_CACHE_DIR). Without a network, set UV_OFFLINE=1 to use only that cache."
)
#: Gigabytes of a new environment, if uv cannot share the files of its cache.
SIZE = 0.4


@dataclass(frozen=True)
class Environment:
    """
    A Python environment.

    :param python: the path of its interpreter, with symbolic links. A resolved path would leave the
        environment.
    """

    python: Path

    @property
    def airflow(self) -> Path:
        """The path of the environment's ``airflow`` command."""
        return self.python.parent / "airflow"


def uv() -> Path:
    """
    Return the path of uv: in the folder of this Python interpreter, else on ``PATH``.

    :raises Problem: if it is not found.
    """
    return program("uv", "Install it: python -m pip install uv.")


def _candidates(version: str) -> Iterator[str]:
    yield getattr(sys, "_base_executable", sys.executable)
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        yield str(Path(folder) / f"python{version}")
    pyenv = Path(os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))) / "versions"
    yield from (str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True))


def interpreter(version: str) -> Path | None:
    """
    Return an installed interpreter of a Python version, or ``None`` if none works.

    The candidates are the interpreter of this process, ``pythonX.Y`` on ``PATH``, and pyenv's interpreters,
    because its shims do not run every version.

    :param version: the version, as in ``3.11``.
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
    Return the inputs that determine the packages in an environment of a pair, one per line.

    :param python: the Python version, as in ``3.11``.
    :param packages: the packages in addition to Airflow.
    """
    return "\n".join([python, str(pair.exclude_newer), *_wanted(pair, packages)])


def make(
    pair: Pair,
    python: str,
    folder: Path,
    progress: Progress | None = None,
    *,
    packages: Sequence[str] = EXTRAS,
    then: Callable[[Environment], None] = lambda environment: None,
) -> Environment:
    """
    Return an environment with a pair of stock releases. It is created if it does not exist.

    Other processes and threads wait meanwhile if they want the same environment.

    :param python: the Python version, as in ``3.11``.
    :param folder: the folder of the environment. Other content of the folder is removed.
    :param packages: the packages in addition to Airflow.
    :param then: changes the packages of the environment before others may have it.
    :raises Problem: if that Python or the disk space is missing, or the packages cannot be installed; the
        folder is then removed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        environment = _make(pair, python, folder, progress or Silent(), packages)
        then(environment)
    return environment


def _make(pair: Pair, python: str, folder: Path, progress: Progress, packages: Sequence[str]) -> Environment:
    spec = specification(pair, python, packages)
    marker = folder / ".ready"
    environment = Environment(folder / "bin" / "python")
    if marker.exists() and marker.read_text() == spec:
        return environment
    base = interpreter(python)
    if base is None:
        raise Problem(
            f"Python {python} is not installed.", "Install it, or choose another version.", Exit.USAGE
        )
    shutil.rmtree(folder, ignore_errors=True)
    preconditions.free_space(folder, SIZE)
    try:
        with progress.task(f"installing Airflow {pair.core.version} with FAB {pair.fab.version}"):
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
    Mark an environment as incomplete during a ``with`` block that changes its packages.

    If the block fails or its process is killed, the environment stays incomplete, and the next call of
    :func:`make` creates it again.

    :param folder: the folder of the environment.
    """
    marker = folder / ".ready"
    aside = marker.rename(folder / ".changing")
    yield
    aside.rename(marker)


def install(environment: Environment, arguments: Sequence[str | Path]) -> None:
    """
    Run ``uv pip install`` in an environment that this tool created.

    The index is ``UV_DEFAULT_INDEX``, ``UV_INDEX_URL`` or ``PIP_INDEX_URL``, else that of uv's configuration.

    :raises Problem: if uv fails.
    """
    run(
        [uv(), "pip", "install", "--quiet", "--python", environment.python, *arguments],
        # uv does not read the variable of pip.
        env={"UV_DEFAULT_INDEX": index_settings.indexes("")[0]} if os.environ.get("PIP_INDEX_URL") else None,
        timeout=900,
        remedy=INDEX_REMEDY,
    )
