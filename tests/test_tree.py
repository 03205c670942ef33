"""Import patches into a git tree, edit them there, and export them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from airflow_auth_patches.releases import fetching
from airflow_auth_patches.releases.releases import CORE, Pins
from airflow_auth_patches.series import exporting, hunks, importing, series, tree
from airflow_auth_patches.series.project import load_project
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util.errors import Exit, Problem

SETTINGS, ADDED = "airflow-core/src/airflow/settings.py", "airflow-core/src/airflow/added_module.py"
NEW = Path("patches/airflow-core/say-something-new.patch")


class Checkout:
    """A copy of the project, and the tree of core 3.1.8 in it."""

    def __init__(self, root: Path, pins: Pins) -> None:
        self.root, self.pins = root, pins
        self.release = pins.release("apache-airflow-core==3.1.8")
        self.tree = tree.Tree(tree.folder_of(root, self.release), self.release)
        self.edited, self.test = next(iter(self.patch.edits)), self.patch.tests[0]

    @property
    def series(self) -> Series:
        return series.load(self.root / "patches")

    @property
    def patch(self) -> Patch:
        """The last patch of the release, which edits the file `edited` and has the test `test`."""
        return self.series.serving(self.release)[-1]

    def import_patches(self) -> tree.Tree:
        return importing.import_patches(load_project(self.root), self.release)

    def refresh(self) -> set[Path]:
        written = exporting.refresh(load_project(self.root), self.release)
        return {path.relative_to(self.root) for path in written}

    def append(self, path: str, line: str = "# edited in the tree") -> Path:
        """Append a line to a file in the tree."""
        file = self.tree.folder / path
        file.write_text(f"{file.read_text()}{line}\n")
        return file

    def amend(self) -> None:
        self.tree.git("commit", "--quiet", "--all", "--amend", "--no-edit")

    def commit(self, subject: str = "Say something new") -> None:
        self.tree.git("add", "--all")
        message = f"{subject}\n\nApplies-To: apache-airflow-core ==3.1.8\n"
        self.tree.git("commit", "--quiet", "-F", "-", stdin=message)

    def edit_here(self) -> None:
        """Edit the message and the test of the patch in the project."""
        self.patch.path.write_bytes(self.patch.content.replace(b"\n\n", b"\n\nEdited here.\n\n", 1))
        with (self.root / self.test).open("a") as file:
            file.write("# edited here\n")

    def patch_files(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in (self.root / "patches/airflow-core").iterdir()}


@pytest.fixture(scope="module")
def imported_once(tmp_path_factory, root, pins) -> Path:
    target = tmp_path_factory.mktemp("imported") / "project"
    for name in ("patches", "airflow-core"):
        shutil.copytree(root / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    Checkout(target, pins).import_patches()
    return target


@pytest.fixture
def imported(imported_once, tmp_path, pins) -> Checkout:
    """Return a copy of the project with the tree of core 3.1.8."""
    return Checkout(shutil.copytree(imported_once, tmp_path / "imported"), pins)


@pytest.fixture
def not_imported(copy, pins) -> Checkout:
    """Return a copy of the project without a tree."""
    return Checkout(copy, pins)


def served_releases() -> list[ParameterSet]:
    """Return all releases: the newest of each minor version for `make test`, the others for `test-all`."""
    project = load_project()
    served = [release for release in project.releases if project.series.serving(release)]
    newest = {(release.distribution, release.version.release[:2]): release for release in served}.values()
    slow = [pytest.mark.airflow, pytest.mark.slow]
    return [pytest.param(str(each), marks=[] if each in newest else slow) for each in served]


@pytest.mark.parametrize("name", served_releases())
def test_untouched_tree_exports_nothing(name, copy):
    project = load_project(copy)
    release = project.releases.release(name)
    imported = importing.import_patches(project, release)
    assert imported.git("status", "--porcelain") == ""
    assert exporting.refresh(project, release) == []


def test_each_patch_is_a_commit_with_its_files_at_upstream_paths(imported):
    patches = imported.series.serving(imported.release)
    subjects = imported.tree.git("log", "--reverse", "--format=%s", f"{tree.BASE}..HEAD").splitlines()
    assert subjects == [patch.subject for patch in patches]
    for patch in patches:
        assert all((imported.tree.folder / path).is_file() for path in (*patch.edits, *patch.tests))


def test_amended_commit_is_exported_each_time(imported):
    before = imported.patch
    for line in ("# once", "# twice"):
        imported.append(imported.edited, line)
        imported.append(imported.test, line)
        imported.amend()
        assert imported.refresh() == {before.path.relative_to(imported.root), Path(imported.test)}
    after = imported.patch
    assert b"+# once\n+# twice\n" in after.content
    assert (after.body, after.date) == (before.body, before.date)
    assert (imported.root / imported.test).read_text().endswith("# once\n# twice\n")
    assert imported.refresh() == set()


def test_edit_in_the_project_alone_is_kept(imported):
    imported.edit_here()
    here = {path: path.read_bytes() for path in (imported.patch.path, imported.root / imported.test)}
    assert imported.refresh() == set()
    assert {path: path.read_bytes() for path in here} == here


@pytest.mark.parametrize("what", ["edited", "test"])
def test_refuses_file_that_was_edited_in_project_and_tree(what, imported):
    imported.append(getattr(imported, what))
    imported.amend()
    imported.edit_here()
    here = {path: path.read_bytes() for path in (imported.patch.path, imported.root / imported.test)}
    with pytest.raises(Problem, match="was edited both in"):
        imported.refresh()
    assert {path: path.read_bytes() for path in here} == here


def test_export_corrects_the_form_of_a_patch_that_was_edited_by_hand(not_imported):
    serving = not_imported.series.serving(not_imported.release)
    patch = next(p for p in serving if tree.newest(p, not_imported.pins) == not_imported.release)
    patch.path.write_bytes(re.sub(rb"index [0-9a-f]{40}", b"index " + b"0" * 40, patch.content))
    not_imported.import_patches()
    assert not_imported.refresh() == {patch.path.relative_to(not_imported.root)}
    assert patch.path.read_bytes() == patch.content


def test_edit_of_the_tree_survives_undo_of_its_export(imported):
    before = imported.patch
    imported.append(imported.edited)
    imported.amend()
    (written,) = imported.refresh()
    content = (imported.root / written).read_bytes()
    before.path.write_bytes(before.content)
    with pytest.raises(Problem, match=r"has changes that are not in patches/"):
        imported.import_patches()
    assert imported.refresh() == {written}
    assert before.path.read_bytes() == content


def test_new_commit_becomes_a_patch_named_for_its_subject(imported):
    order = series.series_order(imported.root / "patches", CORE)
    imported.append(SETTINGS)
    (imported.tree.folder / ADDED).write_text("LIMIT = 1\n")
    (imported.tree.folder / imported.test).write_text("# edited in the tree\n")
    written = {NEW, Path("patches/airflow-core/series"), Path(imported.test)}
    imported.commit()
    assert imported.refresh() == written
    assert series.series_order(imported.root / "patches", CORE) == [*order, NEW.stem]
    (patch,) = (patch for patch in imported.series.patches if patch.name == NEW.stem)
    assert (set(patch.edits), patch.adds) == ({ADDED, SETTINGS}, {ADDED})
    assert imported.refresh() == set()


@pytest.mark.parametrize("subject", ["Say something new", "Authorization off loop"])
def test_refuses_new_commits_that_would_become_one_patch(imported, subject):
    """Two commits have one subject, or a commit the subject of a patch of another range."""
    name = subject.lower().replace(" ", "-")
    before = imported.patch_files()
    for _ in range(2 if name == NEW.stem else 1):
        imported.append(SETTINGS)
        imported.commit(subject)
    with pytest.raises(Problem, match=rf"would become patches/airflow-core/{name}\.patch") as refused:
        imported.refresh()
    assert "another subject" in refused.value.remedy
    assert imported.patch_files() == before


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("airflow-core/tests/unit/test_new.py", "which apache-airflow-core does not install"),
        ("airflow-core/newsfragments/1.bugfix.rst", "which apache-airflow-core does not install"),
        ("providers/fab/src/airflow/providers/fab/new.py", "which apache-airflow-core does not install"),
        ("airflow-core/src/airflow/empty.py", "An added file must not be empty"),
        ("airflow-core/src/airflow/script.py", "must have the mode 100644"),
        ("airflow-core/src/airflow/picture.png", "binary file"),
        (SETTINGS, "not remove a file"),
    ],
)
def test_refuses_commit_that_cannot_become_a_patch(imported, path, said):
    before = imported.patch_files()
    file = imported.tree.folder / path
    if path == SETTINGS:
        file.unlink()
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes({"empty.py": b"", "picture.png": b"\0"}.get(file.name, b"X = 1\n"))
        file.chmod(0o755 if file.name == "script.py" else 0o644)
    imported.commit()
    for action in (imported.refresh, imported.import_patches):
        with pytest.raises(Problem, match=said) as refused:
            action()
        assert f"git rebase -i {tree.BASE}" in refused.value.remedy
    assert imported.patch_files() == before


def test_refuses_tree_without_the_commit_of_a_patch(imported):
    imported.tree.git("reset", "--quiet", "--hard", tree.BASE)
    with pytest.raises(Problem, match=r"no commit for auth-manager-singleton, "):
        imported.refresh()


def uncommitted(imported, monkeypatch):
    pass


def committed(imported, monkeypatch):
    imported.amend()


def stashed(imported, monkeypatch):
    imported.tree.git("stash", "--quiet")


def on_another_branch(imported, monkeypatch):
    imported.tree.git("switch", "--quiet", "--create", "idea")
    imported.amend()
    imported.tree.git("switch", "--quiet", "main")


def without_git(imported, monkeypatch):
    imported.amend()
    monkeypatch.setenv("PATH", f"{imported.root / 'nowhere'}")


def without_the_tag(imported, monkeypatch):
    imported.tree.git("tag", "--delete", tree.IMPORTED)


def broken_inside_another_repository(imported, monkeypatch):
    """Break the repository of the tree. The repository around it has the tag and no changes."""
    (imported.root / ".gitignore").write_text("*\n")
    author = ("-c", "user.name=A Sender", "-c", "user.email=sender@example.org")
    commit = ("commit", "--quiet", "--allow-empty", "-m", "x")
    for words in (("init", "--quiet"), commit, ("tag", tree.IMPORTED)):
        subprocess.run(["git", *author, *words], cwd=imported.root, check=True, timeout=60)
    (imported.tree.folder / ".git/HEAD").unlink()


@pytest.mark.parametrize(
    ("hide", "said", "remedy"),
    [
        (uncommitted, r"has changes that are not in patches/", "refresh"),
        (committed, r"has changes that are not in patches/", "refresh"),
        (stashed, "another branch, or a stash", "remove the folder"),
        (on_another_branch, "another branch, or a stash", "remove the folder"),
        (without_git, "has unsaved changes: [^~]*git was not found", "PATH"),
        (without_the_tag, "has unsaved changes: [^~]*series-imported", "remove it"),
        (broken_inside_another_repository, "has unsaved changes: [^~]*not a git repository", "remove it"),
    ],
)
def test_import_keeps_tree_with_changes_that_are_not_exported(hide, said, remedy, imported, monkeypatch):
    file = imported.append(SETTINGS)
    hide(imported, monkeypatch)
    content = file.read_text()
    with pytest.raises(Problem, match=said) as refused:
        imported.import_patches()
    assert refused.value.exit_code is Exit.REFUSED
    assert remedy in refused.value.remedy
    assert file.read_text() == content
    if hide is uncommitted:
        with pytest.raises(Problem, match="uncommitted changes"):
            imported.refresh()
    if hide is stashed:
        assert "# edited in the tree" in imported.tree.git("stash", "show", "--patch")
    if hide is on_another_branch:
        assert "# edited in the tree" in imported.tree.git("show", f"idea:{SETTINGS}")


def test_interrupted_import_leaves_no_tree(not_imported):
    folder = not_imported.tree.folder
    left = folder.with_name(f".{folder.name}.partial") / "left"
    left.parent.mkdir(parents=True)
    left.touch()
    with pytest.raises(Problem, match="There is no tree") as refused:
        not_imported.refresh()
    assert refused.value.exit_code == Exit.USAGE
    not_imported.import_patches()
    assert not (folder / "left").exists()
    assert list(folder.parent.iterdir()) == [folder]


def test_git_variables_of_a_calling_hook_have_no_effect(imported, tmp_path, monkeypatch):
    outer = tmp_path / "outer"
    subprocess.run(["git", "init", "--quiet", outer], check=True, timeout=60)
    before = {path: path.read_bytes() for path in outer.rglob("*") if path.is_file()}
    for name, path in (("DIR", ".git"), ("WORK_TREE", ""), ("INDEX_FILE", ".git/index")):
        monkeypatch.setenv(f"GIT_{name}", f"{outer / path}")
    monkeypatch.setenv("GIT_LITERAL_PATHSPECS", "1")
    assert imported.import_patches().git("rev-parse", "--abbrev-ref", "HEAD") == "main\n"
    assert imported.refresh() == set()
    assert {path: path.read_bytes() for path in outer.rglob("*") if path.is_file()} == before


def test_failed_import_keeps_the_previous_tree(imported):
    head = imported.tree.git("rev-parse", "HEAD")
    path = imported.root / "patches/airflow-core/auth-manager-singleton.patch"
    path.write_bytes(path.read_bytes().replace(b"\n def ", b"\n Def ", 1))
    said = r"auth-manager-singleton does not apply to apache-airflow-core==3\.1\.8"
    with pytest.raises(Problem, match=said):
        imported.import_patches()
    assert imported.tree.git("rev-parse", "HEAD") == head
    assert imported.tree.git("status", "--porcelain") == ""
    assert list(imported.tree.folder.parent.iterdir()) == [imported.tree.folder]
    shutil.rmtree(imported.tree.folder)
    with pytest.raises(Problem, match=said):
        imported.import_patches()
    assert list(imported.tree.folder.parent.iterdir()) == []


def test_patch_that_adds_a_file_is_imported_and_exported(not_imported, adding):
    stock = fetching.sources(not_imported.release)[SETTINGS].decode()
    files = {ADDED: "LIMIT = 1\n", SETTINGS: f"{stock}# edited\n"}
    path = adding(str(not_imported.release), files, folder=not_imported.root / "patches").path
    with (not_imported.root / "patches/airflow-core/series").open("a") as order:
        order.write(f"{path.stem}\n")
    imported = not_imported.import_patches()
    assert (imported.folder / ADDED).read_text() == "LIMIT = 1\n"
    assert imported.git("diff", "--name-status", "HEAD~1").split() == ["A", ADDED, "M", SETTINGS]
    assert not_imported.refresh() == set()

    (imported.folder / ADDED).write_text("LIMIT = 2\nMORE = 3\n")
    not_imported.amend()
    assert not_imported.refresh() == {path.relative_to(not_imported.root)}
    added = {ADDED: not_imported.patch.edits[ADDED]}
    assert hunks.apply_all({}, added) == {ADDED: b"LIMIT = 2\nMORE = 3\n"}
    not_imported.import_patches()
    assert not_imported.refresh() == set()
