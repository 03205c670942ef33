"""Upstream's tests as the judge: what a comparison of two runs says, and what a run tells."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from airflow_auth_patches.cli import upstream as command
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases import fetching, releases
from airflow_auth_patches.releases.releases import FAB
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.verification import upstream
from airflow_auth_patches.verification import upstream_runs as commands
from airflow_auth_patches.verification.cells import Part, choose
from airflow_auth_patches.verification.run_cell import Runner
from airflow_auth_patches.verification.unit_tests import tally
from airflow_auth_patches.verification.upstream_runs import run_provider_tests

HERE = Environment(Path(sys.executable))
PLAIN = {"PATCHED": "no", "ROUND": "1"}
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


LEFT = []


def test_leaves_something_behind():
    if PATCHED:
        LEFT.append("a cache")


def test_meets_what_an_earlier_one_left():
    assert LEFT == []


def test_differs_in_the_first_run():
    assert not PATCHED or os.environ["ROUND"] == "2"


def test_differs_in_the_second_run():
    assert not PATCHED or os.environ["ROUND"] == "1"


if not PATCHED:
    def test_gone_when_patched():
        pass
"""
BROKEN = [
    "tests/test_it.py::test_asserts_the_bug",
    "tests/test_it.py::test_of_many[2]",
    "tests/test_it.py::TestIn::TestInner::test_skipped_when_patched",
    "tests/test_it.py::test_teardown",
    "tests/test_it.py::test_meets_what_an_earlier_one_left",
    "tests/test_it.py::test_differs_in_the_first_run",
    "tests/test_it.py::test_gone_when_patched",
]


def run(folder: Path, patched: bool, only: list[str] | None = None, turn: int = 1) -> dict[str, str]:
    variables = {"PATCHED": "yes" if patched else "no", "ROUND": str(turn)}
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
        "tests/test_it.py::test_same is listed, but its outcomes do not differ. Remove it from the list.",
    )
    assert not found.holds
    assert upstream.compare(stock, stock, listed, whole=False).holds


def test_what_differs_in_one_of_two_whole_runs_is_unsteady_and_nothing_else(folder, stock, patched):
    """What meets what another test left behind passes alone; it differs in each whole run."""
    again = run(folder, False, turn=2), run(folder, True, turn=2)
    found = upstream.compare(stock, patched, (), again)
    names = [
        "tests/test_it.py::test_differs_in_the_first_run",
        "tests/test_it.py::test_differs_in_the_second_run",
    ]
    assert list(found.unsteady) == names
    assert list(found.broken) == [test for test in BROKEN if test not in names]
    (leak,) = (test for test in BROKEN if "left" in test)
    assert run(folder, True, [leak])[leak] == "passed"
    assert leak in found.broken


def test_what_fails_on_both_in_the_second_run_is_not_shown_to_be_unsteady():
    test = "tests/test_it.py::test_x"
    stock, patched = {test: "passed", "a": "passed"}, {test: "failed: assert 0", "a": "passed"}
    both, neither = {test: "passed"}, {test: "failed: assert 0"}
    assert upstream.compare(stock, patched, (), (both, both)).holds
    assert upstream.compare(stock, patched, (), (neither, neither)).broken == (test,)
    assert upstream.compare(stock, patched, [entry(test)]).holds


@pytest.fixture
def judged(monkeypatch, folder, root, project, pins):
    """Judge the tests of the folder; return the comparison and the runs that it took."""

    def judge_it(*expected: str):
        turns: list[bool] = []

        def run_sdist(_root, laid, _extra, environment, _expression) -> dict[str, str]:
            turns.append(patched := environment is not HERE)
            return run(laid, patched, turn=turns.count(patched))

        monkeypatch.setattr(commands.environments, "make", lambda *_: HERE)
        monkeypatch.setattr(commands, "patched_environment", lambda *_: Environment(HERE.python))
        monkeypatch.setattr(upstream, "unpack", lambda *_: folder)
        monkeypatch.setattr(upstream, "packages", lambda *_: folder)
        monkeypatch.setattr(upstream, "run_sdist", run_sdist)
        monkeypatch.setattr(upstream, "load", lambda _: [entry(test) for test in expected])
        return run_provider_tests(root, project, pins, pins.pair("3.1.6+3.3.0"), "3.11"), turns

    return judge_it


def test_all_are_run_once_more_where_one_differs_that_is_not_listed(judged):
    found, turns = judged(*BROKEN)
    assert (found.holds, len(turns)) == (True, 2)
    found, turns = judged(*(test for test in BROKEN if "differs" not in test))
    assert (found.holds, sorted(turns)) == (True, [False, False, True, True])
    assert len(found.unsteady) == 2
    found, _ = judged()
    assert (found.holds, len(found.broken)) == (False, len(BROKEN) - 1)


def test_the_matrix_counts_the_unsteady(monkeypatch, root, project, pins):
    found = upstream.Comparison({"a": "passed"}, {"a": "passed"}, unsteady=("a",))
    monkeypatch.setattr(commands, "run_provider_tests", lambda *_, **__: found)
    (cell,) = choose(root, project, [pins.pair("3.3.2+3.10.2")], ["3.11"], parts=[Part.UPSTREAM])
    outcome = Runner(root, project, pins, threading.Event())(cell)
    assert outcome.faults == ()
    assert outcome.counts == {"pass on stock": 1, "pass when patched": 1, "unsteady": 1}


@pytest.mark.parametrize(
    ("stock", "said"),
    [
        ({}, "No test ran on stock. Check the -k expression and the paths."),
        ({"a": "skipped", "b": "skipped"}, "No test ran on stock. Check the -k expression and the paths."),
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
def test_a_run_that_shows_nothing_does_not_pass(stock, said):
    found = upstream.compare(stock, stock)
    assert (found.wrong, found.holds) == ((said,), False)


@pytest.mark.parametrize(
    ("text", "only", "code"),
    [
        ("import pytest\ndef test_a():\n    pass\ndef test_b():\n    pytest.exit('enough')\n", (), 2),
        ("def test_a():\n    pass\n", ("tests/test_a.py", "tests/test_gone.py"), 4),
        ("def test_a():\n    pass\n", ("tests/test_a.py::test_a", "tests/test_a.py::test_gone"), 4),
    ],
)
def test_a_run_that_ends_early_is_a_problem(tmp_path, text, only, code):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_a.py").write_text(text)
    with pytest.raises(Problem, match=f"did not run all tests of .* and exited with {code}") as raised:
        run(tmp_path, False, list(only))
    assert raised.value.exit_code == Exit.FAILED


def test_a_folder_without_a_test_gives_none(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_a.py").write_text("x = 1\n")
    assert run(tmp_path, False) == {}


@pytest.mark.parametrize(
    ("name", "value"), [("PYTEST_ADDOPTS", "--maxfail=1 -k test_o"), ("PYTEST_PLUGINS", "no_such_plugin")]
)
def test_what_the_caller_set_for_pytest_is_not_heeded(folder, stock, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert run(folder, False) == stock


def test_a_run_without_a_report_is_a_problem(folder):
    with pytest.raises(Problem, match="unrecognized arguments: --nonsense") as raised:
        upstream.run(folder, HERE, ["--nonsense"], variables=PLAIN)
    assert raised.value.exit_code == Exit.FAILED


def test_the_list_of_the_project(root, project, pins):
    """Each entry speaks of a pinned release, and of a test that its sdist has."""
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
        ("passed", Exit.OK, "All tests that pass on stock pass when patched."),
        ("failed: assert 0", Exit.FAULT, "tests/a.py::test_a: passes on stock, but not when patched"),
    ],
)
def test_how_the_command_ends(monkeypatch, capsys, patched, code, said):
    runs = {"tests/a.py::test_a": "passed"}, {"tests/a.py::test_a": patched}
    monkeypatch.setattr(command, "run_provider_tests", lambda *_: upstream.compare(*runs))
    with pytest.raises(command.typer.Exit) as ended:
        command.upstream_(["3.3.2+3.10.2"])
    assert ended.value.exit_code == code
    assert said in capsys.readouterr().out


@pytest.mark.proof
@pytest.mark.parametrize("name", ["3.1.6+3.3.0", "3.3.2+3.10.2"])
def test_what_passes_on_stock_passes_on_patched(root, project, pins, name):
    found = run_provider_tests(root, project, pins, pins.pair(name), "3.11")
    assert (found.broken, found.wrong) == ((), ())
    assert found.holds
    assert tally(found.patched)["passed"] > 500


def test_one_pair_of_each_minor_of_the_provider(pins):
    minors = [pair.fab.version.release[:2] for pair in pins.minor_pairs]
    assert minors == sorted({r.version.release[:2] for r in pins.releases if r.distribution is FAB})
