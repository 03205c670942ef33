"""Commits to send: `git am` takes them, they leave what the series means, and are worded for upstream."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from airflow_auth_patches.cli import app
from airflow_auth_patches.contribute import upstream
from airflow_auth_patches.contribute.export import NEWS, for_version, message, news_lines
from airflow_auth_patches.contribute.send import export
from airflow_auth_patches.installation import wheels
from airflow_auth_patches.releases import fetching, releases
from airflow_auth_patches.releases.releases import to_installed
from airflow_auth_patches.series import series, tree
from airflow_auth_patches.series.project import load_project
from airflow_auth_patches.series.series import Patch
from airflow_auth_patches.util.errors import Exit, Problem

ROOT = Path(__file__).parents[1]
AUTHOR = "Zoë Łukasz, of the Tests <zoe@example.org>"
CORE, OLD_CORE = "apache-airflow-core==3.3.2", "apache-airflow-core==3.1.8"
FAB, OLD_FAB = "apache-airflow-providers-fab==3.10.2", "apache-airflow-providers-fab==3.3.0"


@pytest.fixture
def sent(this_project, pins, tmp_path):
    """Return a function that exports patches of a release to a new folder."""

    def make(release, names=None, *, output=tmp_path / "out", project=this_project, **options):
        found = pins.release(release)
        return export(project, found, output, names, **{"author": AUTHOR, **options})

    return make


@pytest.fixture
def picture(tmp_path, pins, project):
    """Return a function that makes a repository of a release, by default of the files that patches edit."""

    def make(name, *, whole=False):
        release = pins.release(name)
        made = tree.Tree(tmp_path / "picture", release)
        stock = fetching.sources(release) if whole else fetching.chosen_sources(release, project.edited)
        tree.write_files(made.folder, stock)
        made.git("init", "--quiet", "--initial-branch=main")
        made.commit(f"{name} as released\n")
        return made

    return make


@pytest.mark.parametrize("name", [str(release) for release in releases.load(ROOT / "patches").releases])
def test_git_applies_and_reverts_the_commits_on_every_pinned_release(name, sent, picture, pins, project):
    """In between, the tree has the files that the unit tests run on."""
    patches, files = project.serving(pins.release(name)), sent(name).files
    made = picture(name)
    assert len(files) == len(patches) > 0
    for file, patch in zip(files, patches, strict=True):
        made.git("apply", "--check", file)
        made.git("am", file)
        made.git("apply", "--check", "--reverse", file)
        check_commit(made, file, patch, news_lines(project.folder).get(patch.slug))
    main = made.release == upstream.newest(pins, made.release.distribution)
    version = upstream.next_version(made.release, main=main)
    exported = [for_version(patch, version) for patch in patches]
    proven = wheels.patch_release(made.release, exported).after
    here = {path: to_installed(path) for patch in patches for path in patch.edits}
    expected = {path: proven[installed] for path, installed in here.items() if installed is not None}
    expected |= {test: (ROOT / test).read_bytes() for patch in patches for test in patch.tests}
    assert {path: (made.folder / path).read_bytes() for path in expected} == expected
    for file in reversed(files):
        made.git("apply", "--index", "--reverse", file)
    assert made.git("write-tree") == made.git("rev-parse", f"main~{len(files)}^{{tree}}")
    assert "??" not in made.git("status", "--porcelain")
    for file in files:
        made.git("apply", "--index", file)
    assert made.git("write-tree") == made.git("rev-parse", "main^{tree}")


def check_commit(made: tree.Tree, file: Path, patch: Patch, news: str | None) -> None:
    """Check that the last commit has one distribution's files, and the author and message for upstream."""
    paths = made.git("diff", "--name-only", "HEAD~1", "HEAD").split()
    assert sorted(paths) == sorted({*patch.edits, *patch.tests, *([f"{NEWS}/{news}"] if news else [])})
    root = made.release.distribution.root
    assert all(path.startswith((f"{root}/", "shared/")[: 1 + (root == "airflow-core")]) for path in paths)
    shown = made.git("log", "-1", "--format=%an <%ae>%n%aD%n%B").partition("\n" + patch.date + "\n")
    assert (shown[0], shown[2].strip()) == (AUTHOR, message(patch).strip())
    assert message(patch).splitlines()[0] == patch.subject
    assert len(patch.subject) < 70
    head = file.read_text().partition("\n---\n")[0]
    assert re.findall(rf"(?m)^(?:{'|'.join(series.TRAILERS)}):", head) == []
    assert f"\nrelated: #{patch.trailers['Bug'][0].rpartition('/')[2]}\n" in head
    assert patch.body.partition("\n")[0] in head
    assert "airflow-auth-patches" not in file.read_text()


def test_the_same_commits_are_the_same_bytes(sent, tmp_path):
    first, again = (sent(FAB, output=tmp_path / name).files for name in ("first", "again"))
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in first]


def test_every_added_file_is_of_a_patch_or_a_reproducer(project):
    news = news_lines(project.folder)
    assert set(news) <= {patch.slug for patch in project.patches if patch.distribution is releases.CORE}
    assert {p.slug for p in project.patches if p.distribution is releases.CORE and p.cures} <= set(news)
    lines = {path.name for path in (ROOT / NEWS).iterdir()}
    assert sorted(lines) == sorted(news.values())
    for line in lines:
        assert (ROOT / NEWS / line).read_text().count("\n") == 1
    tests = {path for patch in project.patches for path in patch.tests}
    tests |= {(bug.reproducer or "").partition("::")[0] for bug in project.bugs.values()}
    added = {
        path.relative_to(ROOT).as_posix()
        for dist in releases.DISTRIBUTIONS
        for path in (ROOT / dist.root / "tests").rglob("*.py")
    }
    assert added == tests


@pytest.mark.parametrize(
    ("slug", "kind"), [("action-logging-off-loop", "bugfix"), ("user-from-token-hook", "feature")]
)
def test_the_newsfragment_has_the_number_of_the_pull_request(slug, kind, sent):
    done = sent(CORE, [slug], number=70001)
    (file,) = done.files
    assert file.name == f"0001-{slug}.patch"
    news = re.findall(r"(?m)^\+\+\+ b/(airflow-core/newsfragments/.*)$", file.read_text())
    assert news == [f"airflow-core/newsfragments/70001.{kind}.rst"]
    assert not any("named for issues" in note for note in done.notes)


def test_newsfragment_can_be_left_out(sent):
    done = sent(CORE, ["action-logging-off-loop", "pool-slots-session"], number=70001, news=False)
    assert "newsfragments" not in "".join(file.read_text() for file in done.files)
    assert not any("newsfragment" in note for note in done.notes)


def test_refuses_one_number_for_two_newsfragments(sent, tmp_path):
    with pytest.raises(Problem, match=r"would both add .*/70001\.bugfix\.rst") as raised:
        sent(CORE, ["action-logging-off-loop", "pool-slots-session"], number=70001)
    assert raised.value.exit_code == Exit.USAGE
    assert not (tmp_path / "out").exists()


def test_a_number_in_a_message_is_linked_and_a_count_is_not(project):
    patch = next(p for p in project.patches if p.slug == "auth-manager-singleton")
    text = message(patch)
    assert "This is the core half of #62431, without" in text
    assert "Unlike #62214, which was reverted" in text
    assert "On 3.1.6 with FAB provider 3.3.0, 49 of 50\nrequests failed" in text
    assert text.endswith("\n\nrelated: #61108\nrelated: #62431\n")
    counts = dataclasses.replace(patch, body="50,000 and 12345.6, /12345, v12345 and 123456.\n\nBug: none")
    assert message(counts).splitlines()[2] == "50,000 and 12345.6, /12345, v12345 and 123456."


@pytest.mark.parametrize(
    ("release", "names", "said"),
    [
        (OLD_FAB, ["users-route"], "Providers are released only from main"),
        (OLD_FAB, ["users-route"], "users-route is not for main: upstream's model has plain dates"),
        (OLD_CORE, ["auth-manager-singleton"], "co-requires appbuilder-init-lock"),
        (CORE, ["request-admission"], "The newsfragments of request-admission are named for issues"),
    ],
)
def test_the_sender_is_told(release, names, said, sent):
    assert any(said in note for note in sent(release, names).notes)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            r"(?m)^Subject: .*\n( .*\n)*",
            f"Subject: [PATCH] {'x' * 70}\n",
            "The title of {} has 70 characters",
        ),
        (r"(?m)^Subject: .*\n( .*\n)*", f"Subject: [PATCH] {'x' * 69}\n", None),
        (r"\n\n", "\n\nAs in users-route.\n", "The message of {} mentions users-route"),
    ],
)
def test_notes_what_upstream_would_not_accept_in_a_message(old, new, said, copy, sent):
    path = copy / "patches/providers-fab/security-manager-swap.patch"
    path.write_text(re.sub(old, new, path.read_text(), count=1))
    notes = sent(FAB, [path.stem], project=load_project(copy)).notes
    assert [note.startswith(str(said).format(path.stem)) for note in notes] == ([True] if said else [])


def test_refuses_a_commit_of_core_and_provider(copy, sent, tmp_path):
    path = copy / "patches/providers-fab/security-manager-swap.patch"
    wrong = b"Tests: airflow-core/tests/unit/api_fastapi/test_auth_manager_purge_race.py\nTests: "
    path.write_bytes(path.read_bytes().replace(b"Tests: ", wrong, 1))
    with pytest.raises(Problem, match="does not belong to apache-airflow-providers-fab"):
        sent(FAB, [path.stem], project=load_project(copy))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("release", "arguments", "code", "said"),
    [
        ("apache-airflow-core==1.0", (), Exit.USAGE, "is not pinned"),
        (CORE, ("--author", "nobody"), Exit.USAGE, "'nobody' is not a valid author"),
        (CORE, ("--author", "A <a@b>\nBcc: <c@d>"), Exit.USAGE, "is not a valid author"),
        (CORE, (), Exit.USAGE, "The author of the commits is unknown"),
        (CORE, ("--author", AUTHOR, "--pr", "0"), Exit.USAGE, "--pr"),
        (CORE, ("--author", AUTHOR, "--patch", "nonsense"), Exit.USAGE, "no patch 'nonsense'"),
        (CORE, ("--author", AUTHOR, "--patch", "users-route"), Exit.REFUSED, "users-route is not for"),
        (
            "apache-airflow-providers-fab==3.6.5",
            ("--author", AUTHOR, "--patch", "user-cache"),
            Exit.REFUSED,
            "requires user-session",
        ),
    ],
)
def test_bad_input_has_its_exit_code_and_makes_no_folder(release, arguments, code, said, tmp_path, nobody):
    done = CliRunner().invoke(
        app, ["export", "--release", release, *arguments, "--output", str(tmp_path / "out")]
    )
    problem = done.exception
    assert (problem.exit_code if isinstance(problem, Problem) else done.exit_code) == code
    assert said in (str(problem) if isinstance(problem, Problem) else done.output)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "code", "said"), [("", Exit.REFUSED, "is not empty"), ("mine", Exit.USAGE, "is not a folder")]
)
def test_what_is_in_the_way_is_left_as_it_is(name, code, said, sent, tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(Problem, match=said) as raised:
        sent(CORE, output=tmp_path / name)
    assert raised.value.exit_code == code
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_the_command_by_default_sends_as_who_git_says(tmp_path, nobody):
    nobody.write_text("[user]\nname = Ann Sender\nemail = ann@example.org\n")
    output = tmp_path / "out"
    tool = Path(sys.executable).parent / "airflow-auth-patches"
    command = [tool, "export", "--release", OLD_FAB, "--patch", "users-route", "--output", output]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [Path(line) for line in done.stdout.splitlines()] == [output / "0001-users-route.patch"]
    assert "\nFrom: Ann Sender <ann@example.org>\n" in (output / "0001-users-route.patch").read_text()
    assert "Providers are released only from main" in done.stderr
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert again.returncode == Exit.REFUSED
    assert "is not empty" in again.stderr


@pytest.fixture
def nobody(tmp_path, monkeypatch):
    """Make git know no user, and return the configuration that it reads, which is empty."""
    config = tmp_path / "gitconfig"
    config.touch()
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.chdir(tmp_path)
    return config
