"""What `status` says, as a process, on environments with real releases and with the names of older ones."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from airflow_auth_patches.installation import apply as patching
from airflow_auth_patches.installation import environments
from airflow_auth_patches.installation.status import status as command
from airflow_auth_patches.releases import fetching
from airflow_auth_patches.util.errors import Exit
from airflow_auth_patches.util.processes import run

TOOL = Path(sys.executable).parent / "airflow-auth-patches"
CORE, FAB = "apache-airflow-core", "apache-airflow-providers-fab"


@pytest.fixture
def environment(tmp_path, pins):
    """Return a function that makes an environment: what is pinned is installed, of all else only the name."""

    def make(**found: str) -> Path:
        python = tmp_path / "env/bin/python"
        run([environments.uv(), "venv", "--quiet", "--python", sys.executable, tmp_path / "env"])
        (site,) = tmp_path.glob("env/lib/*/site-packages")
        words = ["--quiet", "--no-index", "--no-deps", "--link-mode", "copy", "--python", python]
        for stem, version in found.items():
            name = stem.replace("_", "-")
            known = [r for r in pins.releases if f"{r}" == f"{name}=={version}"]
            if known:
                run([environments.uv(), "pip", "install", *words, fetching.fetch(known[0], "wheel")])
            else:
                folder = site / f"{stem}-{version}.dist-info"
                folder.mkdir()
                (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        return python

    return make


def status(python: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TOOL, "status", "--python", python, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def rows(python: Path) -> list[dict]:
    done = status(python, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_upgrade_of_the_provider_comes_first_and_then_the_patches(environment, pins):
    python = environment(apache_airflow_core="3.1.6", apache_airflow_providers_fab="3.3.0")
    core, provider = rows(python)
    assert core["upgrade"] is None
    upgrade = provider["upgrade"]
    release = pins.release(upgrade["to"])
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in release.pythons
    assert upgrade["tested"] is False
    held = [each["bug"] for each in provider["bugs"]]
    assert sorted(upgrade["cures"] + upgrade["leaves"]) == sorted(held)
    first = status(python).stdout.splitlines()[0]
    assert first.startswith(
        f"First upgrade {FAB} 3.3.0 to {release.version}. This cures {', '.join(upgrade['cures'])}"
    )
    assert first.endswith(
        "It was not tested with this core. Then patch the remaining bugs: `airflow-auth-patches apply`."
    )


def test_each_bug_is_told_with_what_cures_it(environment):
    python = environment(apache_airflow_core="3.1.6", apache_airflow_providers_fab="3.3.0")
    said = status(python).stdout.splitlines()
    for row in rows(python):
        for bug in row["bugs"]:
            assert sum(line.startswith(f"{bug['bug']}: ") for line in said) == 1
    (line,) = (line for line in said if line.startswith("user-look-up-freeze: "))
    assert line.endswith("(cured by user-cache, user-from-token-hook).")


@pytest.mark.parametrize("limited", ["core", "pythons"])
def test_the_core_and_the_python_that_are_found_decide(environment, project, pins, limited):
    python = environment(apache_airflow_core="3.1.6", apache_airflow_providers_fab="3.3.0")
    best = command(python, project, pins)[1].upgrade.release
    runs = f"{sys.version_info.major}.{sys.version_info.minor}"
    limits = {"core": SpecifierSet(">=3.2"), "pythons": tuple(each for each in best.pythons if each != runs)}
    limit = {limited: limits[limited]}
    others = tuple(replace(each, **limit) if each is best else each for each in pins.releases)
    upgrade = command(python, project, replace(pins, releases=others))[1].upgrade
    assert upgrade.release.version > best.version


def test_no_upgrade_takes_more_patches_away_than_it_cures(environment, project, pins):
    python = environment(apache_airflow_core="3.2.2", apache_airflow_providers_fab="3.6.5")
    (_, provider) = rows(python)
    release = pins.release(f"{FAB}==3.6.5")
    assert provider["upgrade"]["brings"] == []
    leak = "application-builder-leak"
    names = [patch.slug for patch in project.select(release) if leak not in patch.cures]
    patching.apply(patching.plan(python, project, pins, [*names, "user-from-token-hook"]), pins)
    (_, provider) = rows(python)
    assert [each["bug"] for each in provider["bugs"]] == [leak]
    assert provider["upgrade"] is None


def test_half_of_a_cure_is_warned_of(environment, project, pins):
    python = environment(apache_airflow_core="3.1.6", apache_airflow_providers_fab="3.3.0")
    patching.apply(patching.plan(python, project, pins), pins)
    assert [row["notes"] for row in rows(python)] == [[], []]
    newer = fetching.fetch(pins.release(f"{FAB}==3.4.0"), "wheel")
    words = ["--no-index", "--no-deps", "--python", python]
    run([environments.uv(), "pip", "install", "--quiet", *words, newer])
    assert [row["notes"] for row in rows(python)] == [
        [],
        [
            "core has auth-manager-singleton, which breaks the provider without appbuilder-init-lock: "
            "run `apply` before the next restart"
        ],
    ]


def test_a_core_that_is_not_known_is_given_a_provider_that_needs_no_patch(environment):
    python = environment(apache_airflow_core="3.3.9", apache_airflow_providers_fab="3.3.0")
    assert rows(python)[1]["notes"] == [
        "core has auth-manager-singleton, which breaks the provider without appbuilder-init-lock: "
        "upgrade the provider"
    ]


def test_patches_are_of_another_series_when_they_do_something_else(environment, project, pins):
    python = environment(apache_airflow_core="3.1.6", apache_airflow_providers_fab="3.3.0")
    patching.apply(patching.plan(python, project, pins, ["users-route"]), pins)

    def notes(content: bytes) -> tuple[tuple[str, ...], bool]:
        patches = [replace(p, content=content) if p.slug == "users-route" else p for p in project.patches]
        series = replace(project, patches=tuple(patches))
        planned = patching.plan(python, series, pins, ["users-route"])
        return command(python, series, pins)[1].notes[:1], bool(planned.pending)

    (patch,) = (patch for patch in project.patches if patch.slug == "users-route")
    assert notes(patch.content.replace(b"\n\n", b"\n\nIn other words.\n\n", 1)) == ((), False)
    assert notes(patch.content + b"\n") == (("users-route is from another series: run `apply` again",), True)


@pytest.mark.parametrize("provider", [None, "1.5.3"])
def test_airflow_2_is_told_whatever_the_provider(environment, provider):
    named = {"apache_airflow_providers_fab": provider} if provider else {}
    done = status(environment(apache_airflow="2.11.0", **named))
    assert done.returncode == Exit.REFUSED
    assert done.stderr.strip().startswith(
        f"Airflow 2.11.0 is out of scope: the series begins with {CORE} 3.1.0."
    )


@pytest.mark.parametrize(
    ("core", "said"),
    [
        ("3.0.6", "3.0.6 is out of scope: the series begins with 3.1.0. Upgrade it to 3.1.0 or later."),
        ("3.1.4", "3.1.4 was yanked upstream, and no patch is for it. Upgrade it to 3.1.5 or later."),
    ],
)
@pytest.mark.parametrize("provider", ["3.3.0", "3.2.0"])
def test_a_core_that_no_patch_is_for_is_upgraded_first(environment, core, said, provider):
    python = environment(apache_airflow_core=core, apache_airflow_providers_fab=provider)
    first, second = rows(python)
    assert first["notes"] == [f"{CORE} {said}"]
    assert second["upgrade"] is None
    assert second["notes"][0].endswith(f"Upgrade {CORE} {core} first: `apply` refuses it.")
    assert "First upgrade" not in status(python).stdout


@pytest.mark.parametrize(("core", "least"), [("3.1.6", "3.3.0"), ("3.3.2", "3.5.0")])
def test_an_old_provider_goes_to_one_that_works_with_the_core(environment, core, least):
    python = environment(apache_airflow_core=core, apache_airflow_providers_fab="3.2.0")
    (note,) = rows(python)[1]["notes"]
    assert (
        note == f"{FAB} 3.2.0 is out of scope: the series begins with 3.3.0. Upgrade it to {least} or later."
    )


def test_what_is_no_interpreter_is_said_in_one_line():
    done = status(Path("/bin/ls"))
    assert done.returncode == Exit.USAGE
    assert len(done.stderr.strip().splitlines()) == 2
    assert "import" not in done.stderr


def wheel(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TOOL, "wheel", *words], capture_output=True, text=True, check=False, timeout=120)


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
def test_a_refusal_says_what_to_do(tmp_path, words, what, remedy):
    release, *slugs = words
    named = [word for slug in slugs for word in ("--patch", slug)]
    done = wheel("--release", release, *named, "--output", f"{tmp_path}")
    assert (done.returncode, done.stderr.splitlines()[-2:]) == (Exit.REFUSED, [what, remedy])
    assert list(tmp_path.iterdir()) == []
