"""`check` finds every fault it says it looks for, and names the file and the line."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_auth_patches.releases import fetching, releases
from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.series import series, sizes
from airflow_auth_patches.verification import check as lint
from airflow_auth_patches.verification.applying import line_of

CORE = "patches/airflow-core"
CORE_SERIES = f"{CORE}/series"
EXPECTATIONS = "patches/expectations/auth-manager-singleton.toml"
FAB = "patches/providers-fab"
LOCK = f"{FAB}/appbuilder-init-lock.patch"
SINGLETON = f"{CORE}/auth-manager-singleton.patch"
CACHE = f"{CORE}/revoked-token-cache.patch"
OLDER_CACHE = f"{CORE}/revoked-token-cache~3.2.patch"


def test_the_series_has_no_faults(root, pins):
    faults, _ = lint.check(root, root / "patches", pins)
    assert [str(fault) for fault in faults] == []


def few_of(pins: Pins) -> Pins:
    """Return a pin or two of each release line: enough to find a fault, quick enough to look for many."""
    names = ("3.1.8", "3.2.1", "3.2.2", "3.3.2", "3.3.0", "3.4.0")
    return dataclasses.replace(pins, releases=tuple(r for r in pins.releases if str(r.version) in names))


@pytest.fixture
def faults(copy, pins, usual) -> Callable[[], list[str]]:
    """Return what tells the faults of the copy that the project does not have."""
    return lambda: [fault for fault in told(copy, few_of(pins)) if fault not in usual]


@pytest.fixture(scope="module")
def usual(root, pins) -> list[str]:
    """Return what is a fault for want of the releases that are left out, in the project as it is."""
    return told(root, few_of(pins))


def told(root: Path, pins: Pins) -> list[str]:
    found, _ = lint.check(root, root / "patches", pins)
    for fault in found:
        assert fault.line >= 1
        assert fault.path.is_relative_to(root)
    return [f"{fault.path.relative_to(root)}: {fault.what}" for fault in found]


def edit(path: Path, pattern: str, new: str) -> None:
    """Replace the one match of a pattern in a file."""
    text, count = re.subn(pattern, new, path.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1, f"{pattern} is not in {path}"
    path.write_text(text)


def test_a_whole_copy_has_none(copy, faults):
    assert faults() == []


@pytest.mark.parametrize("patch", [LOCK, SINGLETON, CACHE, OLDER_CACHE, f"{FAB}/session-cleanup.patch"])
def test_one_broken_context_line_is_named(copy, faults, patch):
    edit(copy / patch, r"(?<=\n) (?=    )", " #")
    found = faults()
    assert any(fault.startswith(f"{patch}: The patch does not apply to") for fault in found)


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
        (SINGLETON, r"^Cures: ", "Cures: nothing, ", f"{SINGLETON}: nothing is not in bugs"),
        (SINGLETON, r"^Tests: ", "Requires: revoked-token-cache\nTests: ", "is not listed before this patch"),
        (SINGLETON, r"^Forwarded: .*$", "Forwarded: perhaps", f"{SINGLETON}: Forwarded must be a URL"),
        (SINGLETON, r"^Tests: .*$", "Tests: airflow-core/tests/unit/none.py", "none.py does not exist"),
        (SINGLETON, r"^Applies-To: .*$", "Applies-To: apache-airflow-core ==2.0", "serves no pinned release"),
        (SINGLETON, r"^Applies-To: .*$", "Applies-To: flask ==2.0", "Applies-To must be apache-airflow-core"),
        (SINGLETON, r"^Applies-To: .*$", "Applies-To: apache-airflow-core >==2", "Invalid specifier"),
        (SINGLETON, r"^@@ -", "@ -", f"{SINGLETON}: .*parse"),
        (SINGLETON, r"^\+(?=[^+])", "+)", "does not compile"),
        (SINGLETON, r"^index [0-9a-f]{4}", "index 0000", "differs from what `refresh"),
        (OLDER_CACHE, r"^Applies-To: .*$", "Applies-To: apache-airflow-core >=3.2,<3.4", "also serves "),
        (EXPECTATIONS, r"^fails-on-stock = \[", 'fails-on-stock = ["test_none", ', "test_none is not in"),
        (EXPECTATIONS, r"^file = \"", 'file = "x', "trailer names another file"),
        (EXPECTATIONS, r"^old = '''", "old = '''nowhere ", "occurs 0 times"),
        ("patches/bugs.toml", r"::test_one_instance_under_concurrency", "::test_none", "does not exist"),
        ("patches/bugs.toml", r"\Z", '\n[new]\ntitle = "new"\nsees = "new"\nlinks = []\n',
         "neither cured by a patch nor known open"),
        ("airflow-core/tests/unit/api_fastapi/test_auth_manager_singleton.py", r"\Z",
         "\n\ndef test_forgotten():\n    pass\n", "test_forgotten is in no list"),
    ],
)  # fmt: skip
def test_a_fault_is_found(copy, faults, path, pattern, new, said):
    edit(copy / path, pattern, new)
    found = faults()
    assert any(re.search(said, fault) for fault in found), found


def test_size_is_held_against_the_budget(copy, project):
    patch = next(patch for patch in project.patches if patch.name == "failed-run-session")
    page = copy / "docs/bugs/page.md"
    page.parent.mkdir(parents=True)
    page.write_text("`failed-run-session` is over the budget: it must be.\n")
    test = copy / patch.tests[0]
    assert sizes.size(copy, patch).over == ()

    test.write_text("#\n" * 251)
    body = patch.body.replace("\n\n", "\n\n" + "line\n" * 30, 1)
    larger = sizes.size(copy, dataclasses.replace(patch, body=body))

    assert [words.partition(" of ")[2] for words in larger.over] == [
        "25 lines of message",
        "250 lines of tests",
    ]
    assert (larger.tests, larger.source) == (251, 2)
    assert larger.explained
    page.unlink()
    assert not sizes.size(copy, patch).explained


def test_a_listed_patch_that_is_gone(copy, faults):
    (copy / LOCK).unlink()
    assert (
        f"{FAB}/series: appbuilder-init-lock is listed, but appbuilder-init-lock.patch does not exist."
        in faults()
    )


def test_a_file_that_does_not_belong(copy, faults):
    (copy / CORE / "notes.txt").write_text("notes\n")
    assert f"{CORE}/notes.txt: The file is neither `series` nor a patch. Remove it." in faults()


def test_a_variant_that_could_be_one(copy, pins):
    edit(copy / SINGLETON, r"^Applies-To: .*$", "Applies-To: apache-airflow-core >=3.1.4,<=3.1.8")
    twin = copy / CORE / "auth-manager-singleton~3.1.patch"
    twin.write_bytes((copy / SINGLETON).read_bytes())
    edit(twin, r"^Applies-To: .*$", "Applies-To: apache-airflow-core ==3.1.3")
    few = few_of(pins)
    wider = dataclasses.replace(few, releases=(*few.releases, pins.release("apache-airflow-core==3.1.3")))
    assert any("auth-manager-singleton gives the same files" in fault for fault in told(copy, wider))


def test_an_added_file_that_upstream_has(copy, faults):
    taken = "providers/fab/tests/unit/fab/auth_manager/test_fab_auth_manager.py"
    (copy / taken).write_text("# taken\n")
    assert any(fault.startswith(f"{taken}: ") and "already has that file" in fault for fault in faults())


def test_a_core_patch_without_news(copy, faults):
    for path in (copy / "airflow-core/newsfragments").glob("*.rst"):
        path.unlink()
    assert any(fault.startswith(f"{SINGLETON}: No news fragment") for fault in faults())


ADDED, EDITED = "airflow-core/src/airflow/added_module.py", "airflow-core/src/airflow/settings.py"
ADDITION = f"{CORE}/added-module.patch"


@pytest.fixture
def add(copy, pins, adding) -> Callable[..., None]:
    """Return what puts a patch that adds files into the copy, with a unit test and its place."""

    def put(*paths: str, text: str = "LIMIT = 1\n") -> None:
        test = "airflow-core/tests/unit/test_added_module.py"
        name = "apache-airflow-core==3.3.2"
        stock = fetching.sources(pins.release(name))[EDITED].decode()
        files = {**dict.fromkeys(paths, text), EDITED: f"{stock}# edited\n"}
        adding(name, files, folder=copy / "patches", trailers=f"Tests: {test}\n")
        with (copy / CORE_SERIES).open("a") as order:
            order.write("added-module\n")
        (copy / test).write_text("def test_it():\n    pass\n")
        text = f'file = "{test}"\nfails-on-stock = []\nregression = ["test_it"]\n'
        (copy / "patches/expectations/added-module.toml").write_text(text)

    return put


def test_a_patch_that_adds_a_file_has_no_faults(faults, add):
    add(ADDED)
    assert faults() == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("airflow-core/docs/new.rst", "docs/new.rst, which apache-airflow-core does not install"),
        ("airflow-core/tests/unit/test_new.py", "test_new.py, which apache-airflow-core does not install"),
        ("providers/fab/src/airflow/providers/fab/new.py", "is not a file of apache-airflow-core"),
    ],
)
def test_an_added_file_is_one_that_is_installed(faults, add, path, said):
    add(path)
    assert any(fault.startswith(f"{ADDITION}: ") and said in fault for fault in faults())


def test_an_added_file_that_the_release_has_does_not_apply(copy, faults, add):
    add(ADDED)
    taken = "airflow-core/src/airflow/configuration.py"
    file = copy / ADDITION
    file.write_bytes(file.read_bytes().replace(ADDED.encode(), taken.encode()))
    said = f"The patch does not apply to apache-airflow-core==3.3.2: The file {taken} already exists."
    assert f"{ADDITION}: {said}" in faults()


def test_an_added_file_that_the_project_has_too(copy, faults, add):
    add(ADDED)
    (copy / ADDED).parent.mkdir(parents=True)
    (copy / ADDED).write_text("LIMIT = 2\n")
    assert f"{ADDED}: added-module also adds that file. Keep one of the two." in faults()


def test_an_added_file_that_does_not_compile(copy, faults, add):
    add(ADDED, text="def f(:\n")
    assert any(
        fault.startswith(f"{ADDITION}: Patched {ADDED} of ") and "not compile" in fault for fault in faults()
    )
    line = (copy / ADDITION).read_text().splitlines().index(f"+++ b/{ADDED}") + 1
    assert line_of(series.read_patch(copy / ADDITION, releases.CORE), f"+++ b/{ADDED}") == line


def test_an_added_file_in_another_form_than_that_of_refresh(copy, faults, add):
    add(ADDED)
    edit(copy / ADDITION, r"^(index 0{40}\.\.)[0-9a-f]{40}$", r"\g<1>" + "1" * 40)
    assert any("differs from what `refresh" in fault for fault in faults())
