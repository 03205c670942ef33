"""Patch and revert real environments with real releases."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest

from airflow_auth_patches.installation import apply as patching
from airflow_auth_patches.installation import environments
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.installation.status import status
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.processes import run

pytestmark = pytest.mark.airflow


def release_files(environment: Environment) -> dict[str, str]:
    """Return the hashes of the files; pip and uv write dist-info and start scripts differently."""
    root = environment.python.parents[1]
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
        and path.suffix != ".pyc"
        and ".dist-info/" not in f"{path}"
        and path.parent.name != "bin"
    }


def versions(environment: Environment) -> dict[str, str]:
    """Return the version of each installed package."""
    words = ["pip", "list", "--quiet", "--format", "json", "--python", environment.python]
    return {package["name"]: package["version"] for package in json.loads(run([environments.uv(), *words]))}


def check_requirements(environment: Environment) -> None:
    run([environments.uv(), "pip", "check", "--quiet", "--python", environment.python])


@pytest.fixture(scope="module", params=["uv", "pip"])
def stock(request, tmp_path_factory, pins, python) -> Environment:
    """Return a stock 3.1.6 + 3.3.0, without pip and with it: both installers are used."""
    folder = tmp_path_factory.mktemp("installed") / "env"
    environment = environments.make(pins.pair("3.1.6+3.3.0"), python, folder)
    if request.param == "pip":
        environments.install(environment, ["pip"])
    return environment


@pytest.mark.operator_task(2, "Patch an installed Airflow, and restore it", "`apply`, `revert`")
def test_apply_and_revert_change_only_the_two_distributions(stock, project, pins):
    before, packages = release_files(stock), versions(stock)
    patching.apply(patching.plan(stock.python, project, pins), pins)
    pair = pins.pair("3.1.6+3.3.0")
    assert {
        row.installed.distribution.folder: (row.state, row.applied)
        for row in status(stock.python, project, pins).rows
    } == {
        release.distribution.folder: ("patched", tuple(patch.slug for patch in chosen))
        for release in (pair.core, pair.fab)
        for chosen in [project.select(release, optional=False)]
    }
    changed = {name for name, version in versions(stock).items() if packages[name] != version}
    assert changed == {"apache-airflow-core", "apache-airflow-providers-fab"}
    check_requirements(stock)
    assert patching.plan(stock.python, project, pins).pending == ()

    assert len(patching.revert(stock.python, pins)) == 2
    assert versions(stock) == packages
    assert release_files(stock) == before
    assert patching.revert(stock.python, pins) == []


def test_patch_that_adds_a_requirement_needs_and_declares_it(project, pins, python, tmp_path):
    """Core 3.2.0 without FAB has no cachetools."""
    words = ["venv", "--quiet", "--python", environments.interpreter(python), tmp_path / "env"]
    run([environments.uv(), *words])
    empty = Environment(tmp_path / "env/bin/python")
    as_of = ["--exclude-newer", "2026-05-06T00:00:00Z"]
    environments.install(empty, [*as_of, "apache-airflow-core==3.2.0"])
    assert "cachetools" not in versions(empty)

    traded = dataclasses.replace(project, patches=tuple(p for p in project.patches if p.trade_off))
    with pytest.raises(Problem, match=r"\(revoked-token-cache\) need --all or --patch"):
        patching.plan(empty.python, traded, pins)
    with pytest.raises(Problem, match=r"require cachetools>=6\.0\.0") as raised:
        patching.plan(empty.python, project, pins, everything=True)
    assert "pip install 'cachetools>=6.0.0'" in raised.value.remedy

    environments.install(empty, [*as_of, "cachetools>=6.0.0"])
    patching.apply(patching.plan(empty.python, project, pins, everything=True), pins)
    asked = "import importlib.metadata as m; print(*m.requires('apache-airflow-core'), sep='\\n')"
    assert "cachetools>=6.0.0" in run([empty.python, "-c", asked]).splitlines()
    check_requirements(empty)
    used = "from airflow.models.revoked_token import RevokedToken; RevokedToken.clear_cache()"
    run([empty.python, "-c", used], env={"AIRFLOW_HOME": str(tmp_path / "home")})
