"""Run core's tests from a checkout against the installed core, without a change of the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases.checkout import commit_of
from airflow_auth_patches.releases.releases import CORE
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.verification import core_tests
from airflow_auth_patches.verification.run_pytest import tally

#: As upstream's: it runs before Airflow is imported, and lets uv write a file.
PLUGIN = """
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]
subprocess.check_call(["uv", "run", str(ROOT / "scripts/generate.py")])


def pytest_addoption(parser):
    parser.addoption("--with-db-init", action="store_true")
"""
GENERATE = """
import json, os, sys
from pathlib import Path

file = Path(__file__).parents[1] / "generated.json"
file.write_text(json.dumps([sys.executable, dict(os.environ)]))
"""
TESTS = """
import os
from pathlib import Path

import airflow


def test_imports_what_is_installed(request):
    assert airflow.INSTALLED
    assert Path(airflow.__file__).parents[3] == request.config.rootpath


def test_starts_with_an_empty_home():
    home = Path(os.environ["AIRFLOW_HOME"])
    assert list(home.iterdir()) == []
    (home / "left").touch()


def test_cured_by_a_patch():
    assert airflow.INSTALLED == "patched"
"""
UTILITY = "def f(session):\n    add_default_pool_if_not_exists(session)\n"
FILES = {
    "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["airflow-core/src", "airflow-core/tests"]\n',
    "airflow-core/src/airflow/__init__.py": "raise RuntimeError('not the installed package')\n",
    "airflow-core/src/airflow/only_in_the_checkout.py": "",
    "airflow-core/tests/unit/__init__.py": "",
    "airflow-core/tests/unit/api_fastapi/test_api.py": TESTS,
    "airflow-core/tests/unit/models/test_revoked_token.py": "def test_of_the_model():\n    pass\n",
    "airflow-core/tests/unit/models/test_pool.py": "def test_of_what_no_patch_touches():\n    assert False\n",
    "devel-common/src/tests_common/__init__.py": "",
    "devel-common/src/tests_common/pytest_plugin.py": PLUGIN,
    "devel-common/src/tests_common/test_utils/db.py": UTILITY,
    "scripts/generate.py": GENERATE,
}


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository unpacked as Airflow's, with a change that is not committed."""
    folder = tmp_path_factory.mktemp("airflow")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    # `git archive` leaves such files out: the layout must not.
    (folder / ".gitattributes").write_text("devel-common export-ignore\n")
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=as upstream has it")
    git(folder, "switch", "--quiet", "--create=without-tests")
    git(folder, "rm", "-r", "--quiet", "airflow-core/tests")
    git(folder, "commit", "--quiet", "--message=without tests")
    git(folder, "switch", "--quiet", "main")
    (folder / "pyproject.toml").write_text("[broken\n")
    git(folder, "add", "--all")
    return folder


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Up Stream", "-c", "user.email=up@example.org")
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


@pytest.fixture(scope="module", params=["stock", "patched"])
def environment(request, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return an environment with a package `airflow` that says which it is, and this one's pytest."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "ours.pth").write_text(sysconfig.get_path("purelib"))
    (site / "airflow").mkdir()
    (site / "airflow/__init__.py").write_text(f"INSTALLED = {request.param!r}\n")
    return Environment(folder / "bin/python")


@pytest.fixture
def unpacked(airflow, environment, pins, tmp_path) -> Path:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    (folder / "left.py").touch()
    core_tests.unpack(airflow, commit_of(airflow, pins.find(CORE, "3.3.2")), environment, folder)
    return folder


def test_tests_run_with_the_installed_package_and_a_home_of_their_own(unpacked, environment, monkeypatch):
    monkeypatch.setenv("AIRFLOW_HOME", "/nonexistent")
    outcomes = core_tests.run(unpacked, environment, [core_tests.ROOT])
    kind = {name.rpartition("::")[2]: outcome.partition(":")[0] for name, outcome in outcomes.items()}
    patched = "patched" in (unpacked / "airflow-core/src/airflow/__init__.py").read_text()
    assert kind == {
        "test_imports_what_is_installed": "passed",
        "test_starts_with_an_empty_home": "passed",
        "test_cured_by_a_patch": "passed" if patched else "failed",
        "test_of_the_model": "passed",
        "test_of_what_no_patch_touches": "failed",
    }
    python, variables = json.loads((unpacked / "generated.json").read_text())
    assert python == str(environment.python)
    assert variables["HOME"] == variables["AIRFLOW_HOME"] != os.environ.get("HOME")
    chosen = core_tests.run(unpacked, environment, [core_tests.ROOT], "of_the_model")
    assert tally(chosen) == {"passed": 1}


def test_unpack_takes_the_commit_and_leaves_the_checkout_unchanged(airflow, unpacked, project, pins):
    assert (unpacked / "pyproject.toml").read_text() == FILES["pyproject.toml"]
    assert not (unpacked / "airflow-core/src/airflow/only_in_the_checkout.py").exists()
    assert not (unpacked / "left.py").exists()
    assert git(airflow, "status", "--porcelain") == "M  pyproject.toml\n"
    # Since 3.3.0 this function takes no positional argument.
    utility = (unpacked / "devel-common/src/tests_common/test_utils/db.py").read_text()
    assert utility == UTILITY.replace("(session)\n", "(session=session)\n")
    # Tests of a patched module, all tests of the API, and no test that the commit does not have.
    chosen = core_tests.paths(unpacked, project.serving(pins.find(CORE, "3.3.2")))
    assert chosen == [f"{core_tests.ROOT}/{each}" for each in ("api_fastapi", "models/test_revoked_token.py")]


def test_refuses_commit_without_tests_of_core(airflow, environment, pins, tmp_path):
    commit = commit_of(airflow, pins.find(CORE, "3.3.2"), "without-tests")
    with pytest.raises(Problem, match=r"has no airflow-core/tests/unit") as raised:
        core_tests.unpack(airflow, commit, environment, tmp_path / "unpacked")
    assert raised.value.exit_code == Exit.USAGE
    assert not (tmp_path / "unpacked").exists()
