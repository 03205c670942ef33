"""`apply` and `revert` as processes: what they say is what is there, whatever becomes of the installer."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_auth_patches.contribute.expected import Subject, expect
from airflow_auth_patches.demo.listening import blob
from airflow_auth_patches.installation import apply as patching
from airflow_auth_patches.installation import environments, installed
from airflow_auth_patches.installation.status import status
from airflow_auth_patches.releases import fetching
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.processes import run
from airflow_auth_patches.util.progress import Silent

TOOL = Path(sys.executable).parent / "airflow-auth-patches"
CORE, FAB = "apache-airflow-core", "apache-airflow-providers-fab"
PLAIN = {CORE: "3.1.6", FAB: "3.3.0"}

#: Stands where pip begins, in the environment's own pip: what `body` does comes before pip, or in its place.
BEGIN = """
import os, pathlib, shutil, signal, sys
calls = pathlib.Path({calls!r})
call = int(calls.read_text()) + 1 if calls.exists() else 1
calls.write_text(str(call))
site = pathlib.Path(__file__).parents[1]
def harm():
    shutil.rmtree(next(site.glob("apache_airflow_providers_fab-*.dist-info")))
{body}
from pip._internal.cli.main import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def stock(tmp_path_factory, pins) -> Path:
    """Return the python of an environment with the two distributions and pip, and nothing else."""
    folder = tmp_path_factory.mktemp("stock") / "env"
    run([sys.executable, "-m", "venv", "--copies", folder])
    wheels = [fetching.fetch(pins.release(f"{name}=={version}"), "wheel") for name, version in PLAIN.items()]
    python = folder / "bin/python"
    words = ["--no-index", "--no-deps", "--link-mode", "copy", "--python", python]
    run([environments.uv(), "pip", "install", "--quiet", *words, *wheels])
    return python


@pytest.fixture
def python(stock: Path, pins, tmp_path: Path) -> Iterator[Path]:
    """Return the interpreter of a stock environment; its pip is whole again afterwards."""
    begin = next(stock.parents[1].glob("lib/*/site-packages/pip/__main__.py"))
    content = begin.read_bytes()
    yield stock
    begin.write_bytes(content)
    wheels = [fetching.fetch(pins.release(f"{name}=={version}"), "wheel") for name, version in PLAIN.items()]
    words = ["--no-index", "--no-deps", "--reinstall", "--link-mode", "copy", "--python", stock]
    run([environments.uv(), "pip", "install", "--quiet", *words, *wheels])


def sabotage(python: Path, calls: Path, body: str) -> None:
    begin = next(python.parents[1].glob("lib/*/site-packages/pip/__main__.py"))
    begin.write_text(BEGIN.format(calls=str(calls), body=body))


def tool(*words: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the tool in a session of its own."""
    return subprocess.run(
        [TOOL, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, **settings},
        start_new_session=True,
    )


def versions(python: Path, pins) -> dict[str, str]:
    return {found.distribution.name: found.version for found in installed.look(python, pins).found}


def whole(python: Path, pins) -> bool:
    return not any(installed.changed_files(found) for found in installed.look(python, pins).found)


@pytest.mark.parametrize("name", ["PIP_DRY_RUN", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_CONFIG_FILE"])
def test_the_operators_settings_of_pip_do_not_lead_elsewhere(python, pins, tmp_path, name):
    elsewhere = tmp_path / "elsewhere"
    value = "1" if name == "PIP_DRY_RUN" else f"{elsewhere}"
    if name == "PIP_CONFIG_FILE":
        config = tmp_path / "pip.conf"
        config.write_text(f"[install]\ntarget = {elsewhere}\n")
        value = f"{config}"
    done = tool("apply", "--python", python, **{name: value})
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert versions(python, pins) == {key: f"{value}+{pins.label}" for key, value in PLAIN.items()}
    assert whole(python, pins)
    assert not elsewhere.exists()


@pytest.mark.parametrize("name", ["UV_REQUIRE_HASHES", "UV_CONFIG_FILE"])
def test_nor_those_of_uv(pins, tmp_path, name):
    python, elsewhere, config = tmp_path / "env/bin/python", tmp_path / "elsewhere", tmp_path / "uv.toml"
    run([environments.uv(), "venv", "--quiet", "--python", sys.executable, tmp_path / "env"])
    wheels = [fetching.fetch(pins.release(f"{key}=={value}"), "wheel") for key, value in PLAIN.items()]
    words = ["--no-index", "--no-deps", "--python", python]
    run([environments.uv(), "pip", "install", "--quiet", *words, *wheels])
    config.write_text(f'[pip]\ntarget = "{elsewhere}"\n')
    done = tool("apply", "--python", python, **{name: f"{config}" if name == "UV_CONFIG_FILE" else "1"})
    assert done.returncode == 0, done.stderr
    assert versions(python, pins) == {key: f"{value}+{pins.label}" for key, value in PLAIN.items()}
    assert not elsewhere.exists()


@pytest.mark.parametrize("body", ["sys.exit()", "if call == 1: harm(); sys.exit()"])
def test_an_installer_that_only_says_so_is_no_success(python, pins, tmp_path, body):
    sabotage(python, tmp_path / "calls", body)
    done = tool("apply", "--python", python)
    assert done.returncode == Exit.FAILED
    assert (
        "apache_airflow_core 3.1.6+authpatches.1 was not installed: the installed version is 3.1.6."
        in done.stderr
    )
    assert "The previous installation was restored." in done.stderr
    assert versions(python, pins) == PLAIN
    assert whole(python, pins)


def test_an_installer_that_changes_nothing_leaves_nothing_to_put_back(python, pins, tmp_path):
    sabotage(python, tmp_path / "calls", "sys.exit(1)")
    done = tool("apply", "--python", python, TMPDIR=f"{tmp_path}")
    assert done.returncode == Exit.FAILED
    assert "The previous installation was restored." in done.stderr
    assert versions(python, pins) == PLAIN
    assert [path.name for path in tmp_path.iterdir()] == ["calls"]


def test_where_all_is_thrown_away_nothing_is_put_back(python, project, pins, tmp_path):
    sabotage(python, tmp_path / "calls", "harm(); sys.exit(1)")
    planned = patching.plan(python, project, pins, ["session-cleanup"])
    with pytest.raises(Problem):
        patching.apply(planned, pins, put_back=False)
    assert (tmp_path / "calls").read_text() == "1"


def test_a_revert_that_the_installer_only_says_is_no_success(python, project, pins, tmp_path):
    patching.apply(patching.plan(python, project, pins), pins)
    sabotage(python, tmp_path / "calls", "sys.exit()")
    done = tool("revert", "--python", python)
    assert done.returncode == Exit.FAILED
    assert (
        "apache_airflow_core 3.1.6 was not installed: the installed version is 3.1.6+authpatches.1."
        in done.stderr
    )
    assert "The previous installation was restored." in done.stderr


@pytest.mark.parametrize("last", ["sys.exit()", "sys.exit(1)"])
def test_what_could_not_be_put_back_is_kept_for_the_hand(python, project, pins, tmp_path, last):
    patching.apply(patching.plan(python, project, pins, ["session-cleanup"]), pins)
    before = versions(python, pins)
    sabotage(python, tmp_path / "calls", f"if call == 1: harm(); sys.exit(1)\nif call == 2: {last}")
    done = tool("apply", "--python", python, TMPDIR=f"{tmp_path}")
    assert done.returncode == Exit.FAILED
    assert "was restored" not in done.stderr
    assert "could not be restored" in done.stderr
    words = shlex.split(done.stderr.rpartition("Restore it by hand: ")[2])
    assert FAB.replace("-", "_") in words[-1]
    subprocess.run(words, check=True, timeout=120)
    assert versions(python, pins) == before
    assert whole(python, pins)


#: Interrupt pip where it has taken a release away and not put the other there yet.
MIDST = """
import pip._internal.req.req_install as req_install
def uninstall(*words, take=req_install.InstallRequirement.uninstall, **named):
    taken = take(*words, **named)
    for process in (os.getpid(), os.getppid()) * 2:
        os.kill(process, {number})
    return taken
req_install.InstallRequirement.uninstall = uninstall
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_no_signal_ends_the_installer(python, pins, tmp_path, number):
    """After repeated Ctrl-C, for the tool and its pip, only the previous installation is there."""
    (site,) = python.parents[1].glob("lib/*/site-packages")
    sabotage(python, tmp_path / "calls", MIDST.format(number=int(number)))
    done = tool("apply", "--python", python, TMPDIR=f"{tmp_path}")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (128 + number, "Interrupted.")
    assert (tmp_path / "calls").read_text() == "2"
    assert versions(python, pins) == PLAIN
    assert whole(python, pins)
    assert list(site.rglob("~*")) == []  # what a pip that is ended leaves
    assert [path.name for path in tmp_path.iterdir()] == ["calls"]


def test_what_could_not_be_put_back_is_told_though_interrupted(python, pins, tmp_path):
    interrupted = f"os.kill(os.getppid(), {int(signal.SIGINT)}); sys.exit(1)"
    sabotage(python, tmp_path / "calls", f"if call == 1: harm()\n{interrupted}")
    done = tool("apply", "--python", python, TMPDIR=f"{tmp_path}")
    assert done.returncode == Exit.FAILED
    assert "Restore it by hand: " in done.stderr


@pytest.mark.parametrize("fault", ["missing", "not JSON", "not text", "another form", "no manifest"])
def test_revert_needs_nothing_of_what_is_installed(python, project, pins, fault):
    patching.apply(patching.plan(python, project, pins), pins)
    found = next(each for each in installed.look(python, pins).found if each.distribution.name == FAB)
    manifest = next(found.site.glob("apache_airflow_providers_fab-*.dist-info/AUTH_PATCHES.json"))
    if fault == "missing":
        (found.site / next(iter(found.manifest["files"]))).unlink()
    elif fault == "no manifest":
        manifest.unlink()
    else:
        manifest.write_bytes(
            {"not JSON": b'{"patches": [', "not text": b"\xff\xfe", "another form": b'{"patches": [1]}'}[
                fault
            ]
        )
    told = json.loads(tool("status", "--python", python, "--json").stdout)
    refused = tool("apply", "--python", python)
    assert refused.returncode == Exit.REFUSED
    if fault == "missing":
        assert told[1]["state"] == "changed"
    else:
        (note,) = told[1]["notes"]
        assert "is missing or damaged" in note
        assert "airflow-auth-patches revert" in note
        assert note.split()[:2] == refused.stderr.split()[:2]
    done = tool("revert", "--python", python)
    assert done.returncode == 0, done.stderr
    assert versions(python, pins) == PLAIN
    assert whole(python, pins)


def test_revert_looks_at_nothing_but_what_it_reverts(python, project, pins):
    patching.apply(patching.plan(python, project, pins, ["session-cleanup"]), pins)
    core = installed.look(python, pins).found[0]
    (core.site / "airflow/settings.py").write_text("# by hand\n")
    done = tool("revert", "--python", python)
    assert done.returncode == 0, done.stderr
    assert versions(python, pins) == PLAIN
    shutil.rmtree(core.site / "airflow/api")
    assert tool("revert", "--python", python).stdout.strip() == "Nothing is patched: nothing to do."


ADDED, EDITED = "airflow/request_limits/admission.py", "airflow/settings.py"
TEXT = "LIMIT = 1\n"


@pytest.fixture
def addition(project, pins, adding):
    """Return a series of one patch, which adds a file in a new package and edits another."""
    stock = fetching.sources(pins.release(f"{CORE}=={PLAIN[CORE]}"))[f"airflow-core/src/{EDITED}"].decode()
    files = {f"airflow-core/src/{ADDED}": TEXT, f"airflow-core/src/{EDITED}": f"{stock}# edited\n"}
    patch = adding(f"{CORE}=={PLAIN[CORE]}", files)
    return dataclasses.replace(project, patches=(patch,))


def files_of(python: Path) -> set[str]:
    """Return the files of the packages of an environment, compiled ones and dist-info aside."""
    (site,) = python.parents[1].glob("lib/*/site-packages")
    found = {path.relative_to(site) for path in (site / "airflow").rglob("*")}
    return {path.as_posix() for path in found if "__pycache__" not in path.parts}


@pytest.fixture(params=["pip", "uv"])
def either(request, python, tmp_path) -> Path:
    """Return the interpreter of a stock environment with pip, and of one without, where uv installs."""
    if request.param == "pip":
        return python
    run([environments.uv(), "venv", "--quiet", "--python", sys.executable, tmp_path / "env"])
    words = ["--no-index", "--no-deps", "--link-mode", "copy", "--python", tmp_path / "env/bin/python"]
    wheels = [
        fetching.cache_folder() / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
        for name, version in PLAIN.items()
    ]
    run([environments.uv(), "pip", "install", "--quiet", *words, *wheels])
    return tmp_path / "env/bin/python"


def test_revert_removes_an_added_file(either, addition, pins):
    before = files_of(either)
    patching.apply(patching.plan(either, addition, pins), pins)
    assert files_of(either) - before == {ADDED, "airflow/request_limits"}
    core = installed.look(either, pins).found[0]
    assert (core.site / ADDED).read_text() == TEXT
    assert core.manifest["files"][ADDED]["before"] is None
    assert core.manifest["files"][EDITED]["before"]
    assert whole(either, pins)
    assert patching.plan(either, addition, pins).pending == ()
    expected = expect(Subject(python=either, patches=["added-module"]), addition, pins, Silent()).files
    assert expected[ADDED] == blob(TEXT.encode())
    patching.revert(either, pins)
    assert files_of(either) == before
    assert versions(either, pins) == PLAIN
    assert whole(either, pins)


def test_verify_expects_what_apply_takes(python, project, pins):
    wanted = patching.plan(python, project, pins)
    patching.apply(wanted, pins)
    taken = {patch.slug for step in wanted.steps for patch in step.patched.patches}
    assert {*expect(Subject(python=python), project, pins, Silent()).patches} == taken


@pytest.mark.parametrize("fault", ["changed", "missing"])
def test_status_finds_an_added_file_that_is_not_what_it_should_be(python, addition, pins, tmp_path, fault):
    patching.apply(patching.plan(python, addition, pins), pins)
    core = installed.look(python, pins).found[0]
    if fault == "missing":
        (core.site / ADDED).unlink()
    else:
        (core.site / ADDED).write_text("")
    row = status(python, addition, pins)[0]
    assert (row.state, row.notes[0]) == ("changed", f"{ADDED} is {fault}")
    with pytest.raises(Problem, match=f"{ADDED} is {fault}"):
        patching.plan(python, addition, pins)
    with zipfile.ZipFile(installed.as_wheel(core, tmp_path / "as-it-is")) as wheel:
        assert (ADDED in wheel.namelist()) is (fault == "changed")
        assert fault == "missing" or wheel.read(ADDED) == b""
    before = files_of(python) - {ADDED, "airflow/request_limits"}
    patching.revert(python, pins)
    assert files_of(python) - {"airflow/request_limits"} == before
    assert whole(python, pins)


def test_the_diff_of_an_added_file_is_from_and_to_nowhere(python, addition, project, pins):
    (step,) = patching.plan(python, addition, pins).steps
    assert f"--- /dev/null\n+++ {ADDED}\n@@ -0,0 +1 @@\n+{TEXT}" in step.diff()
    assert f"--- {EDITED}\n+++ {EDITED}\n" in step.diff()
    patching.apply(patching.plan(python, addition, pins), pins)
    (step, _) = patching.plan(python, project, pins).steps
    assert f"--- {ADDED}\n+++ /dev/null\n@@ -1 +0,0 @@\n-{TEXT}" in step.diff()


def test_another_file_in_the_place_of_an_added_one_is_refused(python, addition, pins):
    (site,) = python.parents[1].glob("lib/*/site-packages")
    file = site / ADDED
    file.parent.mkdir()
    try:
        file.write_text("MINE = 1\n")
        with pytest.raises(Problem, match="the patches add a file with that name") as refused:
            patching.plan(python, addition, pins)
        assert refused.value.exit_code is Exit.REFUSED
        assert file.read_text() == "MINE = 1\n"
        file.write_text(TEXT)
        assert patching.plan(python, addition, pins).pending
    finally:
        shutil.rmtree(file.parent)


#: Pip does its work in the first call, and says that it failed.
INSTALLS_AND_FAILS = """
if call == 1:
    from pip._internal.cli.main import main
    main()
    sys.exit(1)
"""


def test_a_revert_that_fails_puts_an_added_file_back(python, addition, pins, tmp_path):
    patching.apply(patching.plan(python, addition, pins), pins)
    sabotage(python, tmp_path / "calls", INSTALLS_AND_FAILS)
    done = tool("revert", "--python", python)
    assert done.returncode == Exit.FAILED
    assert "The previous installation was restored." in done.stderr
    assert (tmp_path / "calls").read_text() == "2"
    assert (installed.look(python, pins).found[0].site / ADDED).read_text() == TEXT
    assert whole(python, pins)
