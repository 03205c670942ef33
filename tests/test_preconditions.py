"""In an environment that lacks something, a command ends early with a clear message."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from airflow_auth_patches.demo.ports import port_of, reserve_port
from airflow_auth_patches.util.errors import Exit

#: The programs that the Makefile needs besides Python and git.
PROGRAMS = ("make", "sh", "awk", "touch", "rm")
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0"}
CLOSED = "http://127.0.0.1:9/simple"


@pytest.fixture(params=["plain", "two words ż"])
def checkout(root: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return a checkout without an environment, in a path with and without special characters."""
    folder = tmp_path / request.param
    shutil.copytree(root / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(root / name, folder)
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a folder for ``PATH`` that has neither Python nor git."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in PROGRAMS:
        (folder / name).symlink_to(str(shutil.which(name)))
    return folder


def make(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *words],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("target", ["setup", "demo"])
def test_missing_python_is_named_with_a_remedy(checkout, path, target):
    done = make(checkout, target, PATH=str(path))
    assert done.returncode == 2
    assert done.stderr.startswith(
        "Python 3.11 or 3.12 was not found.\n"
        "Install one of them, or name it: make setup PYTHON=/path/to/python3.12\n"
    )
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("target", ["test", "test-quick"])
def test_missing_git_is_named_before_anything_is_installed(checkout, path, target):
    done = make(checkout, target, PATH=str(path), PYTHON=sys.executable)
    assert done.returncode == 2
    assert done.stderr.startswith("git was not found.\nInstall it, or put it on PATH.\n")
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("checkout", ["plain"], indirect=True)
def test_unreachable_index_is_named_with_a_remedy(checkout):
    variables = {"PIP_INDEX_URL": CLOSED, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
    done = make(checkout, "setup", PYTHON=sys.executable, **variables)
    assert done.returncode == 2
    assert "pip could not install uv: see the error above.\nCheck the network" in done.stderr
    assert not (checkout / ".venv/.ready").exists()


def test_environment_works_in_an_ascii_locale(checkout):
    """An editable install names the checkout in a file that Python reads in the encoding of the locale."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", checkout / ".venv"], check=True)
    (site,) = (checkout / ".venv/lib").glob("python*/site-packages")
    paths = [str(checkout / "src"), *(place for place in sys.path if place.endswith("site-packages"))]
    (site / "editable.pth").write_text("\n".join(paths), encoding="utf-8")
    (checkout / ".venv/.ready").touch()
    done = make(checkout, "test-quick", "ARGS=--version", **ASCII)
    assert (done.returncode, done.stderr) == (0, "")
    assert "pytest " in done.stdout


@pytest.mark.parametrize("locale", [ASCII, {"LC_ALL": "POSIX"}])
def test_table_is_printed_in_an_ascii_locale(locale):
    tool = Path(sys.executable).parent / "airflow-auth-patches"
    done = subprocess.run(
        [tool, "list"], env={**os.environ, **locale}, capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"session-cleanup" in done.stdout


def python(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("checkout", ["plain"], indirect=True)
def test_too_little_disk_space_is_named_before_anything_is_installed(checkout):
    words = [sys.executable, "-m", "airflow_auth_patches.util.preconditions", "1000000"]
    done = subprocess.run(words, cwd=checkout, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == Exit.REFUSED
    assert "GB free, but 1e+06 GB are needed. Free some disk space" in done.stderr


ON_A_FULL_DISK = """
from pathlib import Path
from airflow_auth_patches import cli

cli.app = lambda: Path("/dev/full").write_text("text")
cli.main()
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_full_disk_is_reported_in_one_sentence():
    done = python(ON_A_FULL_DISK)
    assert done.returncode == Exit.FAILED
    assert done.stderr == "No space left on device.\nFree some disk space and run it again.\n"


WITHOUT_USER_NAME = """
import os
from pathlib import Path
from airflow_auth_patches import cli
from airflow_auth_patches.demo.postgresql import PostgreSQL

os.seteuid(12345)
cli.app = lambda: PostgreSQL(Path(os.environ["FOLDER"]) / "database")
cli.main()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user id")
def test_user_without_a_name_is_refused_by_the_database():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        done = python(WITHOUT_USER_NAME, FOLDER=folder)
    assert done.returncode == Exit.USAGE
    assert done.stderr.startswith("PostgreSQL cannot run as the user id 12345, which has no user name.\n")


def test_reserved_port_is_not_given_to_another_server():
    random.seed(1)
    with reserve_port() as first:
        random.seed(1)
        with reserve_port() as second:
            assert port_of(first) != port_of(second)
