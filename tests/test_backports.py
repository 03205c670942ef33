"""Fixes for the branches of the older lines: their titles, what they lack, and what does not go there."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from typer.testing import CliRunner

from airflow_auth_patches.cli import app
from airflow_auth_patches.contribute import backports, upstream
from airflow_auth_patches.contribute.send import Exported
from airflow_auth_patches.contribute.send_backports import backport
from airflow_auth_patches.releases import fetching
from airflow_auth_patches.series import affected, tree
from airflow_auth_patches.series.project import Project, load_project
from airflow_auth_patches.util.errors import Exit, Problem

ROOT = Path(__file__).parents[1]
AUTHOR = "A Sender <sender@example.org>"
SLUG = "pool-slots-session"


@pytest.fixture(scope="module")
def made(this_project, tmp_path_factory) -> Exported:
    output = tmp_path_factory.mktemp("backports") / "out"
    return backport(this_project, output, [SLUG], author=AUTHOR, number=70001, bodies=True)


def commits_of(made: Exported) -> dict[str, Path]:
    return {path.parent.name: path for path in made.files if path.suffix == ".patch"}


def test_a_line_is_its_newest_pinned_release(pins):
    final = [release for release in pins.releases if not release.version.is_prerelease]
    for main in ("3.3.2", "3.4.0b2"):
        beta = dataclasses.replace(pins.release("apache-airflow-core==3.3.2"), version=Version(main))
        some = dataclasses.replace(pins, releases=(*final, beta))
        found = [(line.branch, line.label, str(line.release.version)) for line in backports.lines(some)]
        assert found == [
            ("main", None, main),
            ("v3-3-test", "backport-to-v3-3-test", "3.3.2"),
            ("v3-2-test", None, "3.2.2"),
            ("v3-1-test", None, "3.1.8"),
        ]


@pytest.mark.parametrize(
    ("version", "main", "following"),
    [("3.4.0b2", True, "3.4.0"), ("3.3.2", True, "3.4.0"), ("3.3.2", False, "3.3.3")],
)
def test_next_version_of_a_line(version, main, following, pins):
    release = dataclasses.replace(pins.release("apache-airflow-core==3.3.2"), version=Version(version))
    assert str(upstream.next_version(release, main=main)) == following


def test_new_option_is_there_since_the_next_release_of_the_line(this_project, tmp_path):
    names = ["request-admission"]
    done = backport(this_project, tmp_path / "out", names, author=AUTHOR)
    found = {
        branch: set(re.findall(r"(?m)^\+ +version_added: (.*)$", path.read_text()))
        for branch, path in commits_of(done).items()
    }
    assert list(found)[:2] == ["main", "v3-3-test"]
    assert found == {
        "main": {"3.4.0"},
        "v3-3-test": {"3.3.3"},
        "v3-2-test": {"3.2.3"},
        "v3-1-test": {"3.1.9"},
    }


@pytest.mark.parametrize(
    ("branch", "version", "title"),
    [
        ("v3-3-test", "3.3.2", "[v3-3-test] {} (#70001)"),
        ("v3-2-test", "3.2.2", "[v3-2-test] {} (#70001)"),
        ("v3-1-test", "3.1.8", "[v3-1-test] {} (#70001)"),
    ],
)
def test_each_line_takes_its_variant_under_its_title(branch, version, title, made, project, pins, tmp_path):
    release = pins.release(f"apache-airflow-core=={version}")
    patch = next(p for p in project.serving(release) if p.slug == SLUG)
    release_tree = tree.Tree(tmp_path / "picture", release)
    stock = fetching.sources(release)
    tree.write_files(release_tree.folder, {path: stock[path] for path in patch.edits if path in stock})
    release_tree.git("init", "--quiet", "--initial-branch=main")
    release_tree.commit("as released\n")
    release_tree.git("am", "--keep-non-patch", commits_of(made)[branch])
    assert release_tree.git("log", "-1", "--format=%s").strip() == title.format(patch.subject)
    names = release_tree.git("diff", "--name-only", "HEAD~1").split()
    assert sorted(names) == sorted(
        [*patch.edits, *patch.tests, "airflow-core/newsfragments/70001.bugfix.rst"]
    )


def test_the_bodies_say_what_they_are_backports_of(made):
    texts = {path.parent.name: path.read_text() for path in made.files if path.suffix == ".md"}
    assert set(texts) == {"main", "v3-3-test"}  # upstream releases nothing from the older branches
    assert "Backport of" not in texts["main"]
    assert "Labels: backport-to-v3-3-test\n" in texts["main"]
    assert "\n\nBackport of #70001.\n\n" in texts["v3-3-test"]
    assert "Labels" not in texts["v3-3-test"]
    assert re.search(r"### Difference from the original\n\n```\n1:  [0-9a-f]+ . 1:  ", texts["v3-3-test"])
    assert any("from v3-2-test, v3-1-test: their commits are for those who build" in n for n in made.notes)


def test_the_range_diff_shows_what_differs_and_no_more(this_project, made):
    assert list(made.differences) == ["main..v3-3-test", "main..v3-2-test", "main..v3-1-test"]
    shown = made.differences["main..v3-2-test"]
    assert shown.splitlines()[0].count(" ! ") == 1
    assert "- from airflow.configuration import conf" in shown
    assert "v3-2-test" not in shown
    alike = backport(this_project, None, ["auth-manager-purge-race"], author=AUTHOR)
    assert re.fullmatch(
        r"1:  [0-9a-f]+ = 1:  [0-9a-f]+ Keep requests working while the cached app is purged\n",
        alike.differences["main..v3-3-test"],
    )
    assert alike.files == ()


@pytest.fixture
def without_results(copy):
    (copy / "patches" / affected.FILE).unlink(missing_ok=True)
    return load_project(copy)


def notes(project: Project, *names: str) -> str:
    return "\n".join(backport(project, None, names, author=AUTHOR).notes)


def test_a_line_without_the_code_is_not_affected(without_results):
    told = notes(without_results, "revoked-token-leeway", "revoked-token-off-loop")
    assert (
        "revoked-token-off-loop does not go to v3-1-test: 3.1.8 is not affected: it has no airflow-core/src"
        in told
    )
    assert "models/revoked_token.py." in told
    assert "to main: backport-to-v3-3-test." in told


def test_a_file_that_a_patch_adds_does_not_say_that_a_line_is_not_affected(without_results, adding):
    release = "apache-airflow-core==3.3.2"
    patch = adding(release, {"airflow-core/src/airflow/added_module.py": "LIMIT = 1\n"})
    series = without_results.series
    series = dataclasses.replace(series, patches=(*series.patches, patch))
    line = backports.lines(without_results.releases)[-1]
    loaded = dataclasses.replace(without_results, series=series)
    told = backports.why_not(loaded, {}, patch.slug, line)
    assert told == "its forms are for 3.3.2 to 3.3.2, not for 3.1.8"


def test_what_upstream_has_fixed_does_not_go_to_main(without_results):
    told = notes(without_results, "auth-manager-singleton")
    assert "does not go to main: fixed upstream in 3.2.0." in told
    assert "does not go to v3-2-test: fixed upstream in 3.2.0." in told
    assert "Open a pull request" not in told
    assert "releases nothing from v3-1-test" in told


def test_a_feature_is_for_no_branch_without_asking(without_results):
    told = notes(without_results, "user-from-token-hook")
    assert "user-from-token-hook is of the kind feature. The branches accept only bug fixes" in told
    assert "Labels" not in told


def test_what_was_not_run_is_said(without_results):
    told = notes(without_results, "action-logging-off-loop")
    assert "its forms are for 3.2.0 to 3.4.0b2, not for 3.1.8" in told
    assert (
        "to check whether 3.1.8 has the bug, run `airflow-auth-patches judge apache-airflow-core==3.1.8`"
        in told
    )


@pytest.mark.parametrize(
    ("stock", "patched", "said"),
    [
        ("passed", None, "3.1.8 is not affected, according to the reproducer"),
        ("failed: assert 1 == 2", None, "3.1.8: known issue, its row waits elsewhere"),
        ("failed: ImportError: no", None, "3.1.8: unclear, failed: ImportError: no"),
    ],
)
def test_recorded_result_goes_before_what_text_can_tell(stock, patched, said, without_results):
    """Whether a line has a bug, its reproducer decides."""
    release, bug = "apache-airflow-core==3.1.8", "audit-log-freeze"
    entry = {
        "installed_with": "x",
        "python": "3.11",
        "reproducer": "0",
        "stock": stock,
        "patched": patched,
        "patches": {},
        "inputs": "0",
    }
    series = without_results.series
    (series.folder / affected.FILE).write_text(json.dumps({release: {bug: entry}}))
    why = ((SpecifierSet("==3.1.8"), "its row waits elsewhere"),)
    bugs = {**series.bugs, bug: dataclasses.replace(series.bugs[bug], open_on=why)}
    loaded = dataclasses.replace(without_results, series=dataclasses.replace(series, bugs=bugs))
    assert f"does not go to v3-1-test: {said}." in notes(loaded, "action-logging-off-loop")


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("user-cache", Exit.USAGE, "providers are released only from main and have no backports"),
        ("nonsense", Exit.USAGE, "no patch 'nonsense'"),
        (
            "logout-revokes-first",
            Exit.REFUSED,
            "nothing to backport of logout-revokes-first: main: fixed upstream in 3.2.2",
        ),
    ],
)
def test_what_has_no_backport_is_refused(this_project, name, code, said, tmp_path):
    with pytest.raises(Problem, match=said) as raised:
        backport(this_project, tmp_path / "out", [name], author=AUTHOR)
    assert raised.value.exit_code == code
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--backports", "--output", "out"), "--backports needs a patch to export"),
        (
            ("--backports", "--patch", SLUG),
            "The target of the export is missing. Use --output, --range-diff or both",
        ),
        (
            ("--backports", "--patch", SLUG, "--release", "apache-airflow-core==3.3.2"),
            "--backports cannot be combined with --release or --checkout",
        ),
        (
            ("--backports", "--patch", SLUG, "--checkout", "."),
            "--backports cannot be combined with --release or --checkout",
        ),
        (("--range-diff", "--patch", SLUG, "--bodies"), "--bodies needs a folder to write into"),
        (("--output", "out"), "The release to export is missing. Use --release or --backports"),
    ],
)
def test_bad_input_is_one_sentence(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["export", *arguments, "--author", AUTHOR])
    assert isinstance(done.exception, Problem), done.output
    assert said in str(done.exception)
    assert done.exception.exit_code == Exit.USAGE
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_folder_for_each_branch_and_shows_how_they_differ(tmp_path):
    output = tmp_path / "out"
    options = ("--backports", "--range-diff", "--patch", SLUG, "--author", AUTHOR, "--output", str(output))
    done = CliRunner().invoke(app, ["export", *options])
    assert done.exit_code == 0, done.output
    for branch in ("main", "v3-3-test", "v3-2-test", "v3-1-test"):
        assert f"{output}/{branch}/0001-{SLUG}.patch\n" in done.output
        assert [path.name for path in (output / branch).iterdir()] == [f"0001-{SLUG}.patch"]
    assert "\nmain..v3-1-test\n1:  " in done.output
    assert "add it with --pr" in done.output
