"""`apply` and `revert` are transactions, also if the installer fails, is wrong, or is interrupted."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from airflow_auth_patches.contribute.expected import Subject, expect
from airflow_auth_patches.installation import apply as patching
from airflow_auth_patches.installation import installed, records
from airflow_auth_patches.installation.listening import blob
from airflow_auth_patches.installation.status import status
from airflow_auth_patches.releases import fetching
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.progress import Silent

TOOL = Path(sys.executable).parent / "airflow-auth-patches"
CORE, FAB = "apache-airflow-core", "apache-airflow-providers-fab"
PLAIN = {CORE: "3.1.6", FAB: "3.3.0"}
SLUG = "session-cleanup"
RESTORED = "The previous installation was restored."

#: Replaces the start of the environment's own pip; `body` runs first.
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
def patched_once(stock_airflow, tmp_path_factory, project, pins) -> Path:
    folder = shutil.copytree(stock_airflow, tmp_path_factory.mktemp("patched") / "env", symlinks=True)
    patching.apply(patching.plan(folder / "bin/python", project, pins, [SLUG]), pins)
    return folder


@pytest.fixture
def patched(patched_once, tmp_path) -> Path:
    """Return the python of an environment in which the provider has one patch."""
    shutil.copytree(patched_once, tmp_path / "env", symlinks=True, copy_function=os.link)
    return tmp_path / "env/bin/python"


@pytest.fixture(params=["pip", "uv"])
def either(request, stock_python) -> Path:
    """Return the python of a stock environment with pip, and of one in which uv installs."""
    if request.param == "uv":
        shutil.rmtree(site(stock_python) / "pip")
    return stock_python


def site(python: Path) -> Path:
    (found,) = python.parents[1].glob("lib/*/site-packages")
    return found


def write(path: Path, text: str | bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)


def sabotage(python: Path, body: str) -> Path:
    """Run code before the environment's pip; return a file with the number of calls."""
    calls = python.parents[2] / "calls"
    write(site(python) / "pip/__main__.py", BEGIN.format(calls=str(calls), body=body))
    return calls


def tool(command: str, python: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the tool in its own session, with temporary files in `tmp`, next to the environment."""
    temporary = python.parents[2] / "tmp"
    temporary.mkdir(exist_ok=True)
    return subprocess.run(
        [TOOL, command, "--python", python, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "TMPDIR": f"{temporary}", **settings},
        start_new_session=True,
    )


def apply(python: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return tool("apply", python, "--patch", SLUG, **settings)


@pytest.fixture
def with_patch(project, pins) -> str:
    """Return the version of the provider with the one patch."""
    release = pins.release(f"{FAB}=={PLAIN[FAB]}")
    return f"{PLAIN[FAB]}+{patching.patched(project, release, [SLUG]).label(pins.label)}"


def whole(python: Path, pins, fab: str = PLAIN[FAB]) -> bool:
    """Check the versions and the files of both distributions, and that no temporary file is left."""
    found = installed.look(python, pins).found
    versions = {each.distribution.name: each.version for each in found}
    left = [*site(python).rglob("~*"), *site(python).glob(".*"), *(python.parents[2] / "tmp").glob("*")]
    return versions == {**PLAIN, FAB: fab} and not any(map(records.changed_files, found)) and not left


def test_settings_of_pip_and_uv_have_no_effect(either, pins, tmp_path, with_patch):
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "pip.conf").write_text(f"[install]\ntarget = {elsewhere}\n")
    (tmp_path / "uv.toml").write_text(f'[pip]\ntarget = "{elsewhere}"\n')
    settings = dict.fromkeys(("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"), f"{elsewhere}")
    settings |= {"PIP_DRY_RUN": "1", "PIP_CONFIG_FILE": f"{tmp_path / 'pip.conf'}"}
    settings |= {"UV_REQUIRE_HASHES": "1", "UV_CONFIG_FILE": f"{tmp_path / 'uv.toml'}"}
    done = apply(either, **settings)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert whole(either, pins, with_patch)
    assert not elsewhere.exists()


@pytest.mark.operator_task(7, "Let pip fail during `apply`", "`apply`")
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "sys.exit()",
            r"3\.3\.0\+authpatches\.2\.x\w{8} was not installed: the installed version is 3\.3\.0\.",
        ),
        ("if call == 1: harm(); sys.exit()", "was not installed"),
        ("sys.exit(1)", "failed"),
    ],
    ids=["does nothing", "does harm", "fails"],
)
def test_restores_when_the_installer_does_not_install(stock_python, pins, body, said):
    sabotage(stock_python, body)
    done = apply(stock_python)
    assert done.returncode == Exit.FAILED
    assert re.search(said, done.stderr)
    assert RESTORED in done.stderr
    assert whole(stock_python, pins)


def test_does_not_restore_an_environment_that_is_discarded(stock_python, project, pins):
    calls = sabotage(stock_python, "harm(); sys.exit(1)")
    with pytest.raises(Problem):
        patching.apply(patching.plan(stock_python, project, pins, [SLUG]), pins, put_back=False)
    assert calls.read_text() == "1"


@pytest.mark.parametrize("last", ["sys.exit()", "sys.exit(1)"])
@pytest.mark.parametrize("way", ["repair", "by hand"])
def test_failed_restore_says_how_to_repair(patched, pins, last, way, with_patch):
    sabotage(patched, f"if call == 1: harm(); sys.exit(1)\nif call == 2: {last}")
    done = tool("apply", patched, "--patch", "users-route")
    assert done.returncode == Exit.DAMAGED
    assert "was restored" not in done.stderr
    assert "could not be restored" in done.stderr
    words = shlex.split(done.stderr.rpartition("Repair it: ")[2])
    if way == "by hand":
        words = shlex.split(
            json.loads((site(patched) / ".airflow-auth-patches/journal.json").read_text())["restore"]
        )
    subprocess.run([TOOL, *words[1:]] if way == "repair" else words, check=True, timeout=120)
    shutil.rmtree(site(patched) / ".airflow-auth-patches", ignore_errors=True)
    assert whole(patched, pins, PLAIN[FAB] if way == "repair" else with_patch)


#: Interrupt pip after it removes a release and before it installs the other.
MIDST = """
import pip._internal.req.req_install as req_install
def uninstall(*words, take=req_install.InstallRequirement.uninstall, **named):
    taken = take(*words, **named)
    for process in (os.getpid(), os.getppid()) * 2:
        os.kill(process, {number})
    return taken
req_install.InstallRequirement.uninstall = uninstall
"""


@pytest.mark.operator_task(6, "Interrupt `apply` with Ctrl-C", "`apply`")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_during_the_installation_restores_and_ends_the_tool(stock_python, pins, number):
    calls = sabotage(stock_python, MIDST.format(number=int(number)))
    done = apply(stock_python)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (128 + number, "Interrupted.")
    assert calls.read_text() == "2"
    assert whole(stock_python, pins)


def test_failed_restore_is_reported_after_a_signal_too(stock_python):
    interrupted = f"os.kill(os.getppid(), {int(signal.SIGINT)}); sys.exit(1)"
    sabotage(stock_python, f"if call == 1: harm()\n{interrupted}")
    done = apply(stock_python)
    assert done.returncode == Exit.DAMAGED
    assert "Repair it: " in done.stderr


@pytest.mark.parametrize("manifest", [None, b'{"patches": [', b"\xff\xfe", b'{"patches": [1]}'])
def test_revert_needs_no_manifest(patched, pins, manifest):
    (path,) = site(patched).glob("apache_airflow_providers_fab-*.dist-info/AUTH_PATCHES.json")
    path.unlink()
    if manifest is not None:
        path.write_bytes(manifest)
    (note,) = json.loads(tool("status", patched, "--json").stdout)["distributions"][1]["notes"]
    assert "is missing or damaged" in note
    assert "airflow-auth-patches revert" in note
    assert [
        tool("status", patched, "--exit-code").returncode,
        tool("apply", patched, "--check").returncode,
    ] == [2, 2]
    refused = apply(patched)
    assert refused.returncode == Exit.REFUSED
    assert note.split()[:2] == refused.stderr.split()[:2]
    done = tool("revert", patched)
    assert done.returncode == 0, done.stderr
    assert whole(patched, pins)


def test_revert_needs_no_patched_file_and_no_other_distribution(patched, pins):
    core, fab = installed.look(patched, pins).found
    (fab.site / next(iter(fab.manifest["files"]))).unlink()
    assert json.loads(tool("status", patched, "--json").stdout)["distributions"][1]["state"] == "changed"
    settings = core.site / "airflow/settings.py"
    content = settings.read_bytes()
    write(settings, "# by hand\n")
    refused = tool("apply", patched)
    assert refused.returncode == Exit.REFUSED
    assert "airflow/settings.py is changed" in refused.stderr
    done = tool("revert", patched)
    assert done.returncode == 0, done.stderr
    write(settings, content)
    assert whole(patched, pins)
    shutil.rmtree(core.site / "airflow/api")
    assert tool("revert", patched).stdout.endswith("\nNothing is patched: nothing to do.\n")


def test_plan_takes_exactly_the_named_patches(patched, project, pins):
    both = ["auth-manager-singleton", "appbuilder-init-lock"]
    planned = patching.plan(patched, project, pins, both)
    assert [[patch.slug for patch in step.patched.patches] for step in planned.steps] == [
        [slug] for slug in both
    ]
    assert [step.removed for step in planned.steps] == [[], [SLUG]]


@pytest.mark.parametrize(
    ("slug", "said", "remedy"),
    [
        ("auth-manager-singleton", r"breaks the installed \S+ \S+ without appbuilder-init-lock",
         "--patch auth-manager-singleton --patch appbuilder-init-lock"),
        ("revoked-token-cache", r"revoked-token-cache is for .* but 3\.1\.6 is installed", "Leave it out"),
        ("nonsense", "no patch 'nonsense'", ""),
    ],
)  # fmt: skip
def test_refuses_patch_that_cannot_be_applied(stock_python, project, pins, slug, said, remedy):
    with pytest.raises(Problem, match=said) as raised:
        patching.plan(stock_python, project, pins, [slug])
    assert remedy in raised.value.remedy
    assert raised.value.exit_code == (Exit.USAGE if slug == "nonsense" else Exit.REFUSED)


def test_verify_expects_the_patches_that_apply_takes(this_project, stock_python, project, pins):
    planned = patching.plan(stock_python, project, pins)
    patching.apply(planned, pins)
    taken = {patch.slug for step in planned.steps for patch in step.patched.patches}
    assert {*expect(Subject(python=stock_python), this_project, Silent()).patches} == taken


ADDED, EDITED = "airflow/request_limits/admission.py", "airflow/settings.py"
TEXT = "LIMIT = 1\n"


@pytest.fixture
def addition(project, pins, adding):
    """Return a series of one patch, which adds a file in a new package and edits another."""
    stock = fetching.sources(pins.release(f"{CORE}=={PLAIN[CORE]}"))[f"airflow-core/src/{EDITED}"].decode()
    files = {f"airflow-core/src/{ADDED}": TEXT, f"airflow-core/src/{EDITED}": f"{stock}# edited\n"}
    return dataclasses.replace(project, patches=(adding(f"{CORE}=={PLAIN[CORE]}", files),))


def files_of(python: Path) -> set[str]:
    """Return the files of the package `airflow`, without compiled ones."""
    found = {path.relative_to(site(python)) for path in (site(python) / "airflow").rglob("*")}
    return {path.as_posix() for path in found if "__pycache__" not in path.parts}


def test_added_file_is_installed_and_removed(root, either, addition, project, pins):
    before = files_of(either)
    (step,) = (planned := patching.plan(either, addition, pins)).steps
    assert f"--- /dev/null\n+++ {ADDED}\n@@ -0,0 +1 @@\n+{TEXT}" in step.diff()
    assert f"--- {EDITED}\n+++ {EDITED}\n" in step.diff()

    patching.apply(planned, pins)
    assert files_of(either) - before == {ADDED, "airflow/request_limits"}
    core = installed.look(either, pins).found[0]
    assert (core.site / ADDED).read_text() == TEXT
    assert core.manifest["files"][ADDED]["before"] is None
    assert core.manifest["files"][EDITED]["before"]
    assert not records.changed_files(core)
    assert patching.plan(either, addition, pins).pending == ()
    subject = Subject(python=either, patches=["added-module"])
    expected = expect(subject, Project(root, addition, pins), Silent()).files
    assert expected[ADDED] == blob(TEXT.encode())
    step = patching.plan(either, project, pins).steps[0]
    assert f"--- {ADDED}\n+++ /dev/null\n@@ -1 +0,0 @@\n-{TEXT}" in step.diff()

    patching.revert(either, pins)
    assert files_of(either) == before
    assert whole(either, pins)


def test_changed_and_missing_added_file_is_found_and_reverted(stock_python, addition, pins, tmp_path):
    before = files_of(stock_python)
    patching.apply(patching.plan(stock_python, addition, pins), pins)
    core = installed.look(stock_python, pins).found[0]
    for fault in ("changed", "missing"):
        (core.site / ADDED).unlink()
        if fault == "changed":
            (core.site / ADDED).touch()
        row = status(stock_python, addition, pins).rows[0]
        assert (row.state, row.notes[0]) == ("changed", f"{ADDED} is {fault}")
        with pytest.raises(Problem, match=f"{ADDED} is {fault}"):
            patching.plan(stock_python, addition, pins)
        with zipfile.ZipFile(records.as_wheel(core, tmp_path / fault)) as wheel:
            assert (ADDED in wheel.namelist()) is (fault == "changed")
            assert fault == "missing" or wheel.read(ADDED) == b""
    patching.revert(stock_python, pins)
    assert files_of(stock_python) - {"airflow/request_limits"} == before
    assert whole(stock_python, pins)


def test_refuses_to_overwrite_another_file_with_an_added_one(stock_python, addition, pins):
    file = site(stock_python) / ADDED
    file.parent.mkdir()
    file.write_text("MINE = 1\n")
    with pytest.raises(Problem, match="the patches add a file with that name") as refused:
        patching.plan(stock_python, addition, pins)
    assert refused.value.exit_code is Exit.REFUSED
    assert file.read_text() == "MINE = 1\n"
    file.write_text(TEXT)
    assert patching.plan(stock_python, addition, pins).pending
    hiding = site(stock_python) / "airflow/settings/__init__.py"
    hiding.parent.mkdir()
    hiding.touch()
    with pytest.raises(Problem, match="may hide a module of apache-airflow-core"):
        patching.plan(stock_python, addition, pins)


def test_failed_revert_restores_an_added_file(stock_python, addition, pins):
    patching.apply(patching.plan(stock_python, addition, pins), pins)
    install_and_fail = "from pip._internal.cli.main import main\nif call == 1: main(); sys.exit(1)"
    calls = sabotage(stock_python, install_and_fail)
    done = tool("revert", stock_python)
    assert done.returncode == Exit.FAILED
    assert RESTORED in done.stderr
    assert calls.read_text() == "2"
    core = installed.look(stock_python, pins).found[0]
    assert (core.site / ADDED).read_text() == TEXT
    assert not records.changed_files(core)
