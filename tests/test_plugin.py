"""The plugin that limits concurrent requests has the code of the patch."""

from __future__ import annotations

import ast
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from typer.testing import CliRunner

from airflow_auth_patches.cli import app
from airflow_auth_patches.installation import plugin
from airflow_auth_patches.installation.installed import Installation, Installed
from airflow_auth_patches.releases.releases import CORE
from airflow_auth_patches.util.errors import Exit, Problem


def module(project, variant=None) -> str:
    """Return the module that a form of the patch adds to core."""
    (patch,) = [p for p in project.patches if p.slug == plugin.SLUG and p.variant == variant]
    return b"".join(line for hunk in patch.edits[plugin.MODULE] for line in hunk.new).decode()


def definitions(code: str) -> dict[str, str]:
    """Return the source of every function, class and constant of a module."""
    tree = ast.parse(code)
    named = (ast.FunctionDef, ast.ClassDef)
    found = {node.name: ast.unparse(node) for node in tree.body if isinstance(node, named)}
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    return found | {ast.unparse(node.targets[0]): ast.unparse(node.value) for node in assigned}


def test_plugin_and_every_form_of_the_patch_have_the_same_code(project):
    patch, made = definitions(module(project)), definitions(plugin.source(project))
    # Core adds the middleware in a function, the plugin in its class.
    assert set(patch) - set(made) == {"init_request_admission"}
    assert set(made) - set(patch) == {"_other", "RequestAdmissionPlugin"}
    shared = set(patch) & set(made)
    assert {name: made[name] for name in shared} == {name: patch[name] for name in shared}
    assert "RequestAdmissionMiddleware" in shared
    forms = [patch.variant for patch in project.patches if patch.slug == plugin.SLUG]
    assert len(forms) > 1
    assert all(definitions(module(project, form)) == patch for form in forms)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (plugin.STATS, "from airflow.stats import Stats as stats\n"),
        ("import logging\n", "import logging as logs\n"),
        ("def init_request_admission(", "def add_request_admission("),
        ("    from fastapi import FastAPI\n", "    from fastapi import applications\n"),
    ],
)
def test_refuses_module_with_another_structure(project, old, new):
    code = module(project)
    assert old in code
    with pytest.raises(Problem, match="request_admission"):
        plugin.from_module(code.replace(old, new))


def test_refuses_a_series_without_the_patch(project):
    others = [patch for patch in project.patches if patch.slug != plugin.SLUG]
    with pytest.raises(Problem, match="no patch request-admission"):
        plugin.source(type(project)(project.folder, tuple(others), project.bugs))


@pytest.mark.operator_task(14, "Limit concurrent requests without patching", "`plugin`")
def test_command_prints_the_plugin_or_writes_it_and_says_what_to_do(project, tmp_path):
    text = plugin.source(project)
    assert all(f"\n{word}: " in text for word in ("Install", "Configure", "Remove"))
    done = CliRunner().invoke(app, ["plugin"])
    assert (done.exit_code, done.stdout) == (0, text)

    done = CliRunner().invoke(app, ["plugin", "--output", str(tmp_path)])
    assert done.exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == [plugin.NAME]
    assert (tmp_path / plugin.NAME).read_text() == text
    for said in ("Restart the API servers", "[api] max_concurrent_requests", f"Remove: rm {tmp_path}"):
        assert said in done.stdout
    ruff = [
        Path(sys.executable).with_name("ruff"),
        "check",
        "--config",
        project.folder.parent / "pyproject.toml",
    ]
    checked = subprocess.run([*ruff, tmp_path / plugin.NAME], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_older_plugin_is_replaced(tmp_path):
    (tmp_path / plugin.NAME).write_text("an older one: class RequestAdmissionPlugin(AirflowPlugin):")
    assert plugin.write("a new one", tmp_path).read_text() == "a new one"


def test_refuses_missing_folder(tmp_path):
    with pytest.raises(Problem, match="is not a folder") as refused:
        plugin.write("text", tmp_path / "none")
    assert refused.value.exit_code is Exit.USAGE


def test_refuses_folder_with_the_plugin_under_another_name(project, tmp_path):
    text = plugin.source(project)
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "other.py").write_text(text)
    with pytest.raises(Problem, match=r"other\.py is the same plugin"):
        plugin.write(text, tmp_path)
    assert not (tmp_path / plugin.NAME).exists()


def test_failed_write_leaves_no_other_file(tmp_path):
    (tmp_path / plugin.NAME).mkdir()
    with pytest.raises(Problem, match="cannot be written"):
        plugin.write("text", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [plugin.NAME]


@pytest.mark.parametrize("python", [None, Path("python")])
@pytest.mark.parametrize(
    ("version", "slugs", "said"),
    [
        ("3.3.2+authpatches.2", ("request-session", plugin.SLUG), "has the patch request-admission"),
        ("3.3.2+authpatches.2", ("request-session",), None),
        ("3.0.6", (), r"no apache-airflow-core 3\.1\.0 or later"),
    ],
)
def test_refuses_airflow_that_has_the_patch_or_is_too_old(monkeypatch, pins, python, version, slugs, said):
    manifest = {"patches": [{"slug": slug} for slug in slugs]} if slugs else None
    core = Installed(CORE, version, Path("site"), manifest, pins.find(CORE, version), editable=False)
    found = Installation(Path("python"), pip=True, found=(core,), versions={}, runs="3.11")
    monkeypatch.setattr(plugin, "look", lambda python, pins: found)
    with pytest.raises(Problem, match=said) if said else nullcontext() as refused:
        plugin.check(python, pins)
    assert not said or refused.value.exit_code is Exit.REFUSED


def test_needs_airflow_only_in_a_named_environment(pins):
    plugin.check(None, pins)
    with pytest.raises(Problem, match="has no Airflow"):
        plugin.check(Path(sys.executable), pins)
