"""A branch in a checkout of Airflow: what `git am` would make, and else a checkout that is as it was."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from airflow_auth_patches.cli import app
from airflow_auth_patches.contribute import branch, placing
from airflow_auth_patches.contribute.export import commits
from airflow_auth_patches.contribute.send import Exported, Target, export
from airflow_auth_patches.demo.listening import blob
from airflow_auth_patches.releases.checkout import opened as open_checkout
from airflow_auth_patches.releases.fetching import sources
from airflow_auth_patches.series import series, tree
from airflow_auth_patches.util.errors import Exit, Problem

ROOT = Path(__file__).parents[1]
AUTHOR = "Zoë Łukasz, of the Tests <zoe@example.org>"
CORE, FAB = "apache-airflow-core==3.3.2", "apache-airflow-providers-fab==3.3.0"
SLUG, EDITED = "pool-slots-session", "airflow-core/src/airflow/api_fastapi/core_api/datamodels/pools.py"
TEST = "airflow-core/tests/unit/api_fastapi/core_api/test_pool_slots_session.py"
BRANCH = f"auth-patches/{SLUG}"


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    """Keep the configuration of whoever runs the tests out of them."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


class Upstream:
    """A repository with what a release's patches edit, where the monorepo has it."""

    def __init__(self, folder: Path, project: series.Series, release) -> None:
        self.path, self.release = folder, release
        files = sources(release)
        dist = release.distribution
        paths = {path for patch in project.serving(release) for path in patch.edits if path in files}
        paths.add(f"{dist.root}/src/{dist.package}/__init__.py")
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        self.write({path: files[path] for path in paths})
        self.commit("as released")

    def git(self, *arguments: str | Path) -> str:
        who = ("-c", "user.name=Up Stream", "-c", "user.email=up@example.org")
        command = ["git", *who, *map(str, arguments)]
        done = subprocess.run(command, cwd=self.path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def write(self, files: dict[str, bytes]) -> None:
        tree.write_files(self.path, files)

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", message)

    def replace(self, path: str, old: bytes, new: bytes) -> None:
        content = (self.path / path).read_bytes()
        assert content.count(old) == 1
        self.write({path: content.replace(old, new)})
        self.commit(f"Change {path}")


@pytest.fixture
def upstream(tmp_path, project, pins) -> Upstream:
    return Upstream(tmp_path / "airflow", project, pins.release(CORE))


@pytest.fixture
def send(project, pins, upstream):
    """Return what makes a branch with one patch in the repository."""

    def sent(slug: str = SLUG, output: Path | None = None, **target: str) -> Exported:
        return export(
            ROOT,
            project,
            pins,
            upstream.release,
            output,
            [slug],
            author=AUTHOR,
            target=Target(upstream.path, **target),
        )

    return sent


def everything(folder: Path) -> dict[str, bytes | str]:
    """Return all that is in a folder, its git folder included, byte for byte."""

    def entries() -> Iterator[tuple[str, bytes | str]]:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink():
                yield name, f"-> {path.readlink()}"
            else:
                yield name, "folder" if path.is_dir() else path.read_bytes()

    return dict(entries())


def added(before: dict, after: dict) -> set[str]:
    """Return what is there since, where all that was there before is as it was; objects are left out."""
    assert {name: after.get(name) for name in before} == before
    return {name for name in after.keys() - before.keys() if not name.startswith(".git/objects/")}


def mess_up(upstream: Upstream) -> None:
    """Have a stash, something staged, changed, removed and untracked, and the branch of nobody."""
    git = upstream.git
    (upstream.path / EDITED).write_text("stashed\n")
    git("stash", "--quiet")
    (upstream.path / "new.py").write_text("staged\n")
    git("add", "new.py")
    (upstream.path / "new.py").write_text("changed again\n")
    (upstream.path / EDITED).write_text("mine\n")
    (upstream.path / "untracked.txt").write_text("mine\n")
    (upstream.path / "airflow-core/src/airflow/__init__.py").unlink()
    git("branch", "other")
    git("status")


def test_branch_has_the_commits_that_git_am_makes(tmp_path, project, pins):
    """All patches of a release, one on top of the other."""
    upstream = Upstream(tmp_path / "airflow", project, pins.release(FAB))
    target = Target(upstream.path)
    output = tmp_path / "out"
    done = export(ROOT, project, pins, upstream.release, output, author=AUTHOR, target=target)
    assert done.branch == "auth-patches/providers-fab-3.3.0"
    assert done.told == ()
    shutil.copytree(upstream.path, tmp_path / "by-hand")
    upstream.git("-C", tmp_path / "by-hand", "am", *done.files)
    shown = ("log", "--format=%T%n%an <%ae>%n%aD%n%B")
    assert upstream.git(*shown, done.branch) == upstream.git("-C", tmp_path / "by-hand", *shown)
    assert len(done.files) == len(project.serving(upstream.release))
    upstream.git("fsck", "--strict", "--no-dangling")


def test_only_a_branch_is_new_in_a_checkout_that_is_worked_in(upstream, send):
    mess_up(upstream)
    before = everything(upstream.path)
    done = send()
    assert done.branch == BRANCH
    assert added(before, everything(upstream.path)) == {
        ".git/refs/heads/auth-patches",
        f".git/refs/heads/{BRANCH}",
        ".git/logs/refs/heads/auth-patches",
        f".git/logs/refs/heads/{BRANCH}",
    }
    names = upstream.git("diff", "--name-only", "main", BRANCH).split()
    assert sorted(names) == ["airflow-core/newsfragments/66493.bugfix.4.rst", EDITED, TEST]
    assert upstream.git("rev-parse", f"{BRANCH}^") == upstream.git("rev-parse", "main")


@pytest.mark.parametrize("kind", ["detached", "worktree", "bare", "packed", "below"])
def test_any_kind_of_repository_will_do(kind, upstream, project, pins, tmp_path):
    path = upstream.path
    if kind == "detached":
        upstream.git("checkout", "--quiet", "--detach")
    elif kind == "worktree":
        path = tmp_path / "linked"
        upstream.git("worktree", "add", "--quiet", "--detach", path)
    elif kind == "bare":
        path = tmp_path / "airflow.git"
        upstream.git("clone", "--quiet", "--bare", upstream.path, path)
    elif kind == "packed":
        upstream.git("gc", "--quiet")
    else:
        path = path / "airflow-core/src"
    before = everything(upstream.path)
    target = Target(path, "mine", "main")
    done = export(ROOT, project, pins, upstream.release, None, [SLUG], author=AUTHOR, target=target)
    assert done.branch == "mine"
    names = upstream.git("-C", path, "diff", "--name-only", "main", "mine", "--", ":/").split()
    assert EDITED in names
    fresh = added(before, everything(upstream.path))
    assert fresh == (set() if kind == "bare" else {".git/refs/heads/mine", ".git/logs/refs/heads/mine"})


def test_hunks_that_moved_are_named_with_their_offsets(upstream, send):
    upstream.replace(EDITED, b"from __future__", b"# one\n# two\n# three\nfrom __future__")
    patched = upstream.git("show", f"{send(branch='without', at='HEAD~1').branch}:{EDITED}")
    done = send()
    assert done.told == (f"{SLUG}: {EDITED}: hunk 1 moved by +3 lines",)
    expected = patched.replace("from __future__", "# one\n# two\n# three\nfrom __future__")
    assert upstream.git("show", f"{BRANCH}:{EDITED}") == expected


def test_only_the_hunks_below_a_change_moved(upstream, send):
    slug, edited = "auth-manager-purge-race", "airflow-core/src/airflow/api_fastapi/app.py"
    upstream.replace(
        edited, b"    am = create_auth_manager()\n", b"    # one\n    am = create_auth_manager()\n"
    )
    assert send(slug).told == (f"{slug}: {edited}: hunk 2 moved by +1 lines",)


def context(project: series.Series) -> list[bytes]:
    """Return the lines of the first hunk of the patch, as it stands in the patch."""
    patch = next(p for p in project.patches if p.name == SLUG)
    return list(patch.edits[EDITED][0].parsed.text)


def test_a_hunk_without_a_place_is_merged_three_way(upstream, send, project):
    """The outermost line of its context has changed, which the patch does not touch."""
    first = context(project)[0][1:]
    upstream.replace(EDITED, first, first.rstrip(b"\n") + b"  # changed\n")
    done = send()
    assert done.told == (f"{SLUG}: {EDITED}: hunk 1 rejected, then merged three-way: review it",)
    text = upstream.git("show", f"{BRANCH}:{EDITED}")
    assert "  # changed\n" in text
    assert "from sqlalchemy import inspect\n" in text
    assert "<<<<" not in text


def refused(upstream: Upstream, send, *said: str) -> None:
    """Find a branch refused for those reasons, and the checkout byte for byte as it was, objects included."""
    mess_up(upstream)
    before = everything(upstream.path)
    output = upstream.path.parent / "out/deep"
    with pytest.raises(Problem) as raised:
        send(output=output)
    for text in said:
        assert text in str(raised.value)
    assert raised.value.exit_code == Exit.REFUSED
    assert everything(upstream.path) == before
    assert not output.parent.exists()


def test_a_conflict_is_refused_with_its_hunk_and_nothing_is_changed(upstream, send, project):
    gone = next(line[1:] for line in context(project) if line.startswith(b" from airflow.api_fastapi"))
    upstream.replace(EDITED, gone, b"import something.else\n")
    patch = next(p for p in project.patches if p.name == SLUG)
    number, removed = next(
        (number, line[1:])
        for number, hunk in enumerate(patch.edits[EDITED], 1)
        for line in hunk.parsed.text
        if line.startswith(b"-")
    )
    upstream.replace(EDITED, removed, b"    entirely = 'different'\n")
    refused(upstream, send, f"{EDITED}: hunk", f"{number} rejected, and a three-way merge conflicts")


def test_a_file_that_is_gone_is_refused(upstream, send):
    upstream.git("rm", "--quiet", EDITED)
    upstream.commit("Remove it")
    refused(upstream, send, f"{EDITED}: the checkout has no such file")


def test_an_added_file_that_is_there_and_differs_is_refused(upstream, send):
    upstream.write({TEST: b"another\n"})
    upstream.commit("Add it")
    refused(upstream, send, f"{TEST}: the checkout has a file with that name and other content")


def test_an_added_file_whose_name_is_a_folder_is_refused(upstream, send):
    upstream.write({f"{TEST}/x": b"another\n"})
    upstream.commit("Add it")
    refused(upstream, send, f"{TEST}: the checkout has a folder or link with that name")


def test_an_added_file_that_is_there_already_is_no_reason(upstream, send):
    upstream.write({TEST: (ROOT / TEST).read_bytes()})
    upstream.commit("Add it")
    assert TEST not in upstream.git("diff", "--name-only", "main", str(send().branch))


def test_what_has_the_patch_already_is_refused(upstream, send):
    send(branch="done")
    upstream.git("checkout", "--quiet", "done")
    refused(upstream, send, f"already has the edits of {SLUG}")


def test_modes_are_kept(upstream, send):
    upstream.git("update-index", "--chmod=+x", EDITED)
    upstream.git("commit", "--quiet", "-m", "Make it executable")
    send()
    assert upstream.git("ls-tree", BRANCH, EDITED).startswith("100755 ")


def test_a_file_with_carriage_returns_elsewhere_is_kept_byte_for_byte(upstream, send):
    upstream.replace(EDITED, b"\nclass BasePool", b"\n# a\r\n\nclass BasePool")
    upstream.git("config", "core.autocrlf", "true")
    send()
    shown = subprocess.run(
        ["git", "show", f"{BRANCH}:{EDITED}"], cwd=upstream.path, capture_output=True, check=True
    )
    assert shown.stdout.count(b"\r\n") == 1


@pytest.mark.parametrize("name", [BRANCH, "auth-patches", f"{BRANCH}/deeper"])
def test_a_branch_in_the_way_is_left(name, upstream, send):
    upstream.git("branch", name)
    refused(upstream, send, f"already has the branch {name}")


def test_a_branch_that_comes_meanwhile_is_left_and_nothing_is_written(upstream, send, wrapped, tmp_path):
    wrapped("update-ref", f'"$git" -C {upstream.path} branch {BRANCH} main')
    with pytest.raises(Problem) as raised:
        send(output=tmp_path / "out")
    assert raised.value.exit_code == Exit.FAILED
    assert upstream.git("rev-parse", BRANCH) == upstream.git("rev-parse", "main")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def wrapped(tmp_path, monkeypatch):
    """Return what has a command run whenever git is called with a word, before git itself."""

    def wrap(word: str, command: str) -> None:
        script = tmp_path / "bin/git"
        script.parent.mkdir()
        script.write_text(
            f"#!/bin/sh\ngit={shutil.which('git')}\n"
            f'case " $* " in *" {word} "*) {command};; esac\nexec "$git" "$@"\n'
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")

    return wrap


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("word", ["unpack-file", "hash-object", "commit-tree", "update-ref"])
def test_interrupted_it_leaves_the_checkout_as_it_was(word, number, upstream, wrapped, tmp_path, monkeypatch):
    mess_up(upstream)
    before = everything(upstream.path)
    # The tool is the parent of git; it is interrupted, and git waits until it is ended.
    wrapped(word, f"kill -{number.value} $PPID; exec tail -f /dev/null")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    tool = Path(sys.executable).parent / "airflow-auth-patches"
    options = ("--release", CORE, "--patch", SLUG, "--author", AUTHOR)
    places = ("--checkout", upstream.path, "--output", tmp_path / "out")
    done = subprocess.run(
        [tool, "export", *options, *places], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 128 + number, done.stderr
    assert done.stderr.splitlines()[-1] == "Interrupted."
    assert added(before, everything(upstream.path)) == set()
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / "temporary").iterdir()) == []
    upstream.git("fsck", "--strict", "--no-dangling")


def test_the_users_settings_of_git_write_nothing(upstream, send):
    """A shared index and a monitor would leave files of their own."""
    for setting in (
        "core.splitIndex",
        "core.sparseCheckout",
        "index.sparse",
        "rerere.enabled",
        "commit.gpgSign",
    ):
        upstream.git("config", setting, "true")
    before = everything(upstream.path)
    send()
    assert not [name for name in added(before, everything(upstream.path)) if "index" in name]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--checkout", "nowhere"), "nowhere is not a folder"),
        (("--checkout", "plain"), "plain is not a git repository: fatal: not a git repository"),
        (("--checkout", "empty"), "empty has no commit HEAD"),
        (("--checkout", "airflow", "--at", "v9-9-test"), "airflow has no commit v9-9-test"),
        (("--checkout", "airflow", "--at", "--help"), "airflow has no commit --help"),
        (("--checkout", "other"), "other at HEAD is not a checkout of Airflow 3: it has no airflow-core/src"),
        (("--checkout", "airflow", "--branch", "a..b"), "'a..b' is not a valid branch name"),
        (("--checkout", "airflow", "--branch", "-x"), "'-x' is not a valid branch name"),
        (("--checkout", "airflow", "--branch", "@{-1}"), "'@{-1}' is not a valid branch name"),
        (("--checkout", "airflow", "--branch", "HEAD"), "'HEAD' is not a valid branch name"),
        (("--checkout", "airflow", "--branch", ""), "'' is not a valid branch name"),
        (("--branch", "mine", "--output", "out"), "--branch and --at need a checkout"),
        ((), "The target of the export is missing. Use --output, --checkout or both"),
        (("--checkout", "airflow", "--bodies"), "--bodies needs a folder to write into"),
    ],
)
def test_bad_input_is_one_sentence_and_changes_nothing(arguments, said, upstream, tmp_path, monkeypatch):
    (tmp_path / "plain").mkdir()
    for name in ("empty", "other"):
        upstream.git("init", "--quiet", tmp_path / name)
    upstream.git("-C", tmp_path / "other", "commit", "--quiet", "--allow-empty", "-m", "Nothing")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    before = everything(tmp_path)
    fixed = ("--release", CORE, "--patch", SLUG, "--author", AUTHOR)
    done = CliRunner().invoke(app, ["export", *fixed, *arguments])
    assert isinstance(done.exception, Problem), done.output
    assert said in str(done.exception)
    assert done.exception.exit_code == Exit.USAGE
    assert "\n" not in str(done.exception)
    assert everything(tmp_path) == before


def test_the_command_says_what_moved_and_where_the_branch_is(upstream):
    upstream.replace(EDITED, b"from __future__", b"# one\nfrom __future__")
    fixed = ("--release", CORE, "--patch", SLUG, "--author", AUTHOR)
    done = CliRunner().invoke(app, ["export", *fixed, "--checkout", str(upstream.path)])
    assert done.exit_code == 0, done.output
    assert f"{SLUG}: {EDITED}: hunk 1 moved by +1 lines\n" in done.output
    assert done.output.endswith(f"Created the branch {BRANCH} in {upstream.path}.\n")


def test_a_file_of_an_earlier_patch_is_read_as_that_left_it(tmp_path, project, pins):
    """Two patches of the provider edit one file, and the checkout has it otherwise than the release."""
    upstream = Upstream(tmp_path / "airflow", project, pins.release(FAB))
    twice = "providers/fab/src/airflow/providers/fab/auth_manager/fab_auth_manager.py"
    assert sum(twice in patch.edits for patch in project.serving(upstream.release)) > 1
    upstream.write({twice: b"# one\n" + (upstream.path / twice).read_bytes()})
    upstream.commit("Move all of it")
    done = export(ROOT, project, pins, upstream.release, None, author=AUTHOR, target=Target(upstream.path))
    assert done.told
    assert all(line.endswith(" moved by +1 lines") for line in done.told)
    stock = Upstream(tmp_path / "as-released", project, pins.release(FAB))
    same = export(ROOT, project, pins, stock.release, None, author=AUTHOR, target=Target(stock.path))
    expected = stock.git("show", f"{same.branch}:{twice}")
    assert upstream.git("show", f"{done.branch}:{twice}") == f"# one\n{expected}"


def test_a_plan_writes_nothing(upstream, project, pins):
    patches = [p for p in project.serving(upstream.release) if p.slug == SLUG]
    made = commits(ROOT, project, upstream.release, patches, AUTHOR)
    before = everything(upstream.path)
    with open_checkout(upstream.path, upstream.release) as opened:
        planned = placing.plan(opened, upstream.release, made)
    assert [commit.patch.slug for commit, _ in planned.steps] == [SLUG]
    assert everything(upstream.path) == before


ADDED, SETTINGS = "airflow-core/src/airflow/added_module.py", "airflow-core/src/airflow/settings.py"


@pytest.fixture
def addition(upstream, project, pins, adding, copy):
    """Return a series of a patch that adds a file and of one that edits that file, and what exports it."""
    news = "airflow-core/tests/unit/api_fastapi/test_auth_manager_singleton.py"
    stock = sources(pins.release(CORE))[SETTINGS]
    upstream.write({SETTINGS: stock})
    upstream.commit("Add the settings")
    files = {ADDED: "LIMIT = 1\n", SETTINGS: f"{stock.decode()}# edited\n"}
    first = adding(CORE, files, trailers=f"Tests: {news}\n")
    second = adding(CORE, {ADDED: "LIMIT = 1\nMORE = 2\n"}, "more-limits", after=[first])
    made = dataclasses.replace(project, patches=(first, second))

    def sent(*slugs: str, output: Path | None = None) -> Exported:
        target = Target(upstream.path, "mine")
        release = upstream.release
        return export(ROOT, made, pins, release, output, slugs or None, author=AUTHOR, target=target)

    return sent


def test_git_am_makes_the_same_commits_of_added_files(upstream, addition, tmp_path):
    done = addition(output=tmp_path / "out")
    assert done.told == ()
    shutil.copytree(upstream.path, tmp_path / "by-hand")
    upstream.git("-C", tmp_path / "by-hand", "am", *done.files)
    shown = ("log", "--format=%T%n%an <%ae>%n%aD%n%B")
    assert upstream.git(*shown, "mine") == upstream.git("-C", tmp_path / "by-hand", *shown)
    changed = upstream.git("diff", "--name-status", "main", "mine").splitlines()
    assert f"A\t{ADDED}" in changed
    assert f"M\t{SETTINGS}" in changed
    assert upstream.git("show", f"mine:{ADDED}") == "LIMIT = 1\nMORE = 2\n"
    assert upstream.git("ls-tree", "mine", ADDED).startswith("100644 ")
    (upstream.path / "providers/fab").mkdir(parents=True)
    found = branch.look(upstream.path, "mine", "main")
    assert branch.blobs(found)["airflow/added_module.py"] == blob(b"LIMIT = 1\nMORE = 2\n")
    upstream.git("fsck", "--strict", "--no-dangling")


def test_an_edit_of_an_added_file_is_not_exported_alone(upstream, addition):
    with pytest.raises(Problem, match=f"There is no file {ADDED}"):
        addition("more-limits")


def test_a_source_file_that_a_checkout_has_already_is_no_reason(upstream, addition):
    upstream.write({ADDED: b"LIMIT = 1\n"})
    upstream.commit("Add it")
    addition()
    assert upstream.git("show", f"mine:{ADDED}") == "LIMIT = 1\nMORE = 2\n"
    first = upstream.git("diff", "--name-only", "main", "mine~1").split()
    assert SETTINGS in first
    assert ADDED not in first


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ({ADDED: b"LIMIT = 3\n"}, f"{ADDED}: the checkout has a file with that name and other content"),
        ({f"{ADDED}/x": b"x\n"}, f"{ADDED}: the checkout has a folder or link with that name"),
    ],
)
def test_another_source_file_in_the_place_of_an_added_one_is_refused(upstream, addition, there, said):
    upstream.write(there)
    upstream.commit("Add it")
    before = everything(upstream.path)
    with pytest.raises(Problem, match="added-module does not apply to") as refused:
        addition()
    assert said in str(refused.value)
    assert everything(upstream.path) == before


def test_a_checkout_that_has_an_addition_already_is_refused(upstream, addition):
    upstream.write({ADDED: b"LIMIT = 1\n"})
    upstream.replace(SETTINGS, *edit_of_settings(upstream))
    with pytest.raises(Problem, match="already has the edits of added-module"):
        addition()


def edit_of_settings(upstream: Upstream) -> tuple[bytes, bytes]:
    content = (upstream.path / SETTINGS).read_bytes()
    return content, content + b"# edited\n"
