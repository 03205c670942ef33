"""The round trip: patches to commits, commits to patches, and nothing changed that nobody edited."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from airflow_auth_patches.releases import fetching, releases
from airflow_auth_patches.series import exporting, hunks, importing, series, tree
from airflow_auth_patches.util.errors import Exit, Problem


@pytest.fixture
def imported(copy, pins):
    """Return the copied project's series and the tree of its newest 3.1."""
    copied = series.load(copy / "patches")
    release = pins.release("apache-airflow-core==3.1.8")
    return copied, importing.import_patches(copy, copied, pins, release)


def test_an_untouched_tree_of_any_release_changes_nothing(copy, pins):
    copied = series.load(copy / "patches")
    for release in (release for release in pins.releases if copied.serving(release)):
        imported = importing.import_patches(copy, copied, pins, release)
        assert imported.git("status", "--porcelain") == ""
        assert exporting.refresh(copy, copied, pins, release) == []
        shutil.rmtree(imported.folder)


def test_each_patch_is_a_commit_with_its_message_and_files_at_upstream_paths(imported):
    copied, imported_tree = imported
    patches = copied.serving(imported_tree.release)
    subjects = imported_tree.git("log", "--reverse", "--format=%s", f"{tree.BASE}..HEAD").splitlines()
    assert subjects == [patch.subject for patch in patches]
    for patch in patches:
        for path in (*patch.edits, *patch.tests):
            assert (imported_tree.folder / path).is_file()


def test_an_amended_commit_is_written_back(copy, imported, pins):
    copied, imported_tree = imported
    *_, patch = copied.serving(imported_tree.release)
    edited = imported_tree.folder / next(iter(patch.edits))
    edited.write_text(edited.read_text() + "# amended\n")
    test = imported_tree.folder / patch.tests[0]
    test.write_text(test.read_text() + "\n# amended\n")
    imported_tree.git("commit", "--quiet", "--all", "--amend", "--no-edit")
    written = exporting.refresh(copy, copied, pins, imported_tree.release)
    assert set(written) == {patch.path, copy / patch.tests[0]}
    again = series.load(copy / "patches")
    *_, after = again.serving(imported_tree.release)
    assert b"# amended" in after.content
    assert after.body == patch.body
    assert after.date == patch.date
    assert (copy / patch.tests[0]).read_text().endswith("# amended\n")
    assert exporting.refresh(copy, again, pins, imported_tree.release) == []


def test_what_was_edited_here_alone_stays(copy, imported, pins):
    copied, imported_tree = imported
    *_, patch = copied.serving(imported_tree.release)
    test = copy / patch.tests[0]
    test.write_text(test.read_text() + "\n# edited here\n")
    patch.path.write_bytes(patch.content.replace(b"\n\n", b"\n\nEdited here.\n\n", 1))
    here = {path: path.read_bytes() for path in (test, patch.path)}
    assert exporting.refresh(copy, series.load(copy / "patches"), pins, imported_tree.release) == []
    assert {path: path.read_bytes() for path in here} == here


@pytest.mark.parametrize("what", ["patch", "test"])
def test_what_was_edited_here_and_in_the_tree_is_refused(what, copy, imported, pins):
    copied, imported_tree = imported
    *_, patch = copied.serving(imported_tree.release)
    there = imported_tree.folder / (next(iter(patch.edits)) if what == "patch" else patch.tests[0])
    there.write_text(there.read_text() + "\n# edited in the tree\n")
    imported_tree.git("commit", "--quiet", "--all", "--amend", "--no-edit")
    if what == "patch":
        here, content = patch.path, patch.content.replace(b"\n\n", b"\n\nEdited here.\n\n", 1)
    else:
        here = copy / patch.tests[0]
        content = here.read_bytes() + b"\n# edited here\n"
    here.write_bytes(content)
    with pytest.raises(Problem, match="was edited both in"):
        exporting.refresh(copy, series.load(copy / "patches"), pins, imported_tree.release)
    assert here.read_bytes() == content


def test_a_patch_edited_by_hand_gets_the_form_of_refresh(copy, pins):
    """Its blob hashes and line numbers are made from the tree, in which nobody edited it."""
    copied = series.load(copy / "patches")
    release = pins.release("apache-airflow-core==3.1.8")
    patch = next(patch for patch in copied.serving(release) if tree.newest(patch, pins) == release)
    by_hand = re.sub(rb"index [0-9a-f]{40}", b"index " + b"0" * 40, patch.content)
    patch.path.write_bytes(by_hand)
    importing.import_patches(copy, series.load(copy / "patches"), pins, release)
    assert exporting.refresh(copy, series.load(copy / "patches"), pins, release) == [patch.path]
    assert patch.path.read_bytes() == patch.content


def test_what_was_written_back_and_taken_back_is_not_lost(copy, imported, pins):
    copied, imported_tree = imported
    *_, patch = copied.serving(imported_tree.release)
    edited = imported_tree.folder / next(iter(patch.edits))
    edited.write_text(edited.read_text() + "# amended\n")
    imported_tree.git("commit", "--quiet", "--all", "--amend", "--no-edit")
    assert exporting.refresh(copy, copied, pins, imported_tree.release) == [patch.path]
    written = patch.path.read_bytes()
    patch.path.write_bytes(patch.content)
    again = series.load(copy / "patches")
    with pytest.raises(Problem, match=r"has changes that are not in patches/"):
        importing.import_patches(copy, again, pins, imported_tree.release)
    assert exporting.refresh(copy, again, pins, imported_tree.release) == [patch.path]
    assert patch.path.read_bytes() == written


def test_a_tree_is_written_back_again_and_again(copy, imported, pins):
    copied, imported_tree = imported
    *_, patch = copied.serving(imported_tree.release)
    edited = [imported_tree.folder / path for path in (next(iter(patch.edits)), patch.tests[0])]
    for word in ("once", "twice"):
        for path in edited:
            path.write_text(path.read_text() + f"# {word}\n")
        imported_tree.git("commit", "--quiet", "--all", "--amend", "--no-edit")
        written = exporting.refresh(copy, series.load(copy / "patches"), pins, imported_tree.release)
        assert set(written) == {patch.path, copy / patch.tests[0]}
    assert (copy / patch.tests[0]).read_text().endswith("# once\n# twice\n")


def test_a_new_commit_becomes_a_patch_named_for_its_subject(copy, imported, pins):
    copied, imported_tree = imported
    edited = imported_tree.folder / "airflow-core/src/airflow/settings.py"
    edited.write_text(edited.read_text() + "# new\n")
    message = "Say something new\n\nApplies-To: apache-airflow-core ==3.1.8\n"
    imported_tree.git("commit", "--quiet", "--all", "-F", "-", stdin=message)
    exporting.refresh(copy, copied, pins, imported_tree.release)
    assert (copy / "patches/airflow-core/say-something-new.patch").is_file()
    order = series.series_order(copy / "patches", releases.CORE)
    assert order == [*series.series_order(copied.folder, releases.CORE)[:-1], "say-something-new"]


def commit(imported_tree, line, subject):
    edited = imported_tree.folder / "airflow-core/src/airflow/settings.py"
    edited.write_text(edited.read_text() + line)
    message = f"{subject}\n\nApplies-To: apache-airflow-core ==3.1.8\n"
    imported_tree.git("commit", "--quiet", "--all", "-F", "-", stdin=message)


def patch_files(copy):
    return {path: path.read_bytes() for path in (copy / "patches/airflow-core").iterdir()}


def test_a_new_commit_replaces_no_patch_of_another_range(copy, imported, pins):
    copied, imported_tree = imported
    core = [each for each in copied.patches if each.distribution is releases.CORE and not each.variant]
    patch = next(each for each in core if not each.serves(imported_tree.release))
    before = patch_files(copy)
    commit(imported_tree, "# new\n", patch.name.replace("-", " "))
    with pytest.raises(Problem, match=rf"would become patches/airflow-core/{patch.name}\.patch") as refused:
        exporting.refresh(copy, copied, pins, imported_tree.release)
    assert "another subject" in refused.value.remedy
    assert patch_files(copy) == before


def test_two_new_commits_of_one_subject_are_refused(copy, imported, pins):
    copied, imported_tree = imported
    before = patch_files(copy)
    commit(imported_tree, "# new\n", "Say something new")
    commit(imported_tree, "# newer\n", "Say something new")
    with pytest.raises(Problem, match=r"would become patches/airflow-core/say-something-new\.patch"):
        exporting.refresh(copy, copied, pins, imported_tree.release)
    assert patch_files(copy) == before


def test_work_in_a_tree_is_not_thrown_away(copy, imported, pins):
    copied, imported_tree = imported
    edited = imported_tree.folder / "airflow-core/src/airflow/settings.py"
    edited.write_text(edited.read_text() + "# work\n")
    with pytest.raises(Problem, match=r"has changes that are not in patches/"):
        importing.import_patches(copy, copied, pins, imported_tree.release)
    with pytest.raises(Problem, match="uncommitted changes"):
        exporting.refresh(copy, copied, pins, imported_tree.release)
    imported_tree.git("commit", "--quiet", "--all", "--amend", "--no-edit")
    with pytest.raises(Problem, match=r"has changes that are not in patches/"):
        importing.import_patches(copy, copied, pins, imported_tree.release)
    assert "# work" in edited.read_text()
    exporting.refresh(copy, copied, pins, imported_tree.release)
    importing.import_patches(copy, series.load(copy / "patches"), pins, imported_tree.release)


@pytest.mark.parametrize("aside", ["branch", "stash"])
def test_work_outside_the_branch_is_kept(aside, copy, imported, pins):
    copied, imported_tree = imported
    edited = imported_tree.folder / "airflow-core/src/airflow/settings.py"
    edited.write_text("# work\n")
    if aside == "stash":
        imported_tree.git("stash", "--quiet")
    else:
        imported_tree.git("switch", "--quiet", "--create", "idea")
        imported_tree.git("commit", "--quiet", "--all", "-m", "An idea")
        imported_tree.git("switch", "--quiet", "main")
    assert imported_tree.git("status", "--porcelain") == ""
    with pytest.raises(Problem, match="another branch, or a stash"):
        importing.import_patches(copy, copied, pins, imported_tree.release)
    kept = imported_tree.git(
        "show", f"{'stash' if aside == 'stash' else 'idea'}:{edited.relative_to(imported_tree.folder)}"
    )
    assert kept == "# work\n"


def without_git(imported_tree, monkeypatch):
    monkeypatch.setenv("PATH", str(imported_tree.folder / "nowhere"))


def without_the_tag(imported_tree, monkeypatch):
    imported_tree.git("tag", "--delete", tree.IMPORTED)


def spoiled(imported_tree, monkeypatch):
    """Spoil its repository, and put it below one in which nothing is to be committed."""
    outer = imported_tree.folder.parents[2]
    (outer / ".gitignore").write_text("*\n")
    author = ("-c", "user.name=A Sender", "-c", "user.email=sender@example.org")
    for words in (
        ("init", "--quiet"),
        ("commit", "--quiet", "--allow-empty", "-m", "x"),
        ("tag", tree.IMPORTED),
    ):
        subprocess.run(["git", *author, *words], cwd=outer, check=True, timeout=60)
    (imported_tree.folder / ".git/HEAD").unlink()


@pytest.mark.parametrize(
    ("spoil", "said", "remedy"),
    [
        (without_git, "git was not found", "PATH"),
        (without_the_tag, "series-laid", "remove it"),
        (spoiled, "not a git repository", "remove it"),
    ],
)
def test_a_tree_that_git_cannot_read_is_left(spoil, said, remedy, copy, imported, pins, monkeypatch):
    copied, imported_tree = imported
    edited = imported_tree.folder / "airflow-core/src/airflow/settings.py"
    edited.write_text("# work\n")
    spoil(imported_tree, monkeypatch)
    with pytest.raises(Problem, match=f"has unsaved changes: [^~]*{said}") as refused:
        importing.import_patches(copy, copied, pins, imported_tree.release)
    assert refused.value.exit_code is Exit.REFUSED
    assert remedy in refused.value.remedy
    assert edited.read_text() == "# work\n"


def test_what_one_that_was_ended_left_is_no_tree(copy, pins):
    copied, release = series.load(copy / "patches"), pins.release("apache-airflow-core==3.1.8")
    folder = tree.folder_of(copy, release)
    left = folder.with_name(f".{folder.name}.partial") / "left"
    left.parent.mkdir(parents=True)
    left.touch()
    with pytest.raises(Problem, match="There is no tree"):
        exporting.refresh(copy, copied, pins, release)
    importing.import_patches(copy, copied, pins, release)
    assert not (folder / "left").exists()
    assert list(folder.parent.iterdir()) == [folder]


def test_the_repository_of_a_hook_that_calls_is_left_alone(copy, pins, tmp_path, monkeypatch):
    outer = tmp_path / "outer"
    subprocess.run(["git", "init", "--quiet", outer], check=True, timeout=60)
    before = {path: path.read_bytes() for path in outer.rglob("*") if path.is_file()}
    monkeypatch.setenv("GIT_DIR", str(outer / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(outer))
    monkeypatch.setenv("GIT_INDEX_FILE", str(outer / ".git/index"))
    monkeypatch.setenv("GIT_LITERAL_PATHSPECS", "1")
    copied, release = series.load(copy / "patches"), pins.release("apache-airflow-core==3.1.8")
    imported = importing.import_patches(copy, copied, pins, release)
    assert imported.git("rev-parse", "--abbrev-ref", "HEAD") == "main\n"
    assert exporting.refresh(copy, copied, pins, release) == []
    assert {path: path.read_bytes() for path in outer.rglob("*") if path.is_file()} == before


def test_a_dropped_commit_is_not_taken_for_an_edit(copy, imported, pins):
    copied, imported_tree = imported
    imported_tree.git("reset", "--quiet", "--hard", tree.BASE)
    with pytest.raises(Problem, match=r"no commit for auth-manager-singleton, "):
        exporting.refresh(copy, copied, pins, imported_tree.release)


def test_refresh_without_a_tree(copy, pins):
    with pytest.raises(Problem, match="There is no tree") as raised:
        exporting.refresh(
            copy, series.load(copy / "patches"), pins, pins.release("apache-airflow-core==3.1.8")
        )
    assert raised.value.exit_code == Exit.USAGE


def test_a_patch_that_does_not_apply_leaves_no_tree(copy, pins):
    path = copy / "patches/airflow-core/auth-manager-singleton.patch"
    path.write_bytes(path.read_bytes().replace(b"\n def ", b"\n Def ", 1))
    copied = series.load(copy / "patches")
    release = pins.release("apache-airflow-core==3.1.8")
    with pytest.raises(
        Problem, match=r"auth-manager-singleton does not apply to apache-airflow-core==3\.1\.8"
    ):
        importing.import_patches(copy, copied, pins, release)
    assert list(tree.folder_of(copy, release).parent.iterdir()) == []


def test_keeps_tree_when_the_next_import_fails(copy, imported, pins):
    _, imported_tree = imported
    head = imported_tree.git("rev-parse", "HEAD")
    path = copy / "patches/airflow-core/auth-manager-singleton.patch"
    path.write_bytes(path.read_bytes().replace(b"\n def ", b"\n Def ", 1))
    with pytest.raises(Problem, match="does not apply"):
        importing.import_patches(copy, series.load(copy / "patches"), pins, imported_tree.release)
    assert imported_tree.git("rev-parse", "HEAD") == head
    assert imported_tree.git("status", "--porcelain") == ""
    assert list(imported_tree.folder.parent.iterdir()) == [imported_tree.folder]


ADDED, EDITED = "airflow-core/src/airflow/added_module.py", "airflow-core/src/airflow/settings.py"
SLUG = "added-module"


@pytest.fixture
def imported_with_addition(copy, pins, adding):
    """Return the copied project's series with a patch that adds a file, and the tree of its newest 3.1."""
    release = pins.release("apache-airflow-core==3.1.8")
    stock = fetching.sources(release)[EDITED].decode()
    adding(str(release), {ADDED: "LIMIT = 1\n", EDITED: f"{stock}# edited\n"}, folder=copy / "patches")
    with (copy / "patches/airflow-core/series").open("a") as order:
        order.write(f"{SLUG}\n")
    copied = series.load(copy / "patches")
    return copied, importing.import_patches(copy, copied, pins, release)


def test_a_patch_that_adds_a_file_goes_round_unchanged(copy, imported_with_addition, pins):
    copied, imported_tree = imported_with_addition
    (patch,) = (patch for patch in copied.patches if patch.slug == SLUG)
    assert patch.adds == {ADDED}
    assert (imported_tree.folder / ADDED).read_text() == "LIMIT = 1\n"
    assert imported_tree.git("diff", "--name-status", "HEAD~1").split() == ["A", ADDED, "M", EDITED]
    assert exporting.refresh(copy, copied, pins, imported_tree.release) == []


def test_an_added_file_that_is_edited_in_the_tree_is_written_back(copy, imported_with_addition, pins):
    copied, imported_tree = imported_with_addition
    (imported_tree.folder / ADDED).write_text("LIMIT = 2\nMORE = 3\n")
    imported_tree.git("commit", "--quiet", "--all", "--amend", "--no-edit")
    path = copy / f"patches/airflow-core/{SLUG}.patch"
    assert exporting.refresh(copy, copied, pins, imported_tree.release) == [path]
    again = series.load(copy / "patches")
    (patch,) = (patch for patch in again.patches if patch.slug == SLUG)
    assert hunks.apply_all({}, {ADDED: patch.edits[ADDED]}) == {ADDED: b"LIMIT = 2\nMORE = 3\n"}
    assert exporting.refresh(copy, again, pins, imported_tree.release) == []
    importing.import_patches(copy, again, pins, imported_tree.release)
    assert exporting.refresh(copy, again, pins, imported_tree.release) == []


def commit_all(imported_tree, subject="Say something new"):
    imported_tree.git("add", "--all")
    message = f"{subject}\n\nApplies-To: apache-airflow-core ==3.1.8\n"
    imported_tree.git("commit", "--quiet", "-F", "-", stdin=message)


def test_a_new_commit_that_adds_a_source_file_becomes_a_patch_that_adds_it(copy, imported, pins):
    copied, imported_tree = imported
    (imported_tree.folder / ADDED).write_text("LIMIT = 1\n")
    test = copied.serving(imported_tree.release)[-1].tests[0]
    (imported_tree.folder / test).write_text("# edited in the tree\n")
    commit_all(imported_tree)
    written = exporting.refresh(copy, copied, pins, imported_tree.release)
    path = copy / "patches/airflow-core/say-something-new.patch"
    assert set(written) == {path, copy / "patches/airflow-core/series", copy / test}
    again = series.load(copy / "patches")
    (patch,) = (patch for patch in again.patches if patch.path == path)
    assert patch.edits.keys() == patch.adds == {ADDED}
    assert exporting.refresh(copy, again, pins, imported_tree.release) == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("airflow-core/tests/unit/test_new.py", "which apache-airflow-core does not install"),
        ("airflow-core/newsfragments/1.bugfix.rst", "which apache-airflow-core does not install"),
        ("providers/fab/src/airflow/providers/fab/new.py", "which apache-airflow-core does not install"),
        ("airflow-core/src/airflow/empty.py", "An added file must not be empty"),
        ("airflow-core/src/airflow/script.py", "must have the mode 100644"),
        ("airflow-core/src/airflow/picture.png", "binary file"),
        (EDITED, "not remove a file"),
    ],
)
def test_a_commit_that_no_patch_can_be_is_refused(copy, imported, pins, path, said):
    copied, imported_tree = imported
    before = patch_files(copy)
    file = imported_tree.folder / path
    if path == EDITED:
        file.unlink()
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes({"empty.py": b"", "picture.png": b"\0"}.get(file.name, b"X = 1\n"))
        file.chmod(0o755 if file.name == "script.py" else 0o644)
    commit_all(imported_tree)
    with pytest.raises(Problem, match=said) as refused:
        exporting.refresh(copy, copied, pins, imported_tree.release)
    assert f"git rebase -i {tree.BASE}" in refused.value.remedy
    assert patch_files(copy) == before
    with pytest.raises(Problem, match=said):
        importing.import_patches(copy, copied, pins, imported_tree.release)
