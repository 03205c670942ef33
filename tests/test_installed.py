"""What touches an operator's installation is a transaction, on real environments with real releases."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import re
from pathlib import Path

import pytest

from airflow_auth_patches.installation import apply as patching
from airflow_auth_patches.installation import environments, transaction, wheels
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.installation.status import status
from airflow_auth_patches.releases.releases import Pair
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.processes import run

pytestmark = pytest.mark.proof


def snapshot(environment: Environment) -> dict[str, str]:
    """Return the SHA-256 of every file of an environment but compiled ones."""
    root = environment.python.parents[1]
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def versions(environment: Environment) -> dict[str, str]:
    """Return the version of each installed package."""
    told = run(
        [environments.uv(), "pip", "list", "--quiet", "--format", "json", "--python", environment.python]
    )
    return {package["name"]: package["version"] for package in json.loads(told)}


def release_files(taken: dict[str, str]) -> dict[str, str]:
    """Return a snapshot without what pip and uv each write in their own way: dist-info and start scripts."""
    return {
        path: digest
        for path, digest in taken.items()
        if ".dist-info/" not in path and not path.startswith("bin/")
    }


@pytest.fixture(scope="module", params=["uv", "pip"])
def stock(request, tmp_path_factory, pins, python) -> Environment:
    """Return a stock 3.1.6 + 3.3.0, without pip and with it: both installers are used."""
    folder = tmp_path_factory.mktemp("installed") / "env"
    environment = environments.make(pins.pair("3.1.6+3.3.0"), python, folder)
    if request.param == "pip":
        environments.install(environment, ["pip"])
    return environment


@pytest.fixture
def environment(stock, project, pins) -> Environment:
    patching.revert(stock.python, pins)
    return stock


def states(environment, project, pins):
    return {
        row.installed.distribution.folder: (row.state, row.applied)
        for row in status(environment.python, project, pins)
    }


def test_apply_and_revert(environment, project, pins):
    before, packages = snapshot(environment), versions(environment)
    patching.apply(patching.plan(environment.python, project, pins), pins)
    pair = pins.pair("3.1.6+3.3.0")
    assert states(environment, project, pins) == {
        release.distribution.folder: ("patched", tuple(patch.slug for patch in chosen))
        for release in (pair.core, pair.fab)
        for chosen in [project.select(release, optional=False)]
    }
    changed = {name for name, version in versions(environment).items() if packages[name] != version}
    assert changed == {"apache-airflow-core", "apache-airflow-providers-fab"}
    run([environments.uv(), "pip", "check", "--quiet", "--python", environment.python])

    assert patching.plan(environment.python, project, pins).pending == ()

    assert len(patching.revert(environment.python, pins)) == 2
    assert versions(environment) == packages
    assert release_files(snapshot(environment)) == release_files(before)
    assert patching.revert(environment.python, pins) == []


def test_exactly_the_named_patches(environment, project, pins):
    patching.apply(patching.plan(environment.python, project, pins, ["session-cleanup"]), pins)
    assert states(environment, project, pins) == {
        "airflow-core": ("pristine", ()),
        "providers-fab": ("patched", ("session-cleanup",)),
    }
    planned = patching.plan(environment.python, project, pins, ["appbuilder-init-lock"])
    assert [step.removed for step in planned.steps] == [["session-cleanup"]]
    patching.apply(planned, pins)
    assert states(environment, project, pins)["providers-fab"] == ("patched", ("appbuilder-init-lock",))


def test_half_of_a_cure_that_does_harm_alone_is_refused(environment, project, pins):
    before = snapshot(environment)
    said = r"auth-manager-singleton breaks the installed \S+ \S+ without appbuilder-init-lock"
    with pytest.raises(Problem, match=said) as raised:
        patching.plan(environment.python, project, pins, ["auth-manager-singleton"])
    assert "--patch auth-manager-singleton --patch appbuilder-init-lock" in raised.value.remedy
    assert snapshot(environment) == before
    both = ["auth-manager-singleton", "appbuilder-init-lock"]
    planned = patching.plan(environment.python, project, pins, both)
    assert [[patch.slug for patch in step.patched.patches] for step in planned.steps] == [
        [slug] for slug in both
    ]


def test_the_plan_changes_nothing_and_shows_the_diff(environment, project, pins):
    before = snapshot(environment)
    planned = patching.plan(environment.python, project, pins)
    diff = "".join(step.diff() for step in planned.steps)
    assert "+++ airflow/api_fastapi/app.py" in diff
    assert "+++ airflow/providers/fab/www/extensions/init_appbuilder.py" in diff
    assert snapshot(environment) == before


@pytest.mark.parametrize("fault", ["changed", "missing"])
def test_a_file_that_is_not_what_it_should_be_is_refused(environment, project, pins, fault):
    site = status(environment.python, project, pins)[0].installed.site
    path = site / "airflow/settings.py"
    content = path.read_bytes()
    path.unlink()  # replaced, not written to: uv may have linked it from its cache
    if fault == "changed":
        path.write_bytes(content + b"# by hand\n")
    try:
        before = snapshot(environment)
        with pytest.raises(Problem, match=rf"airflow/settings\.py is {fault}") as raised:
            patching.plan(environment.python, project, pins)
        assert raised.value.exit_code == Exit.REFUSED
        assert snapshot(environment) == before
        assert states(environment, project, pins)["airflow-core"][0] == "changed"
    finally:
        path.unlink(missing_ok=True)
        path.write_bytes(content)


def test_a_patched_file_changed_by_hand_is_refused(environment, project, pins):
    patching.apply(patching.plan(environment.python, project, pins, ["session-cleanup"]), pins)
    site = status(environment.python, project, pins)[0].installed.site
    path = site / "airflow/providers/fab/auth_manager/fab_auth_manager.py"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content + b"# by hand\n")
    with pytest.raises(Problem, match=r"fab_auth_manager\.py is changed"):
        patching.plan(environment.python, project, pins)


class Cut(BaseException):
    """What a Ctrl-C in the middle would raise."""


@pytest.mark.parametrize("error", [Problem("the disk is full."), Cut()])
def test_a_failure_in_the_middle_puts_back_what_was_there(environment, project, pins, monkeypatch, error):
    patching.apply(patching.plan(environment.python, project, pins, ["session-cleanup"]), pins)
    before = snapshot(environment)
    planned = patching.plan(environment.python, project, pins)

    def fail(*_: object) -> None:
        monkeypatch.undo()
        assert release_files(snapshot(environment)) != release_files(before)  # it was in the middle
        raise error

    monkeypatch.setattr(transaction, "verify", fail)
    with pytest.raises((Problem, Cut)) as raised:
        patching.apply(planned, pins)
    if isinstance(error, Problem):
        assert "The previous installation was restored." in str(raised.value)
        assert raised.value.exit_code == Exit.FAILED
    assert release_files(snapshot(environment)) == release_files(before)
    assert states(environment, project, pins)["providers-fab"] == ("patched", ("session-cleanup",))


def test_a_wheel_that_the_installer_refuses_leaves_everything(environment, project, pins, monkeypatch):
    before = snapshot(environment)

    def spoiled(patched: wheels.Patched, label: str, output: Path) -> Path:
        output.mkdir(exist_ok=True)
        stem = f"{patched.release.distribution.stem}-{patched.release.version}"
        path = output / f"{stem}+{label}-py3-none-any.whl"
        path.write_bytes(b"no wheel")
        return path

    planned = patching.plan(environment.python, project, pins)
    monkeypatch.setattr(wheels, "build", spoiled)
    with pytest.raises(Problem, match="The previous installation was restored") as raised:
        patching.apply(planned, pins)
    assert raised.value.exit_code == Exit.FAILED
    assert release_files(snapshot(environment)) == release_files(before)


def test_a_patch_for_another_release_is_refused_with_its_range(environment, project, pins):
    with pytest.raises(Problem, match=r"revoked-token-cache is for .* but 3\.1\.6 is installed"):
        patching.plan(environment.python, project, pins, ["revoked-token-cache"])
    with pytest.raises(Problem, match="no patch 'nonsense'") as raised:
        patching.plan(environment.python, project, pins, ["nonsense"])
    assert raised.value.exit_code == Exit.USAGE


def test_what_is_no_airflow_is_refused(pins, project, python, tmp_path):
    with pytest.raises(Problem, match="is not an interpreter"):
        status(tmp_path / "python", project, pins)
    with pytest.raises(Problem, match="does not run as a Python"):
        status(Path("/bin/true"), project, pins)
    run(
        [environments.uv(), "venv", "--quiet", "--python", environments.interpreter(python), tmp_path / "env"]
    )
    with pytest.raises(Problem, match="has no Airflow"):
        status(tmp_path / "env/bin/python", project, pins)


@pytest.mark.parametrize(
    ("release", "state", "said"),
    [
        ("apache-airflow-core==3.1.4", "unknown", "3.1.4 was yanked upstream"),
        ("apache-airflow-core==3.0.6", "out of scope", "3.0.6 is out of scope: the series begins with 3.1.0"),
        (
            "apache-airflow-providers-fab==3.2.0",
            "out of scope",
            "3.2.0 is out of scope: the series begins with 3.3.0",
        ),
    ],
)
def test_a_release_that_the_series_does_not_know_is_refused(
    tmp_path, project, pins, python, release, state, said
):
    environment = Environment(tmp_path / "env/bin/python")
    run(
        [environments.uv(), "venv", "--quiet", "--python", environments.interpreter(python), tmp_path / "env"]
    )
    environments.install(environment, ["--no-deps", release])
    with pytest.raises(Problem, match=re.escape(said)) as refused:
        patching.plan(environment.python, project, pins)
    assert refused.value.exit_code == Exit.REFUSED
    (row,) = status(environment.python, project, pins)
    assert (row.state, row.open) == (state, ())
    assert said in row.notes[0]
    assert re.search(r"Upgrade it to 3\.\d\.\d or later", row.notes[0])


def test_airflow_2_is_out_of_scope(tmp_path, project, pins, python):
    environment = Environment(tmp_path / "env/bin/python")
    run(
        [environments.uv(), "venv", "--quiet", "--python", environments.interpreter(python), tmp_path / "env"]
    )
    environments.install(environment, ["--no-deps", "apache-airflow==2.11.0"])
    with pytest.raises(Problem, match=r"Airflow 2\.11\.0 is out of scope.*core 3\.1\.0.*Upgrade") as refused:
        status(environment.python, project, pins)
    assert refused.value.exit_code == Exit.REFUSED


def test_core_alone_declares_the_requirement_that_a_patch_adds(tmp_path, project, pins, python):
    """3.2.0 without FAB has no cachetools: refused until it is there, and declared once patched."""
    release = pins.release("apache-airflow-core==3.2.0")
    environment = Environment(tmp_path / "env/bin/python")
    run(
        [environments.uv(), "venv", "--quiet", "--python", environments.interpreter(python), tmp_path / "env"]
    )
    as_of = f"{datetime.date(2026, 5, 6)}T00:00:00Z"
    environments.install(environment, ["--exclude-newer", as_of, str(release)])
    assert "cachetools" not in versions(environment)

    traded = dataclasses.replace(project, patches=tuple(p for p in project.patches if p.trade_off))
    with pytest.raises(Problem, match=r"\(revoked-token-cache\) need --all or --patch"):
        patching.plan(environment.python, traded, pins)
    with pytest.raises(Problem, match=r"require cachetools>=6\.0\.0") as raised:
        patching.plan(environment.python, project, pins, everything=True)
    assert "pip install 'cachetools>=6.0.0'" in raised.value.remedy

    environments.install(environment, ["--exclude-newer", as_of, "cachetools>=6.0.0"])
    patching.apply(patching.plan(environment.python, project, pins, everything=True), pins)
    asked = "import importlib.metadata as m; print(*m.requires('apache-airflow-core'), sep='\\n')"
    assert "cachetools>=6.0.0" in run([environment.python, "-c", asked]).splitlines()
    run([environments.uv(), "pip", "check", "--quiet", "--python", environment.python])
    used = "from airflow.models.revoked_token import RevokedToken; RevokedToken.clear_cache()"
    home = {"AIRFLOW_HOME": str(tmp_path / "home")}
    run([environment.python, "-c", used], env=home)


def test_pairs_are_what_they_say(pins):
    for pair in pins.pairs:
        assert isinstance(pair, Pair)
        assert pins.pair(pair.name) is pair
        assert pair.core.date <= pair.exclude_newer
        assert pair.fab.date <= pair.exclude_newer
