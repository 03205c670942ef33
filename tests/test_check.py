"""`check` finds each fault, and names the file and the line."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_auth_patches.releases import fetching
from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.series import sizes
from airflow_auth_patches.verification import check as lint

CORE, FAB = "patches/airflow-core", "patches/providers-fab"
CORE_SERIES = f"{CORE}/series"
EXPECTATIONS = "patches/expectations/auth-manager-singleton.toml"
LOCK = f"{FAB}/appbuilder-init-lock.patch"
SINGLETON = f"{CORE}/auth-manager-singleton.patch"
CACHE = f"{CORE}/revoked-token-cache.patch"
OLDER_CACHE = f"{CORE}/revoked-token-cache~3.2.patch"
TEST = "airflow-core/tests/unit/api_fastapi/test_auth_manager_singleton.py"
#: The patches of the small series, and the releases on which it is checked.
SMALL = {
    CORE: ("auth-manager-singleton", "revoked-token-leeway", "revoked-token-off-loop", "revoked-token-cache"),
    FAB: ("appbuilder-init-lock", "session-cleanup"),
}
RELEASES = {
    *("apache-airflow-core==3.1.3", "apache-airflow-core==3.1.8", "apache-airflow-core==3.2.2"),
    *("apache-airflow-core==3.3.2", "apache-airflow-core==3.4.0b2", "apache-airflow-providers-fab==3.3.0"),
}


def check(root: Path, pins: Pins) -> list[str]:
    found, _ = lint.check(root, pins)
    assert all(fault.line >= 1 for fault in found)
    return [f"{fault.path.relative_to(root)}: {fault.what}" for fault in found]


@pytest.fixture(scope="module")
def few(pins) -> Pins:
    return dataclasses.replace(pins, releases=tuple(r for r in pins.releases if str(r) in RELEASES))


@pytest.fixture(scope="module")
def small_once(root, few, tmp_path_factory) -> tuple[Path, list[str]]:
    """Return a project with a small series, and its faults: bugs and patches that others need."""
    target = tmp_path_factory.mktemp("small") / "project"
    for name in ("patches", "airflow-core", "providers"):
        shutil.copytree(root / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for folder, slugs in SMALL.items():
        (target / folder / "series").write_text("".join(f"{slug}\n" for slug in slugs))
        for path in (target / folder).glob("*.patch"):
            slug, _, variant = path.stem.partition("~")
            if slug not in slugs or variant not in ("", "3.2", "3.3.2"):
                path.unlink()
    return target, check(target, few)


@pytest.fixture
def small(small_once, tmp_path) -> Path:
    """Return a copy of the small project that a test may break."""
    return shutil.copytree(small_once[0], tmp_path / "small")


@pytest.fixture
def faults(small, small_once, few) -> Callable[[], list[str]]:
    """Return a function that gives the new faults of the small project."""
    return lambda: [fault for fault in check(small, few) if fault not in small_once[1]]


def edit(path: Path, pattern: str, new: str) -> None:
    """Replace the first match of a pattern in a file."""
    text, count = re.subn(pattern, new, path.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1, f"{pattern} is not in {path}"
    path.write_text(text)


def test_unchanged_small_series_has_only_the_faults_of_what_is_left_out(small_once):
    _, usual = small_once
    missing = re.compile(
        r"bugs\.toml: .* (neither cured|which is not a patch)|The patch user-session does not"
        r"|probes\.toml: The patch"
    )
    assert [fault for fault in usual if not missing.search(fault)] == []


@pytest.mark.parametrize("patch", [LOCK, SINGLETON, CACHE, OLDER_CACHE, f"{FAB}/session-cleanup.patch"])
def test_patch_with_one_wrong_context_line_does_not_apply(small, faults, patch):
    edit(small / patch, r"(?<=\n) (?=    )", " #")
    assert any(fault.startswith(f"{patch}: The patch does not apply to") for fault in faults())


@pytest.mark.parametrize(
    ("path", "pattern", "new", "said"),
    [
        (CORE_SERIES, r"^auth-manager-singleton$", "", "The patch is not listed in `series`"),
        (CORE_SERIES, r"\Z", "nothing\n", f"{CORE_SERIES}: nothing is listed, but nothing.patch does"),
        (CORE_SERIES, r"\Z", "auth-manager-singleton\n", f"{CORE_SERIES}: .* is listed twice"),
        (SINGLETON, r"^Subject: \[PATCH\] ", "Subject: [PATCH] fix: ", "The subject must start"),
        (SINGLETON, r"^Subject: \[PATCH\] .*$", "Subject: [PATCH] A" + "b" * 69, "Use at most 69"),
        (SINGLETON, r"^Bug: .*\n", "", f"{SINGLETON}: The trailer Bug is missing"),
        (SINGLETON, r"^Tests: .*\n", "", f"{SINGLETON}: The trailer Tests is missing"),
        (SINGLETON, r"^Bug: ", "Bugs: ", f"{SINGLETON}: Bugs is not a trailer"),
        (SINGLETON, r"^Fixes: ", "Fixes: nothing, ", f"{SINGLETON}: nothing is not in bugs"),
        (SINGLETON, r"^Tests: ", "Depends: revoked-token-cache\nTests: ", "is not listed before this patch"),
        (SINGLETON, r"^Forwarded: .*$", "Forwarded: perhaps", f"{SINGLETON}: Forwarded must be a URL"),
        (SINGLETON, r"^Tests: .*$", "Tests: airflow-core/tests/unit/none.py", "none.py does not exist"),
        (SINGLETON, r"^Applies-To: .*$", "Applies-To: apache-airflow-core ==2.0", "serves no pinned release"),
        (SINGLETON, r"^Applies-To: .*$", "Applies-To: flask ==2.0", "Applies-To must be apache-airflow-core"),
        (SINGLETON, r"^Applies-To: .*$", "Applies-To: apache-airflow-core >==2", "Invalid specifier"),
        (SINGLETON, r"^@@ -", "@ -", f"{SINGLETON}: .*parse"),
        (SINGLETON, r"^\+(?=[^+])", "+)", "does not compile"),
        (SINGLETON, r"^index [0-9a-f]{4}", "index 0000", "differs from what `refresh"),
        (OLDER_CACHE, r"^Applies-To: .*$", "Applies-To: apache-airflow-core >=3.2", "also serves "),
        (EXPECTATIONS, r"^fails-on-stock = \[", 'fails-on-stock = ["test_none", ', "test_none is not in"),
        (EXPECTATIONS, r"^file = \"", 'file = "x', "trailer names another file"),
        (EXPECTATIONS, r"^old = '''", "old = '''nowhere ", "occurs 0 times"),
        ("patches/bugs.toml", r"::test_one_instance_under_concurrency", "::test_none", "does not exist"),
        ("patches/bugs.toml", r"\Z", '\n[new]\ntitle = "new"\nsees = "new"\nseverity = "hang"\nlinks = []\n',
         r"new is neither cured by a patch nor known open"),
        ("patches/probes.toml", r"^\[revoked-token-leeway\]", "[lee]", "The patch lee does not exist"),
        ("patches/probes.toml", r"^\[revoked-token-leeway\]", "[lee]", "revoked-token-leeway has no probe"),
        (TEST, r"\Z", "\n\ndef test_forgotten():\n    pass\n", "test_forgotten is in no list"),
    ],
)  # fmt: skip
def test_finds_fault_in_a_file(small, faults, path, pattern, new, said):
    edit(small / path, pattern, new)
    found = faults()
    assert any(re.search(said, fault) for fault in found), found


def test_finds_missing_and_surplus_files(small, faults):
    (small / LOCK).unlink()
    (small / CORE / "notes.txt").write_text("notes\n")
    taken = "providers/fab/tests/unit/fab/auth_manager/test_fab_auth_manager.py"
    (small / taken).write_text("# taken\n")
    for path in (small / "airflow-core/newsfragments").glob("*.rst"):
        path.unlink()
    found = faults()
    listed = "appbuilder-init-lock is listed, but appbuilder-init-lock.patch does not exist."
    assert f"{FAB}/series: {listed}" in found
    assert f"{CORE}/notes.txt: The file is neither `series` nor a patch. Remove it." in found
    assert any(fault.startswith(f"{taken}: ") and "already has that file" in fault for fault in found)
    assert any(fault.startswith(f"{SINGLETON}: No news fragment") for fault in found)


def test_finds_variant_that_gives_the_same_files(small, faults):
    twin = small / CORE / "auth-manager-singleton~3.1.patch"
    shutil.copy(small / SINGLETON, twin)
    edit(small / SINGLETON, r"^Applies-To: .*$", "Applies-To: apache-airflow-core >=3.1.4,<=3.1.8")
    edit(twin, r"^Applies-To: .*$", "Applies-To: apache-airflow-core ==3.1.3")
    assert any("auth-manager-singleton gives the same files" in fault for fault in faults())


def test_larger_patch_than_the_budget_needs_an_explanation(copy, project):
    patch = next(patch for patch in project.patches if patch.name == "failed-run-session")
    page = copy / "docs/bugs/page.md"
    page.parent.mkdir(parents=True)
    page.write_text("`failed-run-session` is over the budget: it must be.\n")
    assert sizes.size(copy, patch).over == ()

    (copy / patch.tests[0]).write_text("#\n" * 251)
    body = patch.body.replace("\n\n", "\n\n" + "line\n" * 30, 1)
    larger = sizes.size(copy, dataclasses.replace(patch, body=body))
    over = [words.partition(" of ")[2] for words in larger.over]
    assert over == ["25 lines of message", "250 lines of tests"]
    assert (larger.tests, larger.source) == (251, 2)
    assert larger.explained
    page.unlink()
    assert not sizes.size(copy, patch).explained


ADDED, EDITED = "airflow-core/src/airflow/added_module.py", "airflow-core/src/airflow/settings.py"
ADDITION = f"{CORE}/added-module.patch"


@pytest.fixture
def add(small, pins, adding) -> Callable[..., None]:
    """Return a function that adds a patch that adds a file, with a unit test, to the small series."""

    def put(path: str = ADDED, text: str = "LIMIT = 1\n") -> None:
        test, name = "airflow-core/tests/unit/test_added_module.py", "apache-airflow-core==3.3.2"
        stock = fetching.sources(pins.release(name))[EDITED].decode()
        files = {path: text, EDITED: f"{stock}# edited\n"}
        adding(name, files, folder=small / "patches", trailers=f"Tests: {test}\n")
        with (small / CORE_SERIES).open("a") as order:
            order.write("added-module\n")
        (small / test).write_text("def test_it():\n    pass\n")
        (small / "patches/expectations/added-module.toml").write_text(
            f'file = "{test}"\nfails-on-stock = []\nregression = ["test_it"]\n'
        )
        with (small / "patches/probes.toml").open("a") as file:
            file.write('[added-module]\nnone = "It does nothing."\n')

    return put


def test_patch_that_adds_a_file_has_no_faults(faults, add):
    add()
    assert faults() == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("airflow-core/docs/new.rst", "docs/new.rst, which apache-airflow-core does not install"),
        ("airflow-core/tests/unit/test_new.py", "test_new.py, which apache-airflow-core does not install"),
        ("providers/fab/src/airflow/providers/fab/new.py", "is not a file of apache-airflow-core"),
    ],
)
def test_patch_adds_only_files_that_are_installed(faults, add, path, said):
    add(path)
    assert any(fault.startswith(f"{ADDITION}: ") and said in fault for fault in faults())


def test_patch_that_adds_a_file_of_the_release_does_not_apply(small, faults, add):
    add()
    taken = "airflow-core/src/airflow/configuration.py"
    (small / ADDITION).write_text((small / ADDITION).read_text().replace(ADDED, taken))
    said = f"The patch does not apply to apache-airflow-core==3.3.2: The file {taken} already exists."
    assert f"{ADDITION}: {said}" in faults()


def test_finds_added_file_that_is_wrong_or_not_as_refresh_writes_it(small, few, faults, add):
    add(text="def f(:\n")
    edit(small / ADDITION, r"^(index 0{40}\.\.)[0-9a-f]{40}$", r"\g<1>" + "1" * 40)
    (small / ADDED).parent.mkdir(parents=True)
    (small / ADDED).write_text("LIMIT = 2\n")
    found = faults()
    assert f"{ADDED}: added-module also adds that file. Keep one of the two." in found
    assert any("differs from what `refresh" in fault for fault in found)
    said = f"{ADDITION}: Patched {ADDED} of "
    assert any(fault.startswith(said) and "not compile" in fault for fault in found)
    line = (small / ADDITION).read_text().splitlines().index(f"+++ b/{ADDED}") + 1
    lines = [fault.line for fault in lint.check(small, few)[0] if "compile" in fault.what]
    assert lines == [line]
