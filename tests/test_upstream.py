"""Upstream's tests as the judge: what a comparison of two runs says, and what a run tells."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from airflow_auth_patches import releases, upstream
from airflow_auth_patches.cli import upstream as command
from airflow_auth_patches.commands.upstream import judge
from airflow_auth_patches.environments import Environment
from airflow_auth_patches.errors import Exit, Problem
from airflow_auth_patches.proofs import tally
from airflow_auth_patches.releases import FAB

HERE = Environment(Path(sys.executable))
TESTS = """
import os
import pytest

PATCHED = os.environ["PATCHED"] == "yes"


def test_same():
    pass


def test_asserts_the_bug():
    assert not PATCHED


@pytest.mark.parametrize("number", [1, 2])
def test_of_many(number):
    assert not PATCHED or number == 1


class TestIn:
    class TestInner:
        def test_skipped_when_patched(self):
            if PATCHED:
                pytest.skip("patched")

    def test_cured(self):
        assert PATCHED


@pytest.fixture
def broken_at_the_end():
    yield
    assert not PATCHED


def test_teardown(broken_at_the_end):
    pass


def test_leans_on_an_earlier_one():
    assert not PATCHED or "tests/test_it.py::test_leans_on_an_earlier_one" in os.environ["ASKED"]


if not PATCHED:
    def test_gone_when_patched():
        pass
"""
BROKEN = [
    "tests/test_it.py::test_asserts_the_bug",
    "tests/test_it.py::test_of_many[2]",
    "tests/test_it.py::TestIn::TestInner::test_skipped_when_patched",
    "tests/test_it.py::test_teardown",
    "tests/test_it.py::test_leans_on_an_earlier_one",
    "tests/test_it.py::test_gone_when_patched",
]


def run(folder: Path, patched: bool, only: list[str] | None = None) -> dict[str, str]:
    variables = {"PATCHED": "yes" if patched else "no", "ASKED": " ".join(only or ())}
    return upstream.run(
        folder, HERE, ["-p", "no:cacheprovider"], only or (), variables=variables, timeout=120
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("upstream")
    (folder / "tests").mkdir()
    (folder / "tests/test_it.py").write_text(TESTS)
    (folder / "tests/test_other.py").write_text("import nothing_of_that_name\n")
    return folder


@pytest.fixture(scope="module")
def stock(folder: Path) -> dict[str, str]:
    return run(folder, False)


@pytest.fixture(scope="module")
def patched(folder: Path) -> dict[str, str]:
    return run(folder, True)


def entry(test: str, versions: str = "==3.3.0") -> upstream.Listed:
    return upstream.Listed(test, FAB, SpecifierSet(versions), "it asserts the bug")


def test_what_passes_on_stock_only_is_found(stock, patched):
    assert upstream.differing(stock, patched) == BROKEN
    assert upstream.differing(patched, stock) == ["tests/test_it.py::TestIn::test_cured"]
    assert stock["tests/test_other.py"].startswith("error")
    assert patched["tests/test_it.py::test_teardown"].startswith("error")
    found = upstream.compare(stock, patched)
    assert (list(found.broken), found.wrong, found.holds) == (BROKEN, (), False)
    assert found.cured == ("tests/test_it.py::TestIn::test_cured",)


def test_the_same_twice_holds(folder, stock):
    assert upstream.compare(stock, run(folder, False)).holds


def test_listed_tests_have_their_reason(stock, patched):
    """An id without its parameter speaks of all of them."""
    names = [test.partition("[")[0] for test in BROKEN]
    found = upstream.compare(stock, patched, [entry(name) for name in names])
    assert found.holds
    assert found.listed == dict.fromkeys(BROKEN, "it asserts the bug")
    found = upstream.compare(stock, patched, [entry(name) for name in names[1:]])
    assert (found.broken, found.holds) == ((BROKEN[0],), False)


def test_an_entry_that_does_not_differ_is_a_fault(stock):
    listed = [entry("tests/test_it.py::test_same")]
    found = upstream.compare(stock, stock, listed)
    assert found.wrong == (
        "tests/test_it.py::test_same is listed and does not differ: take it out of the list.",
    )
    assert not found.holds
    assert upstream.compare(stock, stock, listed, whole=False).holds


def test_what_passes_on_both_alone_is_unsteady_and_nothing_else(folder, stock, patched):
    steady = BROKEN[:2]
    asked = [test for test in BROKEN if "gone" not in test]
    again = run(folder, False, asked), run(folder, True, asked)
    found = upstream.compare(stock, patched, (), again)
    assert found.unsteady == ("tests/test_it.py::test_leans_on_an_earlier_one",)
    assert set(steady) < set(found.broken)
    assert not found.holds


def test_an_unsteady_test_does_not_serve_as_an_entry():
    test = "tests/test_it.py::test_x"
    stock, patched = {test: "passed", "a": "passed"}, {test: "failed: assert 0", "a": "passed"}
    both = {test: "passed"}
    assert upstream.compare(stock, patched, (), (both, both)).holds
    assert upstream.compare(stock, patched, [entry(test)], (both, both)).wrong
    # What fails alone on both is not shown to be unsteady.
    neither = {test: "failed: assert 0"}
    assert upstream.compare(stock, patched, (), (neither, neither)).broken == (test,)


@pytest.mark.parametrize(
    ("stock", "said"),
    [
        ({}, "No test ran on stock."),
        ({"a": "skipped", "b": "skipped"}, "No test ran on stock."),
        ({"a": "failed: assert 0"}, "Of 1 tests only 0 passed on stock: that shows too little."),
        ({"a": "error: no", "b": "passed"}, "Of 2 tests only 1 passed on stock: that shows too little."),
    ],
)
def test_a_run_that_shows_nothing_does_not_pass(stock, said):
    found = upstream.compare(stock, stock)
    assert (found.wrong, found.holds) == ((said,), False)


def test_a_run_without_a_report_is_a_problem(folder):
    with pytest.raises(Problem, match="unrecognized arguments: --nonsense") as raised:
        upstream.run(folder, HERE, ["--nonsense"], variables={"PATCHED": "no", "ASKED": ""})
    assert raised.value.exit_code == Exit.FAILED


def test_the_list_of_the_project(root, project, pins):
    """Each entry speaks of a pinned release, and of a test that its sdist has."""
    assert (root / "patches/upstream-tests.toml").is_file()
    for one in upstream.load(project.folder):
        served = [release for release in pins.releases if one.serves(release)]
        assert served, one.test
        for release in served:
            file = f"{release.distribution.root}/{one.test.partition('::')[0]}"
            assert one.test.rpartition("::")[2].partition("[")[0].encode() in releases.sources(release)[file]


@pytest.mark.parametrize(
    "text",
    [
        "[[test]]\nid = 'a'\nreason = 'b'\n",
        "[[test]]\nid = 'a'\nreleases = 'apache-airflow-providers-fab'\nreason = 'b'\n",
        "[[test]]\nid = 'a'\nreleases = 'apache-airflow-providers-fab >=3'\nreason = ' '\n",
        "[[test]]\nid = 'a'\nreleases = 'apache-airflow-providers-fab 3 to 4'\nreason = 'b'\n",
        "[test\n",
        None,
    ],
)
def test_a_broken_list_is_told_of(tmp_path, text):
    if text is not None:
        (tmp_path / "upstream-tests.toml").write_text(text)
    with pytest.raises(Problem, match="cannot be read"):
        upstream.load(tmp_path)


def test_a_list_is_read(tmp_path):
    (tmp_path / "upstream-tests.toml").write_text(
        "[[test]]\nid = 'a'\nreleases = 'apache-airflow-providers-fab >=3.3.0,<3.4.0'\nreason = 'b'\n"
    )
    (one,) = upstream.load(tmp_path)
    assert (one.test, one.distribution, one.reason) == ("a", FAB, "b")
    pins = releases.load(Path(__file__).parents[1] / "patches")
    assert [str(r) for r in pins.releases if one.serves(r)] == ["apache-airflow-providers-fab==3.3.0"]


def test_the_tests_of_a_release_are_laid_out_afresh(tmp_path, pins):
    release = pins.find(FAB, "3.10.2")
    folder = upstream.unpack(tmp_path, release)
    assert folder.is_relative_to(tmp_path / "build")
    assert [path.name for path in folder.iterdir()] == ["tests"]
    assert all((folder / path).is_file() for path in upstream.IGNORED)
    (folder / "tests/left.py").touch()
    assert not (upstream.unpack(tmp_path, release) / "tests/left.py").exists()


def test_a_release_without_tests_is_told_of(tmp_path, pins):
    with pytest.raises(Problem, match="has no tests"):
        upstream.unpack(tmp_path, pins.pair("3.3.2+3.10.2").core)


@pytest.mark.parametrize(
    ("patched", "code", "said"),
    [
        ("passed", Exit.OK, "Nothing that passes on stock fails on patched."),
        ("failed: assert 0", Exit.FAULT, "tests/a.py::test_a: passes on stock, patched it does not"),
    ],
)
def test_how_the_command_ends(monkeypatch, capsys, patched, code, said):
    runs = {"tests/a.py::test_a": "passed"}, {"tests/a.py::test_a": patched}
    monkeypatch.setattr(command, "judge", lambda *_: upstream.compare(*runs))
    with pytest.raises(command.typer.Exit) as ended:
        command.upstream_(["3.3.2+3.10.2"])
    assert ended.value.exit_code == code
    assert said in capsys.readouterr().out


@pytest.mark.proof
@pytest.mark.parametrize("name", ["3.1.6+3.3.0", "3.3.2+3.10.2"])
def test_what_passes_on_stock_passes_on_patched(root, project, pins, name):
    found = judge(root, project, pins, pins.pair(name), "3.11")
    assert (found.broken, found.wrong) == ((), ())
    assert found.holds
    assert tally(found.patched)["passed"] > 500


def test_one_pair_of_each_minor_of_the_provider(pins):
    minors = [pair.fab.version.release[:2] for pair in pins.minor_pairs]
    assert minors == sorted({r.version.release[:2] for r in pins.releases if r.distribution is FAB})
