"""A branch in a checkout: the commits of `git am`, or a checkout that is unchanged."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from airflow_auth_patches.cli import app
from airflow_auth_patches.contribute.send import Target, export
from airflow_auth_patches.util.errors import Exit, Problem

ROOT = Path(__file__).parents[1]
AUTHOR = "Zoë Łukasz, of the Tests <zoe@example.org>"
CORE, FAB = "apache-airflow-core==3.3.2", "apache-airflow-providers-fab==3.3.0"
SLUG, EDITED = "pool-slots-session", "airflow-core/src/airflow/api_fastapi/core_api/datamodels/pools.py"
TEST = "airflow-core/tests/unit/api_fastapi/core_api/test_pool_slots_session.py"
BRANCH = f"auth-patches/{SLUG}"
OPTIONS = ("export", "--release", CORE, "--patch", SLUG, "--author", AUTHOR)
TOOL = Path(sys.executable).parent / "airflow-auth-patches"


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    """Keep the git configuration of the user who runs the tests out of them."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def edit_and_stage(upstream) -> None:
    """Leave a stash and staged, changed, removed and untracked files."""
    upstream.write({EDITED: "stashed\n"})
    upstream.git("stash", "--quiet")
    upstream.write({"new.py": "staged\n"})
    upstream.git("add", "new.py")
    upstream.write({"new.py": "changed again\n", EDITED: "mine\n", "untracked.txt": "mine\n"})
    (upstream.folder / "airflow-core/src/airflow/__init__.py").unlink()
    upstream.git("status")


def everything(folder: Path) -> dict[str, bytes | None]:
    """Return all that is in a folder and its git folder, except git objects."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {
        name: path.read_bytes() if path.is_file() else None
        for name, path in found.items()
        if "objects/" not in f"{name}/"
    }


def added(before: dict, after: dict) -> set[str]:
    """Return the new names, and check that nothing else has changed."""
    assert {name: after.get(name) for name in before} == before
    return after.keys() - before.keys()


def refused(upstream, send, *said: str, **how) -> None:
    """Check that a branch is refused for these reasons, and that the checkout is unchanged."""
    edit_and_stage(upstream)
    before, output = everything(upstream.folder), upstream.folder.parent / "out/deep"
    with pytest.raises(Problem) as raised:
        send(SLUG, output=output, **how)
    for text in said:
        assert text in str(raised.value), str(raised.value)
    assert raised.value.exit_code == Exit.REFUSED
    assert everything(upstream.folder) == before
    assert not output.parent.exists()


def test_branch_has_the_commits_that_git_am_makes(this_project, stock, tmp_path, project, pins):
    release = pins.release(FAB)
    upstream = stock(release)
    target = Target(upstream.folder)
    done = export(this_project, release, tmp_path / "out", author=AUTHOR, target=target)
    assert (done.branch, done.told, done.missing) == ("auth-patches/providers-fab-3.3.0", (), {})
    assert len(done.files) == len(project.serving(release))
    copy = tmp_path / "by-hand"
    shutil.copytree(upstream.folder, copy)
    upstream.git("-C", copy, "am", *done.files)
    shown = ("log", "--format=%T%n%an <%ae>%n%aD%n%B")
    assert upstream.git(*shown, done.branch) == upstream.git("-C", copy, *shown)
    assert upstream.git("log", "-1", "--format=%cn <%ce>", done.branch) == f"{AUTHOR}\n"
    upstream.git("fsck", "--strict", "--no-dangling")


def test_adds_only_a_branch_whatever_the_state_and_the_settings_of_the_checkout(upstream, send):
    edit_and_stage(upstream)
    for hook in ("post-checkout", "applypatch-msg", "pre-applypatch", "reference-transaction"):
        file = upstream.folder / ".git/hooks" / hook
        file.write_text("#!/bin/sh\nexit 1\n")
        file.chmod(0o755)
    for setting in ("commit.gpgSign", "core.splitIndex", "core.sparseCheckout", "index.sparse"):
        upstream.git("config", setting, "true")
    for setting, value in {"rerere.enabled": "true", "gpg.program": "false", "gc.auto": "1"}.items():
        upstream.git("config", setting, value)
    before = everything(upstream.folder)
    assert send(SLUG).branch == BRANCH
    logs = {
        f".git/{kind}heads/{name}" for kind in ("refs/", "logs/refs/") for name in ("auth-patches", BRANCH)
    }
    assert added(before, everything(upstream.folder)) == logs
    names = upstream.git("diff", "--name-only", "main", BRANCH).split()
    assert sorted(names) == ["airflow-core/newsfragments/66493.bugfix.4.rst", EDITED, TEST]
    assert upstream.git("rev-parse", f"{BRANCH}^") == upstream.git("rev-parse", "main")


@pytest.mark.parametrize("kind", ["detached", "worktree", "bare", "below", "shallow", "partial", "sparse"])
def test_merges_in_any_kind_of_repository(kind, upstream, send, project, tmp_path):
    """The outermost line of context has changed, so the hunk is merged three-way."""
    patch = next(p for p in project.patches if p.name == SLUG)
    first = patch.edits[EDITED][0].parsed.text[0][1:]
    upstream.replace(EDITED, first, first.rstrip(b"\n") + b"  # changed\n")
    path = tmp_path / "other"
    if kind == "detached":
        path = upstream.folder
        upstream.git("checkout", "--quiet", "--detach")
        upstream.git("gc", "--quiet")
    elif kind == "worktree":
        upstream.git("worktree", "add", "--quiet", "--detach", path)
    elif kind == "below":
        path = upstream.folder / "airflow-core/src"
    else:
        option = {"shallow": "--depth=1", "partial": "--filter=blob:none"}.get(kind, f"--{kind}")
        upstream.git("config", "uploadpack.allowFilter", "true")
        upstream.git("clone", "--quiet", option, f"file://{upstream.folder}", path)
    before = everything(path)
    done = send(SLUG, path=path, branch="mine")
    assert done.told == (f"{SLUG}: {EDITED}: merged three-way, because the patch did not apply: review it",)
    text = upstream.git("-C", path, "show", f"mine:{EDITED}")
    assert "  # changed\n" in text
    assert "from sqlalchemy import inspect\n" in text
    assert {name.rpartition("refs/heads/")[2] for name in added(before, everything(path))} <= {"mine"}
    assert upstream.git("-C", path, "worktree", "list").count("\n") == 1 + (kind == "worktree")


@pytest.mark.parametrize(
    ("slug", "path", "old", "new", "told"),
    [
        (SLUG, EDITED, "from __future__", "# one\n# two\nfrom __future__", "offset 2 lines"),
        (
            "auth-manager-purge-race",
            "airflow-core/src/airflow/api_fastapi/app.py",
            "    am = create_auth_manager()\n",
            "    # one\n    am = create_auth_manager()\n",
            "offset 1 line",
        ),
    ],
)
def test_names_the_hunks_that_moved(upstream, send, slug, path, old, new, told):
    upstream.replace(path, old.encode(), new.encode())
    patched = upstream.git("show", f"{send(slug, branch='without', at='HEAD~1').branch}:{path}")
    done = send(slug)
    assert len(done.told) == 1
    assert done.told[0].startswith(f"{slug}: {path}: Hunk #")
    assert told in done.told[0]
    assert upstream.git("show", f"{done.branch}:{path}") == patched.replace(old, new)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({EDITED: b"entirely = 'different'\n"}, f"CONFLICT (content): Merge conflict in {EDITED}"),
        ({EDITED: None}, f"CONFLICT (modify/delete): {EDITED} deleted in HEAD"),
        ({TEST: b"another\n"}, f"CONFLICT (add/add): Merge conflict in {TEST}"),
        ({f"{TEST}/x": b"another\n"}, f"{TEST}: the checkout has a folder with that name"),
    ],
)
def test_refuses_a_conflict_by_patch_and_file_and_changes_nothing(files, said, upstream, send):
    for path in [path for path, content in files.items() if content is None]:
        (upstream.folder / path).unlink()
    upstream.commit({path: content for path, content in files.items() if content is not None})
    refused(upstream, send, f"1 of 1 patches cannot be applied to {upstream.folder}", f"{SLUG}: {said}")


def test_refuses_a_patch_whose_edits_are_there(upstream, send):
    send(SLUG, branch="done")
    upstream.git("checkout", "--quiet", "done")
    upstream.git("rm", "--quiet", TEST)
    upstream.commit({})
    refused(upstream, send, f"{SLUG}: the checkout already has its edits")


def test_keeps_an_added_file_that_is_there_modes_and_line_ends(upstream, send):
    upstream.replace(EDITED, b"\nclass BasePool", b"\n# a\r\n\nclass BasePool")
    upstream.commit({TEST: (ROOT / TEST).read_bytes()})
    upstream.git("update-index", "--chmod=+x", EDITED)
    upstream.git("commit", "--quiet", "-m", "Make it executable")
    upstream.git("config", "core.autocrlf", "true")
    send(SLUG)
    assert TEST not in upstream.git("diff", "--name-only", "main", BRANCH)
    assert upstream.git("ls-tree", BRANCH, EDITED).startswith("100755 ")
    assert upstream.git("show", f"{BRANCH}:{EDITED}").count("\r\n") == 1


@pytest.mark.parametrize("name", [BRANCH, "auth-patches", f"{BRANCH}/deeper"])
def test_refuses_a_branch_that_is_in_the_way(name, upstream, send):
    upstream.git("branch", name)
    refused(upstream, send, f"already has the branch {name}")


@pytest.fixture
def wrapped(tmp_path, monkeypatch):
    """Return a function that makes each git with some words run a command first."""

    def wrap(words: str, command: str) -> None:
        script = tmp_path / "bin/git"
        script.parent.mkdir()
        script.write_text(
            f"#!/bin/sh\ngit={shutil.which('git')}\n"
            f'case " $* " in *" {words} "*) {command};; esac\nexec "$git" "$@"\n'
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")

    return wrap


def test_leaves_a_branch_that_appears_meanwhile(upstream, send, wrapped, tmp_path):
    wrapped("update-ref", f'"$git" -C {upstream.folder} branch {BRANCH} main')
    with pytest.raises(Problem) as raised:
        send(SLUG, output=tmp_path / "out")
    assert raised.value.exit_code == Exit.FAILED
    assert upstream.git("rev-parse", BRANCH) == upstream.git("rev-parse", "main")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "number", "then"),
    [
        ("worktree add", signal.SIGINT, "exec tail -f /dev/null"),
        ("am", signal.SIGINT, "exec tail -f /dev/null"),
        ("am", signal.SIGTERM, "exec tail -f /dev/null"),
        ("update-ref", signal.SIGINT, "exec tail -f /dev/null"),
        ("worktree remove", signal.SIGINT, ":"),
    ],
)
def test_leaves_nothing_when_interrupted(words, number, then, upstream, wrapped, tmp_path, monkeypatch):
    edit_and_stage(upstream)
    before = everything(upstream.folder)
    wrapped(words, f"kill -{number.value} $PPID; {then}")  # the tool is the parent of git
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    target = ("--checkout", upstream.folder, "--output", tmp_path / "out")
    done = subprocess.run([TOOL, *OPTIONS, *target], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 128 + number, done.stderr
    assert done.stderr.splitlines()[-1] == "Interrupted."
    assert list((tmp_path / "temporary").iterdir()) == []
    assert not (upstream.folder / ".git/worktrees").exists()
    if words != "worktree remove":  # otherwise the branch exists by then
        fresh = added(before, everything(upstream.folder))
        assert {name for name in fresh if not name.endswith("auth-patches")} == set()
        assert not (tmp_path / "out").exists()
    upstream.git("fsck", "--strict", "--no-dangling")


def test_two_processes_create_branches_at_the_same_time(upstream):
    names = ("one", "two", "three")
    command = [TOOL, *OPTIONS, "--checkout", upstream.folder, "--branch"]
    running = [subprocess.Popen([*command, name], stdout=subprocess.PIPE) for name in names]
    for process in running:
        process.communicate(timeout=300)
        assert process.returncode == 0
    assert len({upstream.git("rev-parse", f"{name}^{{tree}}") for name in names}) == 1
    assert upstream.git("worktree", "list").count("\n") == 1


def test_the_command_says_what_moved_what_is_left_out_and_where_the_branch_is(upstream):
    other, path = "auth-manager-purge-race", "airflow-core/src/airflow/api_fastapi/app.py"
    upstream.replace(EDITED, b"from __future__", b"# one\nfrom __future__")
    upstream.commit({path: b"# nothing\n"})
    words = [*OPTIONS, "--patch", other, "--checkout", str(upstream.folder), "--skip-conflicts"]
    done = CliRunner().invoke(app, [*words, "--branch", "mine"])
    assert done.exit_code == 0, done.output
    assert f"{SLUG}: {EDITED}: Hunk #1 succeeded at " in done.stdout
    assert f"Left out: {other}: CONFLICT (content): Merge conflict in {path}\n" in done.stderr
    assert done.stdout.endswith(f"Created the branch mine in {upstream.folder}, without {other}.\n")
