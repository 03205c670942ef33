"""A branch in a checkout: the commits of `git am`, or a checkout that is unchanged."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from airflow_auth_patches.cli import app
from airflow_auth_patches.contribute import branch
from airflow_auth_patches.contribute.send import Exported, Target, export
from airflow_auth_patches.demo.listening import blob
from airflow_auth_patches.releases.fetching import sources
from airflow_auth_patches.series import series, tree
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


class Upstream:
    """A repository with the files that the patches of a release edit, at the monorepo's paths."""

    def __init__(self, folder: Path, project: series.Series, release) -> None:
        self.path, self.release = folder, release
        files = sources(release)
        dist = release.distribution
        paths = {path for patch in project.serving(release) for path in patch.edits if path in files}
        paths.add(f"{dist.root}/src/{dist.package}/__init__.py")
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "uploadpack.allowFilter", "true")
        self.commit({path: files[path] for path in paths})

    def git(self, *arguments: str | Path) -> str:
        who = ("-c", "user.name=Up Stream", "-c", "user.email=up@example.org")
        command = ["git", *who, *map(str, arguments)]
        done = subprocess.run(command, cwd=self.path, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def commit(self, files: dict[str, bytes]) -> None:
        tree.write_files(self.path, files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", "Change")

    def replace(self, path: str, old: bytes, new: bytes) -> None:
        content = (self.path / path).read_bytes()
        assert content.count(old) == 1
        self.commit({path: content.replace(old, new)})

    def edit_and_stage(self) -> None:
        """Leave a stash and staged, changed, removed and untracked files."""
        (self.path / EDITED).write_text("stashed\n")
        self.git("stash", "--quiet")
        (self.path / "new.py").write_text("staged\n")
        self.git("add", "new.py")
        (self.path / "new.py").write_text("changed again\n")
        (self.path / EDITED).write_text("mine\n")
        (self.path / "untracked.txt").write_text("mine\n")
        (self.path / "airflow-core/src/airflow/__init__.py").unlink()
        self.git("status")


@pytest.fixture
def upstream(tmp_path, project, pins) -> Upstream:
    return Upstream(tmp_path / "airflow", project, pins.release(CORE))


@pytest.fixture
def send(project, pins, upstream):
    """Return a function that creates a branch with patches, by default with one, in the repository."""

    def sent(*slugs: str, loaded=project, output: Path | None = None, path=None, **target) -> Exported:
        where = Target(path or upstream.path, **target)
        names = slugs or (SLUG,)
        return export(ROOT, loaded, pins, upstream.release, output, names, author=AUTHOR, target=where)

    return sent


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


def refused(upstream: Upstream, send, *said: str, **how) -> None:
    """Check that a branch is refused for these reasons, and that the checkout is unchanged."""
    upstream.edit_and_stage()
    before, output = everything(upstream.path), upstream.path.parent / "out/deep"
    with pytest.raises(Problem) as raised:
        send(output=output, **how)
    for text in said:
        assert text in str(raised.value), str(raised.value)
    assert raised.value.exit_code == Exit.REFUSED
    assert everything(upstream.path) == before
    assert not output.parent.exists()


def as_by_hand(upstream: Upstream, name: str, files: tuple[Path, ...]) -> None:
    """Check that a branch has the commits that `git am` makes of some files."""
    copy = upstream.path.with_name("by-hand")
    shutil.copytree(upstream.path, copy)
    upstream.git("-C", copy, "am", *files)
    shown = ("log", "--format=%T%n%an <%ae>%n%aD%n%B")
    assert upstream.git(*shown, name) == upstream.git("-C", copy, *shown)
    assert upstream.git("log", "-1", "--format=%cn <%ce>", name) == f"{AUTHOR}\n"
    upstream.git("fsck", "--strict", "--no-dangling")


def test_branch_has_the_commits_that_git_am_makes(tmp_path, project, pins):
    upstream = Upstream(tmp_path / "airflow", project, pins.release(FAB))
    target = Target(upstream.path)
    done = export(ROOT, project, pins, upstream.release, tmp_path / "out", author=AUTHOR, target=target)
    assert (done.branch, done.told, done.missing) == ("auth-patches/providers-fab-3.3.0", (), {})
    assert len(done.files) == len(project.serving(upstream.release))
    as_by_hand(upstream, done.branch, done.files)


def test_adds_only_a_branch_whatever_the_state_and_the_settings_of_the_checkout(upstream, send):
    upstream.edit_and_stage()
    for hook in ("post-checkout", "applypatch-msg", "pre-applypatch", "reference-transaction"):
        file = upstream.path / ".git/hooks" / hook
        file.write_text("#!/bin/sh\nexit 1\n")
        file.chmod(0o755)
    for setting in ("commit.gpgSign", "core.splitIndex", "core.sparseCheckout", "index.sparse"):
        upstream.git("config", setting, "true")
    for setting, value in {"rerere.enabled": "true", "gpg.program": "false", "gc.auto": "1"}.items():
        upstream.git("config", setting, value)
    before = everything(upstream.path)
    assert send().branch == BRANCH
    logs = {
        f".git/{kind}heads/{name}" for kind in ("refs/", "logs/refs/") for name in ("auth-patches", BRANCH)
    }
    assert added(before, everything(upstream.path)) == logs
    names = upstream.git("diff", "--name-only", "main", BRANCH).split()
    assert sorted(names) == ["airflow-core/newsfragments/66493.bugfix.4.rst", EDITED, TEST]
    assert upstream.git("rev-parse", f"{BRANCH}^") == upstream.git("rev-parse", "main")


@pytest.mark.parametrize(
    "kind", ["detached", "worktree", "bare", "packed", "below", "shallow", "partial", "sparse"]
)
def test_merges_in_any_kind_of_repository(kind, upstream, send, project, tmp_path):
    """The outermost line of context has changed, so the hunk is merged three-way."""
    patch = next(p for p in project.patches if p.name == SLUG)
    first = patch.edits[EDITED][0].parsed.text[0][1:]
    upstream.replace(EDITED, first, first.rstrip(b"\n") + b"  # changed\n")
    path = tmp_path / "other"
    if kind == "detached":
        upstream.git("checkout", "--quiet", "--detach")
    elif kind == "worktree":
        upstream.git("worktree", "add", "--quiet", "--detach", path)
    elif kind == "packed":
        upstream.git("gc", "--quiet")
    elif kind != "below":
        option = {"shallow": "--depth=1", "partial": "--filter=blob:none"}.get(kind, f"--{kind}")
        upstream.git("clone", "--quiet", option, f"file://{upstream.path}", path)
    path = upstream.path / "airflow-core/src" if kind == "below" else path if path.exists() else upstream.path
    before = everything(path)
    done = send(path=path, branch="mine")
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
        (upstream.path / path).unlink()
    upstream.commit({path: content for path, content in files.items() if content is not None})
    refused(upstream, send, f"1 of 1 patches cannot be applied to {upstream.path}", f"{SLUG}: {said}")


def test_refuses_a_patch_whose_edits_are_there(upstream, send):
    send(branch="done")
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
    send()
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
    wrapped("update-ref", f'"$git" -C {upstream.path} branch {BRANCH} main')
    with pytest.raises(Problem) as raised:
        send(output=tmp_path / "out")
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
    upstream.edit_and_stage()
    before = everything(upstream.path)
    wrapped(words, f"kill -{number.value} $PPID; {then}")  # the tool is the parent of git
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    target = ("--checkout", upstream.path, "--output", tmp_path / "out")
    done = subprocess.run([TOOL, *OPTIONS, *target], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 128 + number, done.stderr
    assert done.stderr.splitlines()[-1] == "Interrupted."
    assert list((tmp_path / "temporary").iterdir()) == []
    assert not (upstream.path / ".git/worktrees").exists()
    if words != "worktree remove":  # otherwise the branch exists by then
        fresh = added(before, everything(upstream.path))
        assert {name for name in fresh if not name.endswith("auth-patches")} == set()
        assert not (tmp_path / "out").exists()
    upstream.git("fsck", "--strict", "--no-dangling")


def test_two_processes_create_branches_at_the_same_time(upstream):
    names = ("one", "two", "three")
    command = [TOOL, *OPTIONS, "--checkout", upstream.path, "--branch"]
    running = [subprocess.Popen([*command, name], stdout=subprocess.PIPE) for name in names]
    for process in running:
        process.communicate(timeout=300)
        assert process.returncode == 0
    assert len({upstream.git("rev-parse", f"{name}^{{tree}}") for name in names}) == 1
    assert upstream.git("worktree", "list").count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--checkout", "nowhere"), "nowhere is not a folder"),
        (("--checkout", "plain"), "plain is not a git repository: fatal: not a git repository"),
        (("--checkout", "empty"), "empty has no commit HEAD"),
        (("--checkout", "airflow", "--at", "v9-9-test"), "airflow has no commit v9-9-test"),
        (("--checkout", "airflow", "--at", "--help"), "airflow has no commit --help"),
        (("--checkout", "other"), "other at HEAD is not a checkout of Airflow 3: it has no airflow-core/src"),
        *(
            (("--checkout", "airflow", "--branch", name), f"{name!r} is not a valid branch name")
            for name in ("a..b", "-x", "@{-1}", "HEAD", "")
        ),
        (("--branch", "mine", "--output", "out"), "--branch, --at and --skip-conflicts need a checkout"),
        (("--skip-conflicts", "--output", "out"), "--branch, --at and --skip-conflicts need a checkout"),
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
    done = CliRunner().invoke(app, [*OPTIONS, *arguments])
    assert isinstance(done.exception, Problem), done.output
    assert said in str(done.exception)
    assert done.exception.exit_code == Exit.USAGE
    assert "\n" not in str(done.exception)
    assert everything(tmp_path) == before


ADDED, SETTINGS = "airflow-core/src/airflow/added_module.py", "airflow-core/src/airflow/settings.py"
OTHER = "airflow-core/src/airflow/other_module.py"


@pytest.fixture
def three(upstream, project, pins, adding, copy) -> series.Series:
    """Return a series: a patch that adds a file, one that requires it, and an independent one."""
    stock = sources(pins.release(CORE))[SETTINGS]
    upstream.commit({SETTINGS: stock})
    files = {ADDED: "LIMIT = 1\n", SETTINGS: f"{stock.decode()}# edited\n"}
    first = adding(CORE, files, trailers=f"Tests: {TEST}\n")
    more = {ADDED: "LIMIT = 1\nMORE = 2\n"}
    second = adding(CORE, more, "more-limits", after=[first], trailers="Requires: added-module\n")
    third = adding(CORE, {OTHER: "X = 1\n"}, "other-module")
    return dataclasses.replace(project, patches=(first, second, third))


def test_added_source_files_are_those_of_git_am(upstream, three, send, tmp_path):
    slugs = ("added-module", "more-limits")
    done = send(*slugs, loaded=three, output=tmp_path / "out", branch="mine")
    assert (done.told, done.missing) == ((), {})
    as_by_hand(upstream, "mine", done.files)
    changed = upstream.git("diff", "--name-status", "main", "mine").splitlines()
    assert {f"A\t{ADDED}", f"M\t{SETTINGS}"} <= set(changed)
    (upstream.path / "providers/fab").mkdir(parents=True)
    found = branch.look(upstream.path, "mine", "main")
    assert branch.blobs(found)["airflow/added_module.py"] == blob(b"LIMIT = 1\nMORE = 2\n")
    upstream.commit({ADDED: b"LIMIT = 1\n"})  # the same file: the patch has only its other edit
    send(*slugs, loaded=three, branch="again")
    assert ADDED not in upstream.git("diff", "--name-only", "main", "again~1")


def test_reports_all_conflicts_and_on_request_leaves_these_patches_out(upstream, three, send):
    upstream.commit({ADDED: b"LIMIT = 3\n", SETTINGS: b"# nothing\n"})
    slugs = ("added-module", "more-limits", "other-module")
    said = [
        "2 of 3 patches cannot be applied",
        f"added-module: CONFLICT (add/add): Merge conflict in {ADDED}",
        f"added-module: CONFLICT (content): Merge conflict in {SETTINGS}",
        "more-limits: it requires added-module",
        "with --skip-conflicts",
    ]
    with pytest.raises(Problem) as raised:
        send(*slugs, loaded=three)
    assert [text for text in said if text not in str(raised.value)] == []
    done = send(*slugs, loaded=three, branch="mine", skip_conflicts=True)
    assert list(done.missing) == ["added-module", "more-limits"]
    assert upstream.git("diff", "--name-only", "main", "mine").split() == [OTHER]
    with pytest.raises(Problem, match="1 of 1 patches"):
        send("added-module", loaded=three, branch="none", skip_conflicts=True)


def test_a_patch_that_is_there_is_left_out_and_those_that_require_it_apply(upstream, three, send):
    edited = (upstream.path / SETTINGS).read_bytes() + b"# edited\n"
    upstream.commit({ADDED: b"LIMIT = 1\n", SETTINGS: edited})
    with pytest.raises(Problem, match="added-module: the checkout already has its edits"):
        send("added-module", "more-limits", loaded=three)
    done = send("added-module", "more-limits", loaded=three, branch="mine", skip_conflicts=True)
    assert list(done.missing) == ["added-module"]
    assert upstream.git("diff", "--name-only", "main", "mine").split() == [ADDED]


def test_the_command_says_what_moved_what_is_left_out_and_where_the_branch_is(upstream, pins):
    other, path = "auth-manager-purge-race", "airflow-core/src/airflow/api_fastapi/app.py"
    upstream.replace(EDITED, b"from __future__", b"# one\nfrom __future__")
    upstream.commit({path: b"# nothing\n"})
    words = [*OPTIONS, "--patch", other, "--checkout", str(upstream.path), "--skip-conflicts"]
    done = CliRunner().invoke(app, [*words, "--branch", "mine"])
    assert done.exit_code == 0, done.output
    assert f"{SLUG}: {EDITED}: Hunk #1 succeeded at " in done.stdout
    assert f"Left out: {other}: CONFLICT (content): Merge conflict in {path}\n" in done.stderr
    assert done.stdout.endswith(f"Created the branch mine in {upstream.path}, without {other}.\n")
