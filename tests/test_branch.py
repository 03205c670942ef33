"""A branch of a checkout: its base, its files, its release, and that no other repository is used."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from airflow_auth_patches.cli import app
from airflow_auth_patches.contribute import branch, worktree
from airflow_auth_patches.installation.listening import blob
from airflow_auth_patches.releases.checkout import commit_of
from airflow_auth_patches.util.errors import Exit, Problem

CORE = "apache-airflow-core==3.3.2"
CORE_FILE = "airflow-core/src/airflow/api_fastapi/app.py"
FAB_FILE = "providers/fab/src/airflow/providers/fab/www/app.py"
SHARED = "shared/logging/src/airflow_shared/logging/a.py"


def test_base_is_the_nearest_of_upstreams_branches_and_tags(airflow):
    def found(*how, **named):
        seen = branch.look(airflow.folder, *how, **named)
        return seen.base, seen.changed

    airflow.branch("v3-2-test", CORE_FILE)
    airflow.branch("mine", FAB_FILE, start="main")
    airflow.branch("topic", FAB_FILE, start="v3-2-test")
    assert found() == ("refs/heads/v3-2-test", (FAB_FILE,))
    assert found("mine") == ("refs/heads/main", (FAB_FILE,))
    assert found(base="main") == ("main", (CORE_FILE, FAB_FILE))
    airflow.git("tag", "3.2.2")
    airflow.branch("later", CORE_FILE, start="topic")
    assert found() == ("refs/tags/3.2.2", (CORE_FILE,))
    airflow.git("update-ref", "refs/remotes/upstream/main", "topic")
    airflow.git("tag", "--delete", "3.2.2")
    assert found()[0] == "refs/remotes/upstream/main"


def test_refuses_a_branch_or_base_that_does_not_exist(airflow):
    airflow.git("branch", "--quiet", "-m", "main", "topic")
    with pytest.raises(Problem, match="has no tag or upstream branch from which topic could start"):
        branch.look(airflow.folder)
    for names in ((None, "nowhere"), ("nowhere", None)):
        with pytest.raises(Problem, match="has no branch, tag or commit 'nowhere'"):
            branch.look(airflow.folder, *names)


def test_installed_files_have_the_content_of_the_branch(airflow):
    airflow.branch("topic", CORE_FILE, FAB_FILE, SHARED, "airflow-core/tests/b.py")
    (airflow.folder / CORE_FILE).unlink()  # what is checked out does not count
    changed = blob(b"changed in topic\n")
    assert changed == airflow.git("rev-parse", f"topic:{CORE_FILE}").strip()
    assert branch.blobs(branch.look(airflow.folder)) == {
        "airflow/api_fastapi/app.py": changed,
        "airflow/providers/fab/www/app.py": changed,
        "airflow/_shared/logging/a.py": changed,
    }


@pytest.mark.parametrize(("version", "fits"), [("3.2.2.dev0", "3.2.2"), (None, "3.4.0b2"), ("3.0.6", None)])
def test_the_release_for_a_checkout_is_not_newer(this_project, airflow, version, fits):
    file = "airflow-core/src/airflow/__init__.py"
    airflow.write({file: f'__version__ = "{version}"\n'})
    if version is None:
        (airflow.folder / file).unlink()
    if fits:
        assert str(branch.release_for(airflow.folder, this_project, None).version) == fits
        return
    with pytest.raises(Problem, match=r"apache-airflow-core 3\.0\.6, which is older than the oldest release"):
        branch.release_for(airflow.folder, this_project, None)


def test_a_hook_of_another_repository_changes_nothing_there(airflow, repository, pins, tmp_path, monkeypatch):
    """Git sets these variables for hooks, and they override the folder."""
    caller = repository(tmp_path / "caller", {"a": "b"}).folder
    before = {path: path.read_bytes() for path in caller.rglob("*") if path.is_file()}
    folders = {"DIR": ".git", "WORK_TREE": "", "INDEX_FILE": ".git/index", "OBJECT_DIRECTORY": ".git/objects"}
    for name, path in folders.items():
        monkeypatch.setenv(f"GIT_{name}", str(caller / path))
    monkeypatch.setenv("GIT_PREFIX", "")
    airflow.branch("topic", CORE_FILE)
    assert branch.look(airflow.folder).changed == (CORE_FILE,)
    release = pins.release(CORE)
    commit = commit_of(airflow.folder, release)
    with worktree.applied(airflow.folder, commit, release, []) as applied:
        assert (applied.folder / CORE_FILE).read_text() == "changed in topic\n"
        worktree.create_branch(airflow.folder, "made", applied.head)
    assert airflow.git("rev-parse", "made") == airflow.git("rev-parse", "topic") == f"{commit}\n"
    assert {path: path.read_bytes() for path in caller.rglob("*") if path.is_file()} == before


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
def test_export_refuses_bad_input_in_one_sentence_and_changes_nothing(
    arguments, said, airflow, tmp_path, monkeypatch
):
    (tmp_path / "plain").mkdir()
    for name in ("empty", "other"):
        airflow.git("init", "--quiet", tmp_path / name)
    airflow.git("-C", tmp_path / "other", "commit", "--quiet", "--allow-empty", "-m", "Nothing")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    before = sorted(tmp_path.rglob("*"))
    words = ("export", "--release", CORE, "--patch", "pool-slots-session", "--author", "A <a@example.org>")
    done = CliRunner().invoke(app, [*words, *arguments])
    assert isinstance(done.exception, Problem), done.output
    assert said in str(done.exception)
    assert done.exception.exit_code == Exit.USAGE
    assert "\n" not in str(done.exception)
    assert sorted(tmp_path.rglob("*")) == before
