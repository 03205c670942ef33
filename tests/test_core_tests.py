"""Core's own tests from a checkout run against what is installed, and leave the checkout as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from airflow_auth_patches.cli import app
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases.checkout import commit_of
from airflow_auth_patches.releases.releases import CORE
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.verification import core_tests
from airflow_auth_patches.verification.run_pytest import tally

#: As upstream's: it begins before Airflow is imported, and has uv write a file.
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
    "airflow-core/src/airflow/__init__.py": "raise RuntimeError('not what is installed')\n",
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
    core_tests.unpack(
        airflow, commit_of(airflow, pins.find(CORE, "3.3.2")), environment, tmp_path / "unpacked"
    )
    return tmp_path / "unpacked"


def test_the_tests_run_against_what_is_installed(unpacked, environment, monkeypatch):
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


def test_what_upstream_has_uv_run_is_run_with_the_environment(unpacked, environment):
    core_tests.run(unpacked, environment, [core_tests.ROOT], "of_the_model")
    python, variables = json.loads((unpacked / "generated.json").read_text())
    assert python == str(environment.python)
    assert variables["HOME"] == variables["AIRFLOW_HOME"] != os.environ.get("HOME")


def test_an_expression_chooses(unpacked, environment):
    assert tally(core_tests.run(unpacked, environment, [core_tests.ROOT], "of_the_model")) == {"passed": 1}


def test_only_what_is_committed_is_unpacked_and_the_checkout_is_as_it_was(airflow, unpacked):
    assert (unpacked / "pyproject.toml").read_text() == FILES["pyproject.toml"]
    assert not (unpacked / "airflow-core/src/airflow/only_in_the_checkout.py").exists()
    assert git(airflow, "status", "--porcelain") == "M  pyproject.toml\n"


def test_utilities_call_a_newer_release_by_keyword(unpacked):
    """Since 3.3.0 the function takes no positional argument."""
    text = (unpacked / "devel-common/src/tests_common/test_utils/db.py").read_text()
    assert text == UTILITY.replace("(session)\n", "(session=session)\n")


def test_unpacking_again_replaces_the_first(airflow, unpacked, environment, pins):
    (unpacked / "left.py").touch()
    core_tests.unpack(airflow, commit_of(airflow, pins.find(CORE, "3.3.2")), environment, unpacked)
    assert not (unpacked / "left.py").exists()


def test_the_tests_of_patched_files_are_chosen(unpacked, project, pins):
    """Those of a patched module, all of the API's, and none that the checkout does not have."""
    chosen = core_tests.paths(unpacked, project.serving(pins.find(CORE, "3.3.2")))
    assert chosen == [f"{core_tests.ROOT}/{each}" for each in ("api_fastapi", "models/test_revoked_token.py")]


def test_a_commit_without_tests_of_core_is_refused(airflow, environment, pins, tmp_path):
    git(airflow, "stash", "--quiet")
    git(airflow, "switch", "--quiet", "--create=without")
    git(airflow, "rm", "-r", "--quiet", "airflow-core/tests")
    git(airflow, "commit", "--quiet", "--message=without tests")
    try:
        commit = commit_of(airflow, pins.find(CORE, "3.3.2"), "without")
        with pytest.raises(Problem, match=r"has no airflow-core/tests/unit") as raised:
            core_tests.unpack(airflow, commit, environment, tmp_path / "unpacked")
    finally:
        git(airflow, "switch", "--quiet", "main")
        git(airflow, "branch", "--quiet", "-D", "without")
        git(airflow, "stash", "pop", "--quiet", "--index")
    assert raised.value.exit_code == Exit.USAGE
    assert not (tmp_path / "unpacked").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "models"], "Name a checkout with --checkout."),
        (["--at", "3.2.0"], "Name a checkout with --checkout."),
        (["--checkout", "."], "Name it with --pair."),
        (
            ["--checkout", ".", "--pair", "3.3.2+3.10.2", "--pair", "3.2.0+3.6.0"],
            "Name it with --pair.",
        ),
    ],
)
def test_words_that_do_not_go_together_are_refused(words, said):
    refused = CliRunner().invoke(app, ["test-upstream", *words]).exception
    assert isinstance(refused, Problem)
    assert refused.exit_code == Exit.USAGE
    assert said in str(refused)
