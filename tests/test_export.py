"""Commits to send: `git am` takes them, they leave what the series means, and are worded for upstream."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from airflow_auth_patches.cli import app
from airflow_auth_patches.contribute.export import NEWS, message, news_lines
from airflow_auth_patches.contribute.send import Exported, export
from airflow_auth_patches.installation import environments, wheels
from airflow_auth_patches.installation.pair_environments import folder_of
from airflow_auth_patches.releases import fetching, releases
from airflow_auth_patches.releases.releases import to_installed
from airflow_auth_patches.series import importing, series, tree
from airflow_auth_patches.series.series import Patch
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.verification import run_pytest

ROOT = Path(__file__).parents[1]
AUTHOR = "Zoë Łukasz, of the Tests <zoe@example.org>"
CORE, OLD_CORE = "apache-airflow-core==3.3.2", "apache-airflow-core==3.1.8"
FAB, OLD_FAB = "apache-airflow-providers-fab==3.10.2", "apache-airflow-providers-fab==3.3.0"


@dataclasses.dataclass(frozen=True)
class Sent:
    """A release's tree, in which `sent` is the picture of the release with the exported commits on it."""

    imported: tree.Tree
    patches: list[Patch]
    exported: Exported

    @property
    def commits(self) -> list[str]:
        return self.imported.git("rev-list", "--reverse", "released..sent").split()


@pytest.fixture(scope="module", params=[CORE, OLD_CORE, FAB, OLD_FAB])
def sent(request, tmp_path_factory, pins):
    root = tmp_path_factory.mktemp("project")
    for name in ("patches", "airflow-core", "providers"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    loaded = series.load(root / "patches")
    release = pins.release(request.param)
    exported = export(root, loaded, pins, release, root / "out", author=AUTHOR)
    imported = importing.import_patches(root, loaded, pins, release)
    imported.git("tag", "released", "main~" + str(len(loaded.serving(release)) + 1))
    imported.git("checkout", "--quiet", "-b", "sent", "released")
    for file in exported.files:
        imported.git("apply", "--check", file)
        imported.git("am", file)
        imported.git("apply", "--check", "--reverse", file)
    return Sent(imported, loaded.serving(release), exported)


@pytest.mark.parametrize("name", [str(release) for release in releases.load(ROOT / "patches").releases])
def test_every_pinned_release_takes_its_patches_and_gives_them_back(name, pins, project, tmp_path):
    """
    By `git am` and by `git apply`, onto the release's monorepo picture, forwards and back.

    Between, the tree has the bytes that the unit tests run on, and their files.
    """
    release = pins.release(name)
    exported = export(ROOT, project, pins, release, tmp_path / "out", author=AUTHOR)
    picture = tree.Tree(tmp_path / "picture", release)
    tree.write_files(picture.folder, fetching.sources(release))
    picture.git("init", "--quiet", "--initial-branch=main")
    picture.commit(f"{release} as released\n")
    assert len(exported.files) == len(project.serving(release)) > 0
    for file in exported.files:
        picture.git("apply", "--check", file)
        picture.git("am", file)
        picture.git("apply", "--check", "--reverse", file)
    for patch in project.serving(release):
        for path in {*patch.edits, *patch.tests}:
            assert (
                picture.git("log", "--format=%s", "main", "--", path).splitlines().count(patch.subject) == 1
            )
    proven = wheels.patch_release(release, project.serving(release)).after
    here = {path: to_installed(path) for patch in project.serving(release) for path in patch.edits}
    for path, installed in here.items():
        if installed is not None:
            assert (picture.folder / path).read_bytes() == proven[installed]
    for test in {test for patch in project.serving(release) for test in patch.tests}:
        assert (picture.folder / test).read_bytes() == (ROOT / test).read_bytes()
    for file in reversed(exported.files):
        picture.git("apply", "--index", "--reverse", file)
    released = picture.git("rev-parse", f"main~{len(exported.files)}^{{tree}}")
    assert picture.git("write-tree") == released
    assert "??" not in picture.git("status", "--porcelain")
    for file in exported.files:
        picture.git("apply", "--index", file)
    assert picture.git("write-tree") == picture.git("rev-parse", "main^{tree}")


@pytest.mark.proof
def test_the_tests_of_an_exported_tree_pass_in_it(pins, project, tmp_path):
    """With the tree's own sources before the released ones, and fail without them."""
    release, pair = pins.release(CORE), pins.pair("3.3.2+3.10.2")
    names = ["auth-manager-purge-race", "pool-slots-session"]
    tests = [test for patch in project.select(release, names) for test in patch.tests]
    exported = export(ROOT, project, pins, release, tmp_path / "out", names, author=AUTHOR)
    picture = tree.Tree(tmp_path / "picture", release)
    tree.write_files(picture.folder, fetching.sources(release))
    picture.git("init", "--quiet", "--initial-branch=main")
    picture.commit(f"{release} as released\n")
    picture.git("am", *exported.files)
    for shared in (picture.folder / "shared").glob("*/src/airflow_shared/*/"):  # links in the monorepo
        (picture.folder / "airflow-core/src/airflow/_shared" / shared.name).symlink_to(shared)
    stock = environments.make(pair, "3.11", folder_of(ROOT, pair, "3.11", "stock"))
    standin = ROOT / "tests/standin"

    def run(*sources: Path) -> dict[str, str]:
        places = os.pathsep.join(map(str, [*sources, standin]))
        words = ["-p", "tests_common.pytest_plugin", "-c", standin / "pytest.ini"]
        return run_pytest.run(picture.folder, stock, [*words, *tests], variables={"PYTHONPATH": places})

    outcomes = run(picture.folder / "airflow-core/src")
    assert {name.partition("::")[0] for name in outcomes} == set(tests)
    assert set(outcomes.values()) == {"passed"}
    released = run()
    assert {name.partition("::")[0] for name, said in released.items() if said != "passed"} == set(tests)


def test_git_am_leaves_the_files_that_the_tree_has(sent):
    news = news_lines(ROOT / "patches")
    mine = {path for patch in sent.patches for path in patch.tests}
    mine |= {f"{NEWS}/{news[patch.slug]}" for patch in sent.patches if patch.slug in news}
    others = set(tree.added_files(ROOT, sent.imported.release)) - mine
    assert len(mine) >= len(sent.patches)
    difference = sent.imported.git("diff", "--name-status", "sent", "main").splitlines()
    assert set(difference) == {f"A\t{path}" for path in others}
    assert sent.imported.git("status", "--porcelain") == ""


def test_each_patch_is_one_commit_with_its_edits_tests_and_news(sent):
    news = news_lines(ROOT / "patches")
    assert len(sent.commits) == len(sent.patches) == len(sent.exported.files)
    for patch, commit in zip(sent.patches, sent.commits, strict=True):
        paths = sent.imported.git("diff", "--name-only", f"{commit}^", commit).split()
        lines = [f"{NEWS}/{news[patch.slug]}"] if patch.slug in news else []
        assert sorted(paths) == sorted({*patch.edits, *patch.tests, *lines})


def test_core_and_provider_are_never_in_one_commit(sent):
    root = sent.imported.release.distribution.root
    for path in sent.imported.git("diff", "--name-only", "released", "sent").split():
        assert path.startswith(f"{root}/") or (root == "airflow-core" and path.startswith("shared/"))


def test_author_date_and_message_pass_through_the_mail(sent):
    for patch, commit in zip(sent.patches, sent.commits, strict=True):
        author, date, subject = sent.imported.git(
            "log", "-1", "--format=%an <%ae>%n%aD%n%s", commit
        ).splitlines()
        assert author == AUTHOR
        assert date == patch.date
        assert subject == patch.subject
        assert len(subject) < 70
        assert sent.imported.git("log", "-1", "--format=%B", commit).strip() == message(patch).strip()


def test_no_trailer_of_this_series_goes_out(sent):
    for file, patch in zip(sent.exported.files, sent.patches, strict=True):
        head, _, _ = file.read_text().partition("\n---\n")
        assert re.findall(rf"(?m)^(?:{'|'.join(series.TRAILERS)}):", head) == []
        number = patch.trailers["Bug"][0].rpartition("/")[2]
        assert f"\nrelated: #{number}\n" in head
        assert patch.body.partition("\n")[0] in head
        assert "airflow-auth-patches" not in file.read_text()


def test_the_same_commits_are_the_same_bytes(sent, pins, project, tmp_path):
    again = export(ROOT, project, pins, sent.imported.release, tmp_path / "again", author=AUTHOR)
    assert [file.read_bytes() for file in again.files] == [file.read_bytes() for file in sent.exported.files]


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


def test_the_news_line_takes_the_number_of_the_pull_request(pins, project, tmp_path):
    for slug, kind in (("action-logging-off-loop", "bugfix"), ("user-from-token-hook", "feature")):
        release = pins.release(CORE)
        done = export(ROOT, project, pins, release, tmp_path / slug, [slug], author=AUTHOR, number=70001)
        (file,) = done.files
        assert file.name == f"0001-{slug}.patch"
        news = re.findall(r"(?m)^\+\+\+ b/(airflow-core/newsfragments/.*)$", file.read_text())
        assert news == [f"airflow-core/newsfragments/70001.{kind}.rst"]
        assert not any("numbers of issues" in note for note in done.notes)


def test_one_number_is_not_for_two_news_lines(pins, project, tmp_path):
    names = ["action-logging-off-loop", "pool-slots-session"]
    with pytest.raises(Problem, match=r"would both add .*/70001\.bugfix\.rst") as raised:
        export(ROOT, project, pins, pins.release(CORE), tmp_path / "out", names, author=AUTHOR, number=70001)
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
def test_the_sender_is_told(release, names, said, pins, project, tmp_path):
    done = export(ROOT, project, pins, pins.release(release), tmp_path, names, author=AUTHOR)
    assert any(said in note for note in done.notes)


def test_a_title_that_upstream_would_not_take_is_pointed_out(copy, pins, tmp_path):
    path = copy / "patches/providers-fab/security-manager-swap.patch"
    for length, count in ((69, 0), (70, 1)):
        title = f"Subject: [PATCH] {'x' * length}\n"
        path.write_text(re.sub(r"(?m)^Subject: .*\n( .*\n)*", title, path.read_text(), count=1))
        loaded = series.load(copy / "patches")
        output, names = tmp_path / str(length), ["security-manager-swap"]
        done = export(copy, loaded, pins, pins.release(FAB), output, names, author=AUTHOR)
        assert sum(note.startswith("The title of security-manager-swap has") for note in done.notes) == count


def test_a_message_that_names_another_patch_of_ours_is_pointed_out(copy, pins, tmp_path):
    path = copy / "patches/providers-fab/security-manager-swap.patch"
    path.write_text(path.read_text().replace("\n\n", "\n\nAs in users-route.\n", 1))
    names = ["security-manager-swap"]
    loaded = series.load(copy / "patches")
    done = export(copy, loaded, pins, pins.release(FAB), tmp_path / "out", names, author=AUTHOR)
    assert "The message of security-manager-swap mentions users-route" in "".join(done.notes)


def test_a_provider_patch_for_the_newest_release_is_for_main(pins, project, tmp_path):
    names = ["security-manager-swap"]
    assert export(ROOT, project, pins, pins.release(FAB), tmp_path, names, author=AUTHOR).notes == ()


def test_a_commit_of_core_and_provider_is_refused(copy, pins, tmp_path):
    path = copy / "patches/providers-fab/security-manager-swap.patch"
    wrong = b"Tests: airflow-core/tests/unit/api_fastapi/test_auth_manager_purge_race.py\nTests: "
    path.write_bytes(path.read_bytes().replace(b"Tests: ", wrong, 1))
    loaded = series.load(copy / "patches")
    names = ["security-manager-swap"]
    with pytest.raises(Problem, match="does not belong to apache-airflow-providers-fab"):
        export(copy, loaded, pins, pins.release(FAB), tmp_path / "out", names, author=AUTHOR)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--release", "apache-airflow-core==1.0"), Exit.USAGE, "is not pinned"),
        (("--release", CORE, "--author", "nobody"), Exit.USAGE, "'nobody' is not a valid author"),
        (("--release", CORE, "--author", "A <a@b>\nBcc: <c@d>"), Exit.USAGE, "is not a valid author"),
        (("--release", CORE), Exit.USAGE, "The author of the commits is unknown"),
        (("--release", CORE, "--author", AUTHOR, "--pr", "0"), Exit.USAGE, "--pr"),
        (("--release", CORE, "--author", AUTHOR, "--patch", "nonsense"), Exit.USAGE, "no patch 'nonsense'"),
        (
            ("--release", CORE, "--author", AUTHOR, "--patch", "users-route"),
            Exit.REFUSED,
            f"users-route is not for {CORE}",
        ),
        (
            (
                "--release",
                "apache-airflow-providers-fab==3.6.5",
                "--author",
                AUTHOR,
                "--patch",
                "user-cache",
            ),
            Exit.REFUSED,
            "requires user-session",
        ),
    ],
)
def test_bad_input_has_its_exit_code_and_makes_no_folder(arguments, code, said, tmp_path, nobody):
    done = CliRunner().invoke(app, ["export", *arguments, "--output", str(tmp_path / "out")])
    problem = done.exception
    assert (problem.exit_code if isinstance(problem, Problem) else done.exit_code) == code
    assert said in (str(problem) if isinstance(problem, Problem) else done.output)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "code", "said"), [("", Exit.REFUSED, "is not empty"), ("mine", Exit.USAGE, "is not a folder")]
)
def test_what_is_in_the_way_is_left_as_it_is(name, code, said, pins, project, tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(Problem, match=said) as raised:
        export(ROOT, project, pins, pins.release(CORE), tmp_path / name, author=AUTHOR)
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
