"""Run upstream's tests on stock and patched, and compare the outcomes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from typer.testing import CliRunner

from airflow_auth_patches.cli import app
from airflow_auth_patches.cli import upstream as command
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases import fetching
from airflow_auth_patches.releases.releases import FAB
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.progress import Silent
from airflow_auth_patches.verification import run_pytest, upstream, upstream_runs
from airflow_auth_patches.verification.run_pytest import tally

HERE = Environment(Path(sys.executable))
TESTS = """
import pytest

def test_passes():
    pass

@pytest.mark.parametrize("number", [1, 2])
def test_of_many(number):
    assert number == 1

class TestIn:
    class TestInner:
        def test_skipped(self):
            pytest.skip("not here")

@pytest.fixture
def broken_at_the_end():
    yield
    raise ValueError("at the end")

def test_teardown(broken_at_the_end):
    pass
"""
#: Tests, and their outcomes in two runs: stock, patched, stock, patched.
RUNS: dict[str, tuple[str | None, ...]] = {
    "t.py::test_same": ("passed",) * 4,
    "t.py::test_asserts_the_bug": ("passed", "failed: assert 0") * 2,
    "t.py::test_of_many[1]": ("passed",) * 4,
    "t.py::test_of_many[2]": ("passed", "error: ValueError") * 2,
    "t.py::TestIn::test_skipped_when_patched": ("passed", "skipped") * 2,
    "t.py::test_differs_in_the_first_run": ("passed", "failed: assert 1", "passed", "passed"),
    "t.py::test_gone_when_patched": ("passed", None) * 2,
    "t.py::test_cured": ("failed: assert 0", "passed") * 2,
    "t.py::test_differs_in_the_second_run": ("passed", "passed", "passed", "failed: assert 1"),
}
BROKEN = [test for test, found in RUNS.items() if found[0] == "passed" != found[1]]
UNSTEADY = [f"t.py::test_differs_in_the_{turn}_run" for turn in ("first", "second")]
STEADY = [test for test in BROKEN if test not in UNSTEADY]


def outcomes(number: int) -> dict[str, str]:
    return {test: outcome for test, found in RUNS.items() if (outcome := found[number])}


STOCK, PATCHED = outcomes(0), outcomes(1)


def listed(*tests: str) -> list[upstream.Listed]:
    """Return entries of the list, without the parameters of the tests."""
    names = dict.fromkeys(test.partition("[")[0] for test in tests)
    return [upstream.Listed(test, FAB, SpecifierSet("==3.3.0"), "it asserts the bug") for test in names]


def test_finds_tests_that_pass_only_on_stock_or_only_when_patched():
    found = upstream.compare(STOCK, PATCHED)
    assert (list(found.broken), found.wrong, found.holds) == (BROKEN, (), False)
    assert found.cured == ("t.py::test_cured",)
    assert upstream.compare(STOCK, STOCK).holds


def test_listed_tests_may_fail_with_all_their_parameters():
    found = upstream.compare(STOCK, PATCHED, listed(*BROKEN))
    assert found.holds
    assert found.listed == dict.fromkeys(BROKEN, "it asserts the bug")
    found = upstream.compare(STOCK, PATCHED, listed(*BROKEN[1:]))
    assert (found.broken, found.holds) == ((BROKEN[0],), False)


def test_listed_test_that_does_not_differ_is_a_fault_of_a_whole_run():
    found = upstream.compare(STOCK, STOCK, listed("t.py::test_same"))
    said = "t.py::test_same is listed, but its outcomes do not differ. Remove it from the list."
    assert (found.wrong, found.holds) == ((said,), False)
    assert upstream.compare(STOCK, STOCK, listed("t.py::test_same"), whole=False).holds


@pytest.mark.parametrize(
    ("entries", "turns", "unsteady", "broken"),
    [(BROKEN, 1, [], []), (STEADY, 2, UNSTEADY, []), ([], 2, UNSTEADY, STEADY)],
    ids=["all listed", "steady ones listed", "none listed"],
)
def test_runs_all_tests_again_when_an_unlisted_one_differs(pins, entries, turns, unsteady, broken):
    ran: list[bool] = []
    other = Environment(Path("patched"))

    def run_in(environment: Environment) -> dict[str, str]:
        ran.append(patched := environment is other)
        return outcomes(2 * (ran.count(patched) - 1) + patched)

    pair, entries = pins.pair("3.1.6+3.3.0"), listed(*entries)
    found = upstream_runs.compare_runs(run_in, HERE, other, pair, entries, Silent(), whole=True)
    assert (list(found.unsteady), list(found.broken)) == (unsteady, broken)
    assert found.holds is not bool(broken)
    assert sorted(ran) == [False] * turns + [True] * turns


def test_test_that_fails_on_both_in_the_second_run_is_broken():
    test = "tests/test_it.py::test_x"
    stock, patched = {test: "passed", "a": "passed"}, {test: "failed: assert 0", "a": "passed"}
    for second, broken in (("passed", ()), ("failed: assert 0", (test,))):
        assert upstream.compare(stock, patched, (), ({test: second}, {test: second})).broken == broken


@pytest.mark.parametrize(
    ("stock", "said"),
    [
        ({}, "No test ran on stock. Check the -k expression and the paths."),
        ({"a": "skipped"}, "No test ran on stock. Check the -k expression and the paths."),
        (
            {"a": "failed: assert 0"},
            "Only 0 of 1 tests passed on stock. Correct the environment and run them again.",
        ),
        (
            {"a": "error: no", "b": "passed"},
            "Only 1 of 2 tests passed on stock. Correct the environment and run them again.",
        ),
    ],
)
def test_inconclusive_run_does_not_hold(stock, said):
    found = upstream.compare(stock, stock)
    assert (found.wrong, found.holds) == ((said,), False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("upstream")
    (folder / "tests").mkdir()
    (folder / "tests/test_it.py").write_text(TESTS)
    (folder / "tests/test_other.py").write_text("import nothing_of_that_name\n")
    (folder / "tests/test_exit.py").write_text("import pytest\ndef test_exit():\n    pytest.exit('now')\n")
    (folder / "tests/test_none.py").write_text("x = 1\n")
    return folder


def run(folder: Path, *only: str) -> dict[str, str]:
    return run_pytest.run(folder, HERE, ["-p", "no:cacheprovider", *(only or ["tests"])], timeout=300)


def test_run_gives_the_worst_outcome_of_each_test_without_the_callers_settings(folder, monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "--maxfail=1 -k test_o")
    monkeypatch.setenv("PYTEST_PLUGINS", "no_such_plugin")
    assert run(folder, "tests/test_it.py", "tests/test_other.py") == {
        "tests/test_it.py::test_passes": "passed",
        "tests/test_it.py::test_of_many[1]": "passed",
        "tests/test_it.py::test_of_many[2]": "failed: assert 2 == 1",
        "tests/test_it.py::TestIn::TestInner::test_skipped": "skipped",
        "tests/test_it.py::test_teardown": 'error: failed on teardown with "ValueError: at the end"',
        "tests/test_other.py": "error: ModuleNotFoundError: No module named 'nothing_of_that_name'",
    }
    assert run(folder, "tests/test_none.py") == {}


@pytest.mark.parametrize(("name", "code"), [("exit.py", 2), ("gone.py", 4), ("it.py::test_gone", 4)])
def test_refuses_incomplete_run(folder, name, code):
    with pytest.raises(Problem, match=f"did not run all tests of .* and exited with {code}") as raised:
        run(folder, "tests/test_it.py::test_passes", f"tests/test_{name}")
    assert raised.value.exit_code == Exit.FAILED


def test_refuses_run_without_a_report(folder):
    with pytest.raises(Problem, match="unrecognized arguments: --nonsense") as raised:
        run_pytest.run(folder, HERE, ["--nonsense"])
    assert raised.value.exit_code == Exit.FAILED


def test_listed_tests_of_the_project_are_in_the_sdists_of_pinned_releases(root, pins, project):
    assert (root / "patches/upstream-tests.toml").is_file()
    for one in upstream.load(project.folder):
        served = [release for release in pins.releases if one.serves(release)]
        assert served, one.test
        for release in served:
            file = f"{release.distribution.root}/{one.test.partition('::')[0]}"
            assert one.test.rpartition("::")[2].partition("[")[0].encode() in fetching.sources(release)[file]


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
def test_refuses_broken_list(tmp_path, text):
    if text is not None:
        (tmp_path / "upstream-tests.toml").write_text(text)
    with pytest.raises(Problem, match="cannot be read"):
        upstream.load(tmp_path)


def test_list_is_read(tmp_path, pins):
    (tmp_path / "upstream-tests.toml").write_text(
        "[[test]]\nid = 'a'\nreleases = 'apache-airflow-providers-fab >=3.3.0,<3.4.0'\nreason = 'b'\n"
    )
    (one,) = upstream.load(tmp_path)
    assert (one.test, one.distribution, one.reason) == ("a", FAB, "b")
    assert [str(r) for r in pins.releases if one.serves(r)] == ["apache-airflow-providers-fab==3.3.0"]


def test_unpack_writes_only_the_tests_and_replaces_the_folder(tmp_path, pins):
    release = pins.find(FAB, "3.10.2")
    folder = upstream.unpack(tmp_path, release)
    assert folder.is_relative_to(tmp_path / "build")
    assert [path.name for path in folder.iterdir()] == ["tests"]
    assert all((folder / path).is_file() for path in upstream.IGNORED)
    (folder / "tests/left.py").touch()
    assert not (upstream.unpack(tmp_path, release) / "tests/left.py").exists()
    with pytest.raises(Problem, match="has no tests"):
        upstream.unpack(tmp_path, pins.pair("3.3.2+3.10.2").core)


@pytest.mark.parametrize(
    ("patched", "code", "said"),
    [
        ("passed", Exit.OK, "All tests that pass on stock pass when patched."),
        ("failed: assert 0", Exit.FAULT, "tests/a.py::test_a: passes on stock, but not when patched"),
    ],
)
def test_exit_code_of_the_command(monkeypatch, patched, code, said):
    runs = {"tests/a.py::test_a": "passed"}, {"tests/a.py::test_a": patched}
    monkeypatch.setattr(command, "run_provider_tests", lambda *_: upstream.compare(*runs))
    done = CliRunner().invoke(app, ["test-upstream", "--pair", "3.3.2+3.10.2"])
    assert done.exit_code == code
    assert said in done.stdout


@pytest.mark.airflow
@pytest.mark.slow
@pytest.mark.parametrize("name", ["3.3.2+3.10.2", "3.1.6+3.3.0"])
def test_provider_tests_that_pass_on_stock_pass_when_patched(pins, this_project, name):
    found = upstream_runs.run_provider_tests(this_project, pins.pair(name), "3.11")
    assert (found.broken, found.wrong) == ((), ())
    assert found.holds
    assert tally(found.patched)["passed"] > 500


def test_default_pairs_have_each_minor_version_of_the_provider(pins):
    minors = [pair.fab.version.release[:2] for pair in pins.minor_pairs]
    assert minors == sorted({r.version.release[:2] for r in pins.releases if r.distribution is FAB})
