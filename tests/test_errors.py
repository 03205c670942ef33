"""Whatever goes wrong, the error has one sentence, a remedy, and a documented exit code."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from airflow_auth_patches.cli import app, operator
from airflow_auth_patches.installation import apply as patching
from airflow_auth_patches.installation import installed, wheels
from airflow_auth_patches.releases.releases import CORE
from airflow_auth_patches.series import series
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.util.errors import TRACEBACK, Exit, Problem

TOOL = Path(sys.executable).parent / "airflow-auth-patches"

RAISE = """
import sys
from airflow_auth_patches import cli

def app():
    {body}

cli.app = app
cli.main()
"""


def run(body: str, **env: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", RAISE.format(body=body)]
    return subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **env})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "{}['[/x] https://me:secret@example.org/']",
            "Unexpected error: KeyError: '[/x] https://example.org/' (<string>",
        ),
        ("open('/nowhere/file')", "Unexpected error: /nowhere/file: No such file or directory (<string>"),
    ],
)
def test_unexpected_error_has_no_traceback_unless_wanted(body, said):
    done = run(body)
    assert done.returncode == Exit.UNEXPECTED
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == 2
    assert "Traceback" not in done.stderr
    wanted = run(body, **{TRACEBACK: "1"})
    assert wanted.returncode == Exit.UNEXPECTED
    assert "Traceback" in wanted.stderr
    assert "secret" not in wanted.stderr.partition("line")[2].replace(body, "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:se/cret@host/simple", "https://host/simple"),
        ("https://me:se?cr#et@host/simple", "https://host/simple"),
        ("https://token@host:8080/a and http://me:@other", "https://host:8080/a and http://other"),
        ("https://host:8080/package@1.0 file:///a/b@c", "https://host:8080/package@1.0 file:///a/b@c"),
    ],
)
def test_messages_have_no_user_and_password_of_a_url(text, shown):
    assert str(Problem(text)) == shown


def test_output_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    words = ["wheel", "--release", "apache-airflow-core==3.1.6", "--output", tmp_path / "file/dist"]
    done = subprocess.run([TOOL, *words], capture_output=True, text=True, check=False)
    assert done.returncode == Exit.REFUSED
    assert f"cannot be written into {tmp_path / 'file/dist'}: Not a directory." in done.stderr


@pytest.mark.parametrize("label", ["../../x", "a b", "", "authpatches/1"])
def test_label_that_is_no_local_version_is_refused(small, tmp_path, label):
    (step, _) = small.plan().steps
    with pytest.raises(Problem, match="is not a local version label"):
        wheels.build(step.patched, label, tmp_path / "dist")
    assert not (tmp_path / "dist").exists()


def test_status_of_a_path_with_markup(small, monkeypatch):
    odd = small.python.parents[2] / "a [/x] [bold]"
    odd.mkdir(parents=True)
    shutil.move(small.python.parents[1], odd)
    python = odd / "env/bin/python"
    loaded = Project(small.folder.parent, series.load(small.folder), small.pins)
    monkeypatch.setattr(operator, "load_project", lambda: loaded)
    done = CliRunner().invoke(app, ["status", "--python", str(python)])
    assert done.exit_code == 0, done.exception
    assert f"{odd}"[-16:] in done.stdout


@pytest.mark.parametrize("path", ["/etc/passwd", "../../x", "airflow/../../../x", "other/x.py", "airflow"])
def test_manifest_with_a_file_outside_the_package_is_damaged(small, path):
    patching.apply(small.plan(), small.pins)
    (file,) = small.site.glob("apache_airflow_core-*.dist-info/AUTH_PATCHES.json")
    told = json.loads(file.read_text())
    told["files"][path] = told["files"]["airflow/settings.py"]
    file.unlink()
    file.write_text(json.dumps(told))
    core = installed.look(small.python, small.pins).found[0]
    assert (core.manifest, core.damaged) == (None, True)
    patching.revert(small.python, small.pins)
    assert small.versions == ["3.1.6", "3.3.0"]


@pytest.mark.parametrize("path", ["airflow-core/src/../../../x", "airflow-core/src/other.py", "/etc/passwd"])
def test_patch_of_a_file_outside_the_package_is_refused(project, pins, path):
    (patch,) = (p for p in project.patches if p.name == "auth-manager-singleton")
    name = b"airflow-core/src/airflow/api_fastapi/app.py"
    assert name in patch.content
    other = series.patch_of(patch.path, CORE, patch.content.replace(name, path.encode()))
    outside = dataclasses.replace(project, patches=(other,))
    with pytest.raises(Problem, match="which is no file of apache-airflow-core"):
        patching.patched(outside, pins.release("apache-airflow-core==3.1.6"))


@pytest.mark.operator_task(10, "Run `apply` with a full disk", "`apply`")
def test_full_disk_changes_nothing(small):
    """A limit of the file size fails as a full disk does, in the middle of a file."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))

    done = subprocess.run(small.apply_command, capture_output=True, text=True, check=False, preexec_fn=limit)
    assert "cannot be written" in done.stderr
    assert small.versions == ["3.1.6", "3.3.0"]
