"""The test matrix: what is run, what is kept when one fails or all is ended, and what is cleared."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_auth_patches.installation import environments, pair_environments
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.util import files, locks
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.verification import matrix_results, test_matrix
from airflow_auth_patches.verification.cells import PYTHONS, Cell, Part, choose
from airflow_auth_patches.verification.matrix_results import Outcome, Result, State

ROOT = Path(__file__).parents[1]
GREEN = Outcome((), {"failed_on_stock": 2, "passed_patched": 3})
OLD, NEW = "3.1.6+3.3.0", "3.3.2+3.10.2"
HERE = dict.fromkeys(PYTHONS, "3.x.y")


@pytest.fixture
def few(root, project, pins) -> list[Cell]:
    """Return the cells of three pairs, two parts of each."""
    pairs = [pins.pair(name) for name in (OLD, "3.3.2+3.8.0", NEW)]
    return choose(root, project, pairs, ["3.11"], parts=[Part.TESTS, Part.MUTANTS])


@pytest.fixture
def fill(tmp_path, few):
    """Fill the matrix with a given runner; the checkout and the results are in a folder of the test."""

    def filled(run, chosen: list[Cell] = few, **words) -> list[str]:
        folder = tmp_path / "matrix"
        book = matrix_results.read(folder)
        words = {"available": HERE, **words}
        return [cell.name for cell in test_matrix.fill(tmp_path / "root", folder, chosen, book, run, **words)]

    return filled


@pytest.fixture
def kept(tmp_path) -> Callable[[], dict[str, Result]]:
    return lambda: matrix_results.read(tmp_path / "matrix")


def names(chosen: list[Cell]) -> list[str]:
    return [cell.name for cell in chosen]


def test_what_passed_is_not_run_again(fill, kept, few):
    assert fill(lambda _: GREEN) == names(few)
    assert {result.state for result in kept().values()} == {State.PASSED}
    assert kept()[few[0].name].counts == {"failed_on_stock": 2, "passed_patched": 3}
    assert fill(lambda _: GREEN) == []
    assert fill(lambda _: GREEN, again=True) == names(few)


def test_what_changed_is_run_again(fill, kept, few):
    fill(lambda _: GREEN)
    changed = [replace(cell, fingerprint="other") if cell.pair.name == NEW else cell for cell in few]
    state, reason = matrix_results.state_of(changed[-1], kept())
    assert (state, "inputs changed" in reason) == (State.NOT_RUN, True)
    assert fill(lambda _: GREEN, changed) == names(changed[-2:])
    assert matrix_results.state_of(changed[-1], kept()) == (State.PASSED, "")


def test_a_fault_is_kept_and_the_cell_run_again(fill, kept, few):
    bad = few[2].name
    outcome = Outcome(
        ("users-route, stock: test_x must fail by an assertion: passed",), {"failed_on_stock": 1}
    )
    assert fill(lambda cell: outcome if cell.name == bad else GREEN) == names(few)
    assert kept()[bad].state is State.FAILED
    assert kept()[bad].faults == outcome.faults
    assert not matrix_results.holds(few, kept())
    assert fill(lambda _: GREEN) == [bad]
    assert matrix_results.holds(few, kept())


def test_of_a_cell_for_which_something_changed_while_it_ran_nothing_is_kept(fill, kept, few):
    bad = few[2].name
    fill(lambda _: GREEN, unchanged=lambda cell: cell.name != bad)
    result = kept()[bad]
    assert (result.state, result.counts) == (State.NOT_RUN, {})
    assert matrix_results.state_of(few[2], kept()) == (State.NOT_RUN, test_matrix.CHANGED)
    assert not matrix_results.holds(few, kept())
    assert fill(lambda _: GREEN) == [bad]


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Problem("uv failed:\n  No solution\n  found.", "Try."), "uv failed: No solution found. Try."),
        (ValueError("not\nthis"), "ValueError: not this"),
        (KeyError(), "KeyError: KeyError()"),
    ],
)
def test_a_cell_that_cannot_be_run_is_told_in_a_line_and_the_others_go_on(
    fill, kept, few, error, reason, jobs
):
    def run(cell: Cell) -> Outcome:
        if cell.name == few[0].name:
            raise error
        return GREEN

    assert sorted(fill(run, jobs=jobs)) == sorted(names(few))
    states = {name: result.state for name, result in kept().items()}
    assert states == {cell.name: State.ERROR if cell is few[0] else State.PASSED for cell in few}
    assert kept()[few[0].name].reason == reason
    assert not matrix_results.holds(few, kept())
    assert fill(lambda _: GREEN) == [few[0].name]


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("nth", [1, 2, 4])
def test_an_interruption_leaves_whole_cells_and_the_next_run_does_the_rest(
    fill, kept, few, tmp_path, jobs, nth
):
    ran: list[str] = []
    one = threading.Lock()
    stopped = threading.Event()

    def run(cell: Cell) -> Outcome:
        make_environments(tmp_path / "root", cell)
        with one:
            if len(ran) == nth - 1:
                raise KeyboardInterrupt
            ran.append(cell.name)
        return GREEN

    with pytest.raises(KeyboardInterrupt):
        fill(run, jobs=jobs, stopped=stopped)
    assert stopped.is_set()
    whole = kept()
    assert set(whole) <= set(ran)
    if jobs == 1:
        assert set(whole) == set(ran) == set(names(few)[: nth - 1])
    assert {result.state for result in whole.values()} <= {State.PASSED}
    assert left(tmp_path / "root") == []
    assert [path.name for path in (tmp_path / "matrix").glob("*")] in ([], ["results.json"])
    assert fill(lambda _: GREEN) == [name for name in names(few) if name not in whole]
    assert set(kept()) == set(names(few))


SCRIPT = """
import sys, threading
from pathlib import Path
from airflow_auth_patches.releases import releases
from airflow_auth_patches.series import series
from airflow_auth_patches.util.signals import interruptible
from airflow_auth_patches.verification import cells, matrix_results, test_matrix

root, folder = map(Path, sys.argv[1:])
project = series.load(root / "patches")
chosen = cells.choose(root, project, releases.load(root / "patches").pairs[:3], ["3.11"])
stopped = threading.Event()

def run(cell):
    if cell is chosen[1]:
        print("running", flush=True)
        stopped.wait(60)
        raise KeyboardInterrupt
    return matrix_results.Outcome(())

with interruptible():
    test_matrix.fill(folder, folder, chosen, {}, run, available={"3.11": "3.11.7"}, stopped=stopped)
"""


def test_a_real_ctrl_c_ends_what_is_being_run_and_keeps_what_was(root, tmp_path):
    words = [sys.executable, "-c", SCRIPT, root, tmp_path]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGINT
    (result,) = matrix_results.read(tmp_path).values()
    assert result.state is State.PASSED


PROGRAM = """
import os, signal, sys
from pathlib import Path
from airflow_auth_patches import cli
from airflow_auth_patches.releases import releases
from airflow_auth_patches.series import series
from airflow_auth_patches.util import processes
from airflow_auth_patches.installation import pair_environments
from airflow_auth_patches.verification import cells, matrix_results, test_matrix

processes.GRACE = 1
root, folder, how = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
project = series.load(root / "patches")
chosen = cells.choose(root, project, releases.load(root / "patches").pairs[:3], ["3.11"])

def run(cell):
    stock = pair_environments.folder_of(folder, cell.pair, cell.python, "stock")
    stock.mkdir(parents=True)
    (stock / ".ready").touch()
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    processes.attempt(["sh", "-c", f"exec 3>{folder / 'pipe'}; echo running >&3; tail -f /dev/null"])

def app():
    test_matrix.fill(folder, folder / "matrix", chosen, {}, run, available={"3.11": "3.11.7"})

cli.app = app
cli.main()
"""


def program(root: Path, folder: Path, how: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", PROGRAM, root, folder, how]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True)


def test_a_signal_to_its_process_alone_ends_the_programs_of_its_cells_and_then_clears_up(root, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    pipe = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with program(root, tmp_path, "runs") as process:
        assert select.select([pipe], [], [], 60)[0]
        assert os.read(pipe, 100) == b"running\n"
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + signal.SIGTERM, "Interrupted.\n")
    assert os.read(pipe, 100) == b""  # nobody holds it open any more
    os.close(pipe)
    assert left(tmp_path) == []
    assert list((tmp_path / test_matrix.MADE).iterdir()) == []
    assert matrix_results.read(tmp_path / "matrix") == {}


def test_what_a_killed_run_made_goes_when_the_next_one_begins(root, tmp_path, fill, few, kept):
    work = tmp_path / "root"
    make_environments(work, few[2], "stock")
    with program(root, work, "killed") as process:
        assert process.wait(60) == -signal.SIGKILL
    (made,) = set(left(work)) - {f"{few[2].pair.name}-py3.11-stock"}
    seen: list[list[str]] = []
    fill(lambda _: seen.append(left(work)) or GREEN, few[4:5])
    assert seen == [[f"{few[2].pair.name}-py3.11-stock"]], made
    assert left(work) == seen[0]


def test_one_runs_at_a_time_in_a_checkout_and_names_its_process(root, tmp_path, fill, few, kept):
    work = tmp_path / "root"
    script = (
        "import sys; from pathlib import Path; from airflow_auth_patches.util import locks\n"
        "with locks.held(Path(sys.argv[1]), 'it'): print('held', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", script, work / test_matrix.LOCK]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        said = rf"already running in this checkout \(process {process.pid}\)\."
        with pytest.raises(Problem, match=said) as raised:
            fill(lambda _: GREEN)
        assert raised.value.exit_code == Exit.REFUSED
        assert kept() == {}
        process.kill()
        process.wait(30)
    assert fill(lambda _: GREEN) == names(few)
    with locks.held(work / test_matrix.LOCK, "it"):  # nothing is to be run
        assert fill(lambda _: GREEN) == []


def test_what_another_run_kept_meanwhile_is_not_lost(tmp_path, few):
    folder = tmp_path / "matrix"
    book = matrix_results.read(folder)
    test_matrix.fill(tmp_path, folder, few[:1], {}, lambda _: GREEN, available=HERE)
    assert test_matrix.fill(tmp_path, folder, few[:2], book, lambda _: GREEN, available=HERE) == few[1:2]
    assert set(matrix_results.read(folder)) == set(names(few[:2]))


def test_two_that_write_one_file_at_once_write_it_whole(tmp_path):
    start = threading.Barrier(4, timeout=30)
    wrong: list[BaseException] = []

    def write(text: str) -> None:
        try:
            start.wait()
            for _ in range(200):
                files.write_whole(tmp_path / "file", text * 10_000)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=write, args=(text,)) for text in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    assert (tmp_path / "file").read_text() in [text * 10_000 for text in "abcd"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_each_cell_is_kept_and_reported_when_it_ends(fill, kept, few):
    told: list[int] = []
    fill(lambda _: GREEN, written=lambda: told.append(len(kept())))
    assert told == [1, 2, 3, 4, 5, 6]


def test_a_python_that_is_not_there_is_named_and_not_passed_over(fill, kept, root, project, pins):
    chosen = choose(root, project, [pins.pair(NEW)], ["3.11", "3.13"])
    without = {"3.11": "3.11.7", "3.13": None}
    assert fill(lambda _: GREEN, chosen, available=without) == [chosen[0].name]
    result = kept()[chosen[1].name]
    assert (result.state, result.reason) == (State.SKIPPED, "Python 3.13 is not on this machine")
    assert matrix_results.holds(chosen, kept())
    assert not matrix_results.holds(chosen[1:], kept())  # nothing was shown
    assert fill(lambda _: GREEN, chosen) == [chosen[1].name]
    assert kept()[chosen[1].name].state is State.PASSED


def test_what_a_run_gave_is_not_forgotten_when_its_python_goes_missing(fill, kept, few):
    bad, broken = few[2], few[3]

    def run(cell: Cell) -> Outcome:
        if cell is broken:
            raise Problem("no")
        return Outcome(("x: failed",)) if cell is bad else GREEN

    fill(run)
    assert fill(lambda _: GREEN, available={"3.11": None}) == []
    assert kept()[bad.name].state is State.FAILED
    assert kept()[broken.name].state is State.ERROR
    assert not matrix_results.holds(few, kept())
    changed = [replace(cell, fingerprint="other") for cell in few]
    fill(lambda _: GREEN, changed, available={"3.11": None})
    assert {result.state for result in kept().values()} == {State.SKIPPED}


def test_pythons_are_looked_for():
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = test_matrix.interpreters([here, "3.99"])
    assert re.fullmatch(rf"{re.escape(here)}\.\d+\S*", found[here] or "")
    assert found["3.99"] is None


def make_environments(root: Path, cell: Cell, *kinds: str) -> None:
    for kind in kinds or ("stock", "patched"):
        folder = pair_environments.folder_of(root, cell.pair, cell.python, kind)
        (folder / "lib").mkdir(parents=True, exist_ok=True)
        (folder / ".ready").touch()
        (folder / "lib" / "module.py").write_text("x" * 10_000)


def left(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "build" / "envs").glob("*"))


def test_environments_serve_all_parts_of_a_pair_and_go_then(fill, kept, few, tmp_path):
    seen: dict[str, list[str]] = {}

    def run(cell: Cell) -> Outcome:
        seen[cell.name] = left(tmp_path / "root")
        make_environments(tmp_path / "root", cell)
        return GREEN

    fill(run)
    for first, second in zip(few[::2], few[1::2], strict=True):
        assert seen[first.name] == []
        assert seen[second.name] == [f"{first.pair.name}-py3.11-{kind}" for kind in ("patched", "stock")]
    assert left(tmp_path / "root") == []
    for result in kept().values():
        assert 20_000 < result.own < 200_000
        assert result.at_once == result.own


def test_an_environment_that_was_there_before_stays(fill, few, tmp_path):
    root = tmp_path / "root"
    make_environments(root, few[0], "stock")
    (pair_environments.folder_of(root, few[0].pair, "3.11", "patched") / "lib").mkdir(
        parents=True
    )  # a rest, not ready

    def run(cell: Cell) -> Outcome:
        make_environments(root, cell)
        return GREEN

    fill(run)
    assert left(root) == [f"{OLD}-py3.11-stock"]
    fill(run, again=True, keep=True)
    assert len(left(root)) == 6


def test_an_environment_that_is_not_changed_to_the_end_is_none(tmp_path, monkeypatch, project, pins, few):
    """It is made anew then."""
    folder = pair_environments.folder_of(tmp_path, few[0].pair, "3.11", "patched")
    make_environments(tmp_path, few[0], "patched")
    seen: list[bool] = []

    def apply(*_, put_back: bool) -> None:
        assert not put_back
        seen.append((folder / ".ready").exists())
        if len(seen) == 2:
            raise Problem("no")

    monkeypatch.setattr(environments, "make", lambda *_, **__: Environment(folder / "bin/python"))
    monkeypatch.setattr(pair_environments.apply, "plan", lambda *_, **__: SimpleNamespace(pending=(1,)))
    monkeypatch.setattr(pair_environments.apply, "apply", apply)
    pair_environments.patched_environment(tmp_path, project, pins, few[0].pair, "3.11")
    assert (folder / ".ready").exists()
    with pytest.raises(Problem):
        pair_environments.patched_environment(tmp_path, project, pins, few[0].pair, "3.11")
    assert seen == [False, False]
    assert not (folder / ".ready").exists()


def test_environments_of_a_cell_that_cannot_be_run_go_too(fill, kept, few, tmp_path):
    def run(cell: Cell) -> Outcome:
        make_environments(tmp_path / "root", cell, "stock")
        raise Problem("no", "", Exit.FAILED)

    fill(run)
    assert len(kept()) == len(few)
    assert left(tmp_path / "root") == []


def test_pairs_run_at_once_and_the_cells_of_one_in_turn(fill, few):
    both = threading.Barrier(2, timeout=30)
    busy: list[str] = []
    clashes: list[str] = []

    def run(cell: Cell) -> Outcome:
        place = f"{cell.pair.name} {cell.python}"
        if place in busy:
            clashes.append(place)
        busy.append(place)
        both.wait()
        busy.remove(place)
        return GREEN

    fill(run, few[:4], jobs=2)
    assert clashes == []

    count: list[int] = []

    def alone(cell: Cell) -> Outcome:
        busy.append(cell.name)
        count.append(len(busy))
        busy.remove(cell.name)
        return GREEN

    fill(alone, jobs=1, again=True)
    assert set(count) == {1}


def test_the_most_at_once_is_of_all_that_run(fill, kept, few, tmp_path):
    both = threading.Barrier(2, timeout=30)

    def run(cell: Cell) -> Outcome:
        make_environments(tmp_path / "root", cell)
        both.wait()
        return GREEN

    fill(run, [few[0], few[2]], jobs=2)
    first, second = kept().values()
    assert max(first.at_once, second.at_once) == first.own + second.own


def test_pairs_at_once_follow_the_cores():
    assert [test_matrix.jobs_for(count) for count in (1, 2, 3, 5, 6, 16)] == [1, 1, 1, 1, 2, 5]
    assert 1 <= test_matrix.cores() <= (os.cpu_count() or 1)


def test_results_are_written_and_read(tmp_path):
    assert matrix_results.read(tmp_path) == {}
    result = Result(
        State.FAILED, "0" * 64, "2026-11-21T15:30:00Z", 1.5, {"failed_on_stock": 1}, ("a", "b"), "", 1, 2, 3
    )
    matrix_results.write(tmp_path / "new", {"x": result})
    assert matrix_results.read(tmp_path / "new") == {"x": result}
    for broken in ('{"x": 3}', '{"x": {"state": "odd"}}', "[", "[1]"):
        (tmp_path / matrix_results.FILE).write_text(broken)
        with pytest.raises(Problem, match=r"results\.json cannot be read"):
            matrix_results.read(tmp_path)


def test_results_that_cannot_be_written_end_the_run(tmp_path, few):
    (tmp_path / "file").write_text("")
    with pytest.raises(Problem, match="cannot be written"):
        test_matrix.fill(tmp_path, tmp_path / "file", few, {}, lambda _: GREEN, available=HERE)
