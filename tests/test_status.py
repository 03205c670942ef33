"""`status` and `wheel` as processes, on environments with real releases and with only the names of others."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from airflow_auth_patches.installation import apply as patching
from airflow_auth_patches.installation import environments
from airflow_auth_patches.installation.status import State
from airflow_auth_patches.installation.status import status as command
from airflow_auth_patches.releases import fetching
from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.util.errors import Exit
from airflow_auth_patches.util.processes import run

TOOL = Path(sys.executable).parent / "airflow-auth-patches"
CORE, FAB = "apache-airflow-core", "apache-airflow-providers-fab"


def write_name(site: Path, stem: str, version: str) -> None:
    folder = site / f"{stem}-{version}.dist-info"
    folder.mkdir()
    name = f"Name: {stem.replace('_', '-')}\nVersion: {version}\n"
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\n{name}")
    (folder / "RECORD").write_text(f"{folder.name}/RECORD,,\n")


@pytest.fixture
def named(tmp_path) -> Callable[..., Path]:
    """Return a function that makes an environment with only the names of some releases."""

    def make(**found: str) -> Path:
        run([environments.uv(), "venv", "--quiet", "--python", sys.executable, tmp_path / "named"])
        (site,) = tmp_path.glob("named/lib/*/site-packages")
        for stem, version in found.items():
            write_name(site, stem, version)
        return tmp_path / "named/bin/python"

    return make


def install(python: Path, pins: Pins, name: str) -> None:
    words = ["--quiet", "--no-index", "--no-deps", "--python", python]
    run([environments.uv(), "pip", "install", *words, fetching.fetch(pins.release(name), "wheel")])


def tool(*words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TOOL, *words], capture_output=True, text=True, check=False, timeout=300, env={**os.environ, **env}
    )


def report(python: Path) -> dict:
    done = tool("status", "--json", "--python", python)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def rows(python: Path) -> list[dict]:
    return report(python)["distributions"]


@pytest.mark.operator_task(1, "Find out which bugs an installed Airflow has", "`status`")
@pytest.mark.parametrize("pair", ["3.1.6+3.3.0", "3.2.0+3.6.0", "3.3.2+3.10.2"])
@pytest.mark.parametrize("patched", [False, True], ids=["stock", "patched"])
def test_report_has_at_most_20_lines_and_names_the_command_to_run(stock_python, project, pins, pair, patched):
    for release in (pins.pair(pair).core, pins.pair(pair).fab):
        install(stock_python, pins, str(release))
    if patched:
        patching.apply(patching.plan(stock_python, project, pins), pins)
    found = command(stock_python, project, pins)
    for width in (80, 100):
        done = tool("status", "--exit-code", "--python", stock_python, COLUMNS=str(width))
        lines = done.stdout.splitlines()
        assert sum(-(-len(line) // width) for line in lines) <= 20, done.stdout
        assert lines[0].startswith(f"{stock_python} ({stock_python.parents[1]}): {CORE} 3.")
        bugs = [line.split(":")[0].strip() for line in lines if re.match(r"  [a-z][\w-]+: ", line)]
        assert bugs == [finding.bug for finding in found.risks][: len(bugs)]
        assert bool(bugs) == bool(found.risks)
        assert lines[-1] in (f"    {found.next.command}", "Next: Nothing to do.")
        assert done.returncode == found.next.state
    assert found.next.state == (State.NOTHING_TO_DO if patched else State.SOMETHING_TO_DO)


def test_bugs_that_users_do_not_meet_are_shown_only_by_verbose(stock_python):
    found = report(stock_python)
    assert "second-connection-grid" in [bug["bug"] for row in found["distributions"] for bug in row["bugs"]]
    assert {"second-connection-grid", "user-cache-race"}.isdisjoint(found["risks"])
    assert "second-connection-grid: " in tool("status", "--verbose", "--python", stock_python).stdout


@pytest.mark.operator_task(4, "Find out that an upgrade removed patches", "`apply --check`, `apply`")
def test_check_finds_patches_that_an_upgrade_took_away(stock_python, project, pins):
    def check(*words: str) -> tuple[int, str]:
        done = tool("apply", "--check", "--python", stock_python, *words)
        assert done.stderr == ""
        (line,) = done.stdout.splitlines()
        return done.returncode, line

    assert check()[0] == 1
    patching.apply(patching.plan(stock_python, project, pins), pins)
    assert check() == (
        0,
        f"{stock_python} ({stock_python.parents[1]}): {CORE} 3.1.6+{pins.label}, {FAB} 3.3.0+{pins.label}: "
        "nothing to do. Exactly the chosen patches are installed.",
    )
    code, said = check("--patch", "users-route")
    assert (code, ", not chosen" in said) == (1, True)
    assert said.endswith(f"Run: airflow-auth-patches apply --python {stock_python} --patch users-route")
    install(stock_python, pins, f"{FAB}==3.4.0")
    code, said = check()
    assert (code, f"{FAB} lacks appbuilder-init-lock" in said) == (1, True)
    script = stock_python.parent / "airflow"
    script.unlink()
    code, said = check()
    assert (code, "bin/airflow is missing" in said) == (2, True)
    assert report(stock_python)["state"] == "damaged"


@pytest.mark.parametrize("command", ["plugin", "wheel", "fetch"])
def test_command_that_writes_files_names_the_environment_that_it_read(stock_python, tmp_path, command):
    output = [] if command == "fetch" else ["--output", tmp_path]
    done = tool(command, "--python", stock_python, *output)
    line = f"{stock_python} ({stock_python.parents[1]}): {CORE} 3.1.6, {FAB} 3.3.0"
    assert (done.returncode, line in done.stderr.splitlines()) == (0, True)


@pytest.mark.parametrize(
    ("words", "code"),
    [(("status",), Exit.REFUSED), (("status", "--exit-code"), 3), (("apply", "--check"), 3)],
)
def test_own_environment_without_airflow_cannot_be_judged(words, code):
    done = tool(*words)
    assert done.returncode == code
    assert f"{Path(sys.executable)} has no Airflow" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("status", "--wrong"), Exit.USAGE),
        (("status", "--exit-code", "--wrong"), 3),
        (("status", "--exit-code", "--python", "/bin/ls"), 3),
        (("apply", "--check", "--patch"), 3),
        (("apply", "--check", "--all", "--patch", "users-route"), 3),
        (("apply", "--check", "--patch", "unknown"), 3),
        (("apply", "--check", "--help"), 0),
    ],
)
def test_wrong_option_is_not_taken_for_damage(words, code):
    done = tool(*words)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)


@pytest.mark.parametrize(("words", "code"), [([], Exit.DAMAGED), (["--exit-code"], 2)])
def test_damage_is_reported_as_json(stock_python, words, code):
    (metadata,) = stock_python.parents[1].glob("lib/*/site-packages/apache_airflow_core-*/METADATA")
    metadata.unlink()
    done = tool("status", "--json", "--python", stock_python, *words)
    told = json.loads(done.stdout)
    assert (done.returncode, told["schema"], told["error"]["exit_code"]) == (code, 1, code)
    assert "METADATA" in told["error"]["what"]
    assert f"airflow-auth-patches repair --python {stock_python}" in told["error"]["remedy"]


@pytest.mark.operator_task(5, "Upgrade instead of patching", "`status`")
def test_recommends_the_upgrade_of_the_provider_first_and_lists_each_bug_with_its_cure(stock_python, pins):
    found = rows(stock_python)
    core, provider = found
    assert core["upgrade"] is None
    upgrade = provider["upgrade"]
    release = pins.release(upgrade["to"])
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in release.pythons
    assert upgrade["tested"] is False
    bugs = [each["bug"] for each in provider["bugs"]]
    assert sorted(upgrade["cures"] + upgrade["leaves"]) == sorted(bugs)

    assert provider["upgrade"]["to"] in report(stock_python)["next"]["command"]

    done = tool("status", "--verbose", "--python", stock_python)
    said = re.sub(r"\n  +", " ", done.stdout).splitlines()
    (advice,) = (line for line in said if line.startswith("First upgrade"))
    start = f"First upgrade {FAB} 3.3.0 to {release.version}. This cures {', '.join(upgrade['cures'])}"
    assert advice.startswith(start)
    assert advice.endswith("It was not tested with this core.")
    for bug in (bug["bug"] for row in found for bug in row["bugs"]):
        assert sum(line.startswith(f"{bug}: ") for line in said) == 1
    (line,) = (line for line in said if line.startswith("user-look-up-freeze: "))
    assert line.endswith("(cured by user-cache, user-from-token-hook).")


@pytest.mark.parametrize("limited", ["core", "pythons"])
def test_recommends_only_a_provider_for_the_installed_core_and_python(stock_python, project, pins, limited):
    best = command(stock_python, project, pins).rows[1].upgrade.release
    runs = f"{sys.version_info.major}.{sys.version_info.minor}"
    limits = {"core": SpecifierSet(">=3.2"), "pythons": tuple(each for each in best.pythons if each != runs)}
    limit = {limited: limits[limited]}
    others = tuple(replace(each, **limit) if each is best else each for each in pins.releases)
    upgrade = command(stock_python, project, replace(pins, releases=others)).rows[1].upgrade
    assert upgrade.release.version > best.version


def test_does_not_recommend_an_upgrade_that_removes_more_cures_than_it_brings(stock_python, project, pins):
    release = pins.release(f"{FAB}==3.6.5")
    for name in (f"{CORE}==3.2.2", str(release)):
        install(stock_python, pins, name)
    assert rows(stock_python)[1]["upgrade"]["brings"] == []
    leak = "application-builder-leak"
    names = [patch.slug for patch in project.select(release) if leak not in patch.cures]
    planned = patching.plan(stock_python, project, pins, [*names, "user-from-token-hook"])
    patching.apply(planned, pins)
    provider = rows(stock_python)[1]
    assert [each["bug"] for each in provider["bugs"]] == [leak]
    assert provider["upgrade"] is None


def test_warns_of_a_patch_without_its_co_required_patch(stock_python, project, pins):
    patching.apply(patching.plan(stock_python, project, pins), pins)
    assert [row["notes"] for row in rows(stock_python)] == [[], []]
    install(stock_python, pins, f"{FAB}==3.4.0")
    note = "core has auth-manager-singleton, which breaks the provider without appbuilder-init-lock: "
    assert [row["notes"] for row in rows(stock_python)] == [
        [],
        [f"{note}run `apply` before the next restart"],
    ]


def test_unknown_core_needs_a_provider_without_co_required_patch(stock_python):
    (core,) = stock_python.parents[1].glob("lib/*/site-packages/apache_airflow_core-*.dist-info")
    shutil.rmtree(core)
    write_name(core.parent, "apache_airflow_core", "3.3.9")
    assert rows(stock_python)[1]["notes"] == [
        "core has auth-manager-singleton, which breaks the provider without appbuilder-init-lock: "
        "upgrade the provider"
    ]


def test_patch_with_other_edits_is_from_another_series(stock_python, project, pins):
    patching.apply(patching.plan(stock_python, project, pins, ["users-route"]), pins)

    def notes(content: bytes) -> tuple[tuple[str, ...], bool]:
        patches = [replace(p, content=content) if p.slug == "users-route" else p for p in project.patches]
        series = replace(project, patches=tuple(patches))
        planned = patching.plan(stock_python, series, pins, ["users-route"])
        return command(stock_python, series, pins).rows[1].notes[:1], bool(planned.pending)

    (patch,) = (patch for patch in project.patches if patch.slug == "users-route")
    assert notes(patch.content.replace(b"\n\n", b"\n\nIn other words.\n\n", 1)) == ((), False)
    assert notes(patch.content + b"\n") == (("users-route is from another series: run `apply` again",), True)


@pytest.mark.parametrize("provider", [{}, {"apache_airflow_providers_fab": "1.5.3"}])
def test_airflow_2_is_out_of_scope(named, provider):
    done = tool("status", "--python", named(apache_airflow="2.11.0", **provider))
    assert done.returncode == Exit.REFUSED
    said = f"Airflow 2.11.0 is out of scope: the series begins with {CORE} 3.1.0."
    assert done.stderr.strip().startswith(said)


@pytest.mark.parametrize(
    ("core", "state", "said"),
    [
        ("3.0.6", "out of scope", "3.0.6 is out of scope: the series begins with 3.1.0. Upgrade it to 3.1.0"),
        ("3.1.4", "unknown", "3.1.4 was yanked upstream, and no patch is for it. Upgrade it to 3.1.5"),
    ],
)
@pytest.mark.parametrize("provider", ["3.3.0", "3.2.0"])
def test_core_without_patches_must_be_upgraded_first(named, core, state, said, provider):
    python = named(apache_airflow_core=core, apache_airflow_providers_fab=provider)
    first, second = rows(python)
    assert (first["state"], first["notes"]) == (state, [f"{CORE} {said} or later."])
    assert second["upgrade"] is None
    assert second["notes"][0].endswith(f"Upgrade {CORE} {core} first: `apply` refuses it.")
    assert "First upgrade" not in tool("status", "--verbose", "--python", python).stdout
    if provider == "3.2.0":  # the files of the other one are missing, so that it is to be restored first
        assert tool("status", "--python", python).stdout.endswith(f" '{CORE}>={said.split()[-1]}'\n")
    refused = tool("apply", "--python", python)
    assert refused.returncode == Exit.REFUSED
    assert said.partition(". ")[0] in refused.stderr


@pytest.mark.parametrize(("core", "least"), [("3.1.6", "3.3.0"), ("3.3.2", "3.5.0")])
def test_old_provider_must_be_upgraded_to_one_for_the_core(named, core, least):
    python = named(apache_airflow_core=core, apache_airflow_providers_fab="3.2.0")
    said = f"{FAB} 3.2.0 is out of scope: the series begins with 3.3.0. Upgrade it to {least} or later."
    row = rows(python)[1]
    assert (row["state"], row["notes"]) == ("out of scope", [said])


def test_error_of_a_program_that_is_no_python_has_two_lines():
    done = tool("status", "--python", "/bin/ls")
    assert done.returncode == Exit.USAGE
    assert len(done.stderr.strip().splitlines()) == 2
    assert "import" not in done.stderr


@pytest.mark.parametrize(
    ("words", "what", "remedy"),
    [
        (
            ("apache-airflow-providers-fab==3.3.0", "user-session", "user-cache"),
            "user-session, user-cache applies to apache-airflow-providers-fab==3.3.0 only with "
            "session-cleanup.",
            "Add --patch session-cleanup.",
        ),
        (
            ("apache-airflow-core==3.1.4",),
            "apache-airflow-core 3.1.4 was yanked upstream, and no patch is for it.",
            "Upgrade it to 3.1.5 or later.",
        ),
    ],
)
def test_wheel_refuses_with_a_remedy(tmp_path, words, what, remedy):
    release, *slugs = words
    named = [word for slug in slugs for word in ("--patch", slug)]
    done = tool("wheel", "--release", release, *named, "--output", tmp_path)
    assert (done.returncode, done.stderr.splitlines()[-2:]) == (Exit.REFUSED, [what, remedy])
    assert list(tmp_path.iterdir()) == []
