"""The test matrix: which cells there are, which are due, and what is kept when one fails or all is ended."""

from __future__ import annotations

import json
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

from airflow_auth_patches import (
    environments,
    files,
    installed,
    locks,
    matrix_results,
    proofs,
    releases,
    reproduce,
    series,
)
from airflow_auth_patches.cells import PYTHONS, Cell, Part, choose, still_holds, supported, unsupported
from airflow_auth_patches.commands import prove, run_cell, test_matrix
from airflow_auth_patches.commands.run_cell import Runner
from airflow_auth_patches.environments import Environment
from airflow_auth_patches.errors import Exit, Problem
from airflow_auth_patches.matrix_results import Outcome, Result, State

ROOT = Path(__file__).parents[1]
TOOL = Path(sys.executable).parent / "airflow-auth-patches"
GREEN = Outcome((), {"red": 2, "green": 3})
HERE = dict.fromkeys(PYTHONS, "3.x.y")


# Which cells there are


def places(chosen: list[Cell]) -> list[tuple[str, str]]:
    return [(cell.pair.name, cell.python) for cell in chosen]


def test_every_pair_is_there_once_and_default_pairs_on_each_python(root, project, pins):
    chosen = places(choose(root, project, pins.pairs))
    assert len(set(chosen)) == len(chosen)
    assert {pair for pair, _ in chosen} == {pair.name for pair in pins.pairs}
    for pair in pins.pairs:
        wanted = [version for version in PYTHONS if version in supported(pair)]
        here = [python for name, python in chosen if name == pair.name]
        assert here == (wanted if pair.default else ["3.11"])


def test_every_python_is_the_whole_product(root, project, pins):
    chosen = choose(root, project, pins.pairs, every_python=True)
    assert places(chosen) == [
        (pair.name, version) for pair in pins.pairs for version in PYTHONS if version in supported(pair)
    ]
    assert ("3.3.2+3.10.2", "3.10") not in places(chosen)  # that provider is for 3.11 and newer
    assert ("3.1.6+3.3.0", "3.13") not in places(chosen)  # that core is for 3.12 and older


def test_a_named_python_is_the_only_one_where_it_is_supported(root, project, pins):
    chosen = choose(root, project, pins.pairs, ["3.13", "3.14"])
    assert {cell.python for cell in chosen} == {"3.13", "3.14"}
    assert all(cell.python in supported(cell.pair) for cell in chosen)
    with pytest.raises(Problem, match=r"No pair that was chosen supports Python 3\.9") as raised:
        choose(root, project, pins.pairs, ["3.9", "3.11"])
    assert raised.value.exit_code == Exit.USAGE
    assert "3.9, 3.10, 3.11" not in raised.value.remedy
    assert "They support 3.10, 3.11, 3.12, 3.13, 3.14." in raised.value.remedy


def test_pairs_that_do_not_support_a_named_python_are_named(pins):
    pairs = [pins.pair(name) for name in (OLD, NEW)]
    assert unsupported(pairs, ["3.13", "3.11", "3.10"]) == {"3.10": [NEW], "3.13": [OLD]}
    assert unsupported(pairs, []) == {}


def test_a_pair_that_is_not_for_the_usual_python_is_not_passed_over(root, project, pins):
    pair = pins.pair("3.3.2+3.9.0")

    def on(*pythons: str) -> list[tuple[str, str]]:
        return places(choose(root, project, [replace(pair, fab=replace(pair.fab, pythons=pythons))]))

    assert on("3.12", "3.13", "3.14") == [(pair.name, "3.12"), (pair.name, "3.13")]
    assert on("3.14", "3.15") == [(pair.name, "3.14")]


def test_the_parts_of_a_pair_and_python_follow_each_other(root, project, pins):
    chosen = choose(root, project, pins.default_pairs, every_python=True, parts=list(Part))
    assert len({cell.name for cell in chosen}) == len(chosen)
    assert [cell.part for cell in chosen] == list(Part) * (len(chosen) // 3)
    assert places(chosen)[::3] == places(choose(root, project, pins.default_pairs, every_python=True))


# What a cell depends on


OLD, NEW = "3.1.6+3.3.0", "3.3.2+3.10.2"


def append(path: str, text: str = "# more\n") -> Callable[[Path], object]:
    return lambda root: (root / path).write_text((root / path).read_text() + text)


def change(path: str, old: str, new: str) -> Callable[[Path], object]:
    def edit(root: Path) -> None:
        before = (root / path).read_text()
        assert old in before
        (root / path).write_text(before.replace(old, new))

    return edit


USERS = "providers/fab/tests/unit/fab/auth_manager/api_fastapi/test_users_route.py"
REPORT = "the pair of the report 62335"
#: The entry of the newest pair.
NEWEST = next(
    f"[[pair]]{entry}"
    for entry in (ROOT / "patches/releases.toml").read_text().split("[[pair]]")
    if entry.startswith('\ncore = "3.3.2"\nfab = "3.10.2"\n')
)
MACHINE = "airflow-core/tests/unit/api_fastapi/auth/test_revoked_token_lookup_machine.py"


def with_fab_330(cell: Cell) -> bool:
    return str(cell.pair.fab.version) == "3.3.0"


def with_public_user(cell: Cell) -> bool:
    return "public-user-off-loop" in cell.patches


def with_look_up(cell: Cell) -> bool:
    return "revoked-token-off-loop" in cell.patches


@pytest.mark.parametrize(
    ("edit", "part", "due"),
    [
        (change("patches/providers-fab/users-route.patch", "UtcDateTime | datetime", "datetime"), 0, 1),
        (change("patches/providers-fab/users-route.patch", "UtcDateTime | datetime", "datetime"), 1, 1),
        (change("patches/providers-fab/users-route.patch", "UtcDateTime | datetime", "datetime"), 2, 1),
        (append(USERS), 0, 1),
        (append(USERS), 1, 1),
        (append(USERS), 2, 0),
        (lambda root: (root / USERS).unlink(), 0, 1),
        (append("patches/proofs/users-route.toml"), 0, 1),
        (append("patches/proofs/users-route.toml"), 2, 0),
        (append(MACHINE), 0, with_look_up),
        (append("patches/proofs/revoked-token-off-loop.toml"), 1, with_look_up),
        (append("tests/standin/tests_common/pytest_plugin.py"), 0, 2),
        (append("tests/standin/tests_common/upstream_plugin.py"), 2, 2),
        (append("tests/standin/pytest.ini", "\n"), 0, 2),
        (
            lambda root: (root / "patches/upstream-tests.toml").write_text(
                "[[test]]\nid = 'a'\nreason = 'b'\nreleases = 'apache-airflow-providers-fab ==3.3.0'\n"
            ),
            2,
            1,
        ),
        (
            change("patches/releases.toml", f'-20\nwhy = "{REPORT}"', f'-21\nwhy = "{REPORT}"'),
            0,
            lambda cell: cell.pair.name == OLD,
        ),
        (
            change("patches/providers-fab/users-route.patch", "\nTests: ", "\nRequires: user-cache\nTests: "),
            0,
            1,
        ),
        # Its text stays where it was in the order of all patches, and is applied no more.
        (change("patches/providers-fab/series", "\npublic-user-off-loop\n", "\n"), 0, with_public_user),
        # Patches are proven alone on the newest pair.
        (change("patches/releases.toml", NEWEST, ""), 0, 0),
        (change("patches/releases.toml", NEWEST, ""), 1, lambda cell: cell.pair.name == "3.3.2+3.10.1"),
        # What is none of theirs.
        (change("patches/providers-fab/users-route.patch", "Every route that", "Each route which"), 0, 0),
        (change("patches/providers-fab/users-route.patch", "Cures: users-route-500", "Cures: other"), 0, 0),
        (change("patches/providers-fab/users-route.patch", "Forwarded: not-needed", "Forwarded: no"), 2, 0),
        (append("patches/news.toml"), 0, 0),
        (append("patches/bugs.toml"), 0, 0),
        (append("patches/providers-fab/series", "# more\n"), 0, 0),
        (append("pyproject.toml"), 0, 0),
        (append("airflow-core/newsfragments/62431.bugfix.rst"), 0, 0),
        (append("patches/upstream-tests.toml"), 2, 0),
    ],
)
def test_only_cells_that_depend_on_what_changed_are_due(copy, edit, part, due):
    def book() -> dict[str, Cell]:
        project, pins = series.load(copy / "patches"), releases.load(copy / "patches")
        chosen = choose(copy, project, pins.pairs, every_python=True, parts=[list(Part)[part]])
        return {cell.name: cell for cell in chosen}

    before = book()
    edit(copy)
    after = book()
    expected = due if callable(due) else (lambda _: False, with_fab_330, lambda _: True)[due]
    changed = {name for name, cell in after.items() if cell.fingerprint != before[name].fingerprint}
    assert changed == {name for name, cell in after.items() if expected(cell)}


def test_cells_differ_from_each_other(root, project, pins):
    chosen = choose(root, project, pins.pairs, every_python=True, parts=list(Part))
    assert len({cell.fingerprint for cell in chosen}) == len(chosen)


@pytest.mark.parametrize(
    ("edit", "holds"),
    [
        (append("patches/providers-fab/user-cache.patch"), False),
        (append("providers/fab/tests/unit/fab/auth_manager/test_user_cache.py"), False),
        (append("patches/releases.toml", "[broken"), False),
        (append("patches/releases.toml"), True),
        (append(USERS), True),  # it serves another provider
    ],
)
def test_a_cell_holds_until_what_it_depends_on_changes(copy, edit, holds):
    folder = copy / "patches"
    (cell,) = choose(copy, series.load(folder), [releases.load(folder).pair(NEW)], ["3.11"])
    assert still_holds(copy, folder, cell)
    edit(copy)
    assert still_holds(copy, folder, cell) is holds


def test_a_patch_out_of_its_series_is_proven_too(copy):
    (copy / "patches/providers-fab/series").write_text("")
    project, pins = series.load(copy / "patches"), releases.load(copy / "patches")
    (cell,) = choose(copy, project, [pins.pair("3.3.2+3.3.0")])
    assert "users-route" in cell.patches


# What is run, kept and cleared


@pytest.fixture
def few(root, project, pins) -> list[Cell]:
    """Return the cells of three pairs, two parts of each."""
    pairs = [pins.pair(name) for name in (OLD, "3.3.2+3.8.0", NEW)]
    return choose(root, project, pairs, ["3.11"], parts=[Part.PROOFS, Part.GUARDS])


@pytest.fixture
def fill(tmp_path, few):
    """Fill the matrix with a given runner; the checkout and the results are in a folder of the test."""

    def filled(run, chosen: list[Cell] = few, **words) -> list[str]:
        folder = tmp_path / "matrix"
        book = matrix_results.read(folder)
        words = {"machine": HERE, **words}
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
    assert kept()[few[0].name].counts == {"red": 2, "green": 3}
    assert fill(lambda _: GREEN) == []
    assert fill(lambda _: GREEN, again=True) == names(few)


def test_what_changed_is_run_again(fill, kept, few):
    fill(lambda _: GREEN)
    changed = [replace(cell, fingerprint="other") if cell.pair.name == NEW else cell for cell in few]
    state, reason = matrix_results.state_of(changed[-1], kept())
    assert (state, "something that it depends on changed" in reason) == (State.NOT_RUN, True)
    assert fill(lambda _: GREEN, changed) == names(changed[-2:])
    assert matrix_results.state_of(changed[-1], kept()) == (State.PASSED, "")


def test_a_fault_is_kept_and_the_cell_run_again(fill, kept, few):
    bad = few[2].name
    outcome = Outcome(("users-route, stock: test_x must fail by an assertion: passed",), {"red": 1})
    assert fill(lambda cell: outcome if cell.name == bad else GREEN) == names(few)
    assert kept()[bad].state is State.FAILED
    assert kept()[bad].faults == outcome.faults
    assert not matrix_results.holds(few, kept())
    assert fill(lambda _: GREEN) == [bad]
    assert matrix_results.holds(few, kept())


def test_of_a_cell_for_which_something_changed_while_it_ran_nothing_is_kept(fill, kept, few):
    bad = few[2].name
    fill(lambda _: GREEN, still_holds=lambda cell: cell.name != bad)
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
import signal, sys, threading
from pathlib import Path
from airflow_auth_patches import cells, matrix_results, releases, series
from airflow_auth_patches.cli import _stop
from airflow_auth_patches.commands import test_matrix

signal.signal(signal.SIGINT, _stop)
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

test_matrix.fill(folder, folder, chosen, {}, run, machine={"3.11": "3.11.7"}, stopped=stopped)
"""


def test_a_real_ctrl_c_ends_what_is_being_run_and_keeps_what_was(root, tmp_path):
    words = [sys.executable, "-c", SCRIPT, root, tmp_path]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert "Stopped" in said
    (result,) = matrix_results.read(tmp_path).values()
    assert result.state is State.PASSED


PROGRAM = """
import os, signal, sys
from pathlib import Path
from airflow_auth_patches import cells, cli, matrix_results, processes, releases, series
from airflow_auth_patches.commands import prove, test_matrix

processes.GRACE = 1
root, folder, how = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
project = series.load(root / "patches")
chosen = cells.choose(root, project, releases.load(root / "patches").pairs[:3], ["3.11"])

def run(cell):
    stock = prove.folder_of(folder, cell.pair, cell.python, "stock")
    stock.mkdir(parents=True)
    (stock / ".ready").touch()
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    processes.attempt(["sh", "-c", f"exec 3>{folder / 'pipe'}; echo running >&3; tail -f /dev/null"])

def app():
    test_matrix.fill(folder, folder / "matrix", chosen, {}, run, machine={"3.11": "3.11.7"})

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
        "import sys; from pathlib import Path; from airflow_auth_patches import locks\n"
        "with locks.held(Path(sys.argv[1]), 'it'): print('held', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", script, work / test_matrix.LOCK]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(Problem, match=rf"in this checkout already, by process {process.pid}\.") as raised:
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
    test_matrix.fill(tmp_path, folder, few[:1], {}, lambda _: GREEN, machine=HERE)
    assert test_matrix.fill(tmp_path, folder, few[:2], book, lambda _: GREEN, machine=HERE) == few[1:2]
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
    assert fill(lambda _: GREEN, chosen, machine=without) == [chosen[0].name]
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
    assert fill(lambda _: GREEN, machine={"3.11": None}) == []
    assert kept()[bad.name].state is State.FAILED
    assert kept()[broken.name].state is State.ERROR
    assert not matrix_results.holds(few, kept())
    changed = [replace(cell, fingerprint="other") for cell in few]
    fill(lambda _: GREEN, changed, machine={"3.11": None})
    assert {result.state for result in kept().values()} == {State.SKIPPED}


def test_pythons_are_looked_for():
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = test_matrix.interpreters([here, "3.99"])
    assert re.fullmatch(rf"{re.escape(here)}\.\d+\S*", found[here] or "")
    assert found["3.99"] is None


def make_environments(root: Path, cell: Cell, *kinds: str) -> None:
    for kind in kinds or ("stock", "patched"):
        folder = prove.folder_of(root, cell.pair, cell.python, kind)
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
    (prove.folder_of(root, few[0].pair, "3.11", "patched") / "lib").mkdir(parents=True)  # a rest, not ready

    def run(cell: Cell) -> Outcome:
        make_environments(root, cell)
        return GREEN

    fill(run)
    assert left(root) == [f"{OLD}-py3.11-stock"]
    fill(run, again=True, keep=True)
    assert len(left(root)) == 6


def test_an_environment_that_is_not_changed_to_the_end_is_none(tmp_path, monkeypatch, project, pins, few):
    """It is made anew then."""
    folder = prove.folder_of(tmp_path, few[0].pair, "3.11", "patched")
    make_environments(tmp_path, few[0], "patched")
    seen: list[bool] = []

    def apply(*_, put_back: bool) -> None:
        assert not put_back
        seen.append((folder / ".ready").exists())
        if len(seen) == 2:
            raise Problem("no")

    monkeypatch.setattr(environments, "make", lambda *_: Environment(folder / "bin/python"))
    monkeypatch.setattr(prove.patching, "plan", lambda *_, **__: SimpleNamespace(pending=(1,)))
    monkeypatch.setattr(prove.patching, "apply", apply)
    prove.patched_environment(tmp_path, project, pins, few[0].pair, "3.11")
    assert (folder / ".ready").exists()
    with pytest.raises(Problem):
        prove.patched_environment(tmp_path, project, pins, few[0].pair, "3.11")
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
    result = Result(State.FAILED, "0" * 64, "2026-11-21T15:30:00Z", 1.5, {"red": 1}, ("a", "b"), "", 1, 2, 3)
    matrix_results.write(tmp_path / "new", {"x": result})
    assert matrix_results.read(tmp_path / "new") == {"x": result}
    for broken in ('{"x": 3}', '{"x": {"state": "odd"}}', "[", "[1]"):
        (tmp_path / matrix_results.FILE).write_text(broken)
        with pytest.raises(Problem, match=r"results\.json cannot be read"):
            matrix_results.read(tmp_path)


def test_results_that_cannot_be_written_end_the_run(tmp_path, few):
    (tmp_path / "file").write_text("")
    with pytest.raises(Problem, match="cannot be written"):
        test_matrix.fill(tmp_path, tmp_path / "file", few, {}, lambda _: GREEN, machine=HERE)


# What a run of a cell gives


def test_proofs_are_summed_up(project):
    proof = proofs.load(project.folder, "users-route")
    rows = [
        proofs.Verdict("users-route", "stock", (), {"failed": 4, "passed": 2}),
        proofs.Verdict("users-route", "patched", (), {"passed": 6}),
        proofs.Verdict("users-route", "machine", (), {"passed": 1}),
        proofs.Verdict("users-route", "alone", (), {"passed": 6}),
        proofs.Verdict("users-route", "a date with a time zone", (), {"failed": 1}),
    ]
    outcome = run_cell.outcome_of(project.folder, rows)
    assert outcome.faults == ()
    assert outcome.counts == {
        "red": len(proof.red), "kept": len(proof.kept), "green": 6, "machines": 1, "alone": 1, "guards": 1
    }  # fmt: skip
    wrong = (
        f"{proof.red[0]} must fail by an assertion: passed",
        f"{proof.kept[0]} must pass: failed: assert 0",
    )
    outcome = run_cell.outcome_of(
        project.folder, [replace(rows[0], wrong=wrong), replace(rows[4], wrong=("x",))]
    )
    assert outcome.counts == {"red": len(proof.red) - 1, "kept": len(proof.kept) - 1, "guards": 0}
    assert outcome.faults[0] == f"users-route, stock: {wrong[0]}"
    assert len(outcome.faults) == 3


def test_a_cell_without_a_proof_has_not_passed(project):
    assert run_cell.outcome_of(project.folder, []).faults == ("No proof was run.",)


def test_an_environment_that_cannot_be_made_is_told(tmp_path, copy, monkeypatch, python):
    """With an index that does not answer uv fails, and nothing is left."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/simple/")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    project, pins = series.load(copy / "patches"), releases.load(copy / "patches")
    chosen = choose(copy, project, [pins.pair(NEW)], [python])
    book: matrix_results.Book = {}
    run = Runner(copy, project, pins, threading.Event())
    test_matrix.fill(copy, tmp_path / "matrix", chosen, book, run, machine={python: f"{python}.0"})
    (result,) = book.values()
    assert result.state is State.ERROR
    assert "uv pip install" in result.reason
    assert "\n" not in result.reason
    assert left(copy) == []


def test_guards_are_taken_out_without_the_proofs_again(monkeypatch, project, pins, root):
    """Each part of a cell is run once where both are asked for."""
    place = Environment(Path("x"))
    monkeypatch.setattr(environments, "make", lambda *_: place)
    monkeypatch.setattr(prove, "patched_environment", lambda *_: place)
    monkeypatch.setattr(installed, "look", lambda *_: SimpleNamespace(found=[SimpleNamespace(site=Path())]))
    monkeypatch.setattr(reproduce, "run_files", lambda _, __, files: {file: {} for file in files})
    monkeypatch.setattr(proofs, "stock_verdict", lambda _, slug, __: proofs.Verdict(slug, "stock", ()))
    monkeypatch.setattr(proofs, "patched_verdict", lambda _, slug, __: proofs.Verdict(slug, "patched", ()))
    monkeypatch.setattr(proofs, "prove_machine", lambda _, __, slug, ___: proofs.Verdict(slug, "machine", ()))
    monkeypatch.setattr(proofs, "prove_guard", lambda _, __, slug, *___: proofs.Verdict(slug, "lock", ()))
    run = Runner(root, project, pins, threading.Event())
    plain, guards = choose(
        root, project, [pins.pair("3.3.2+3.8.0")], ["3.11"], parts=[Part.PROOFS, Part.GUARDS]
    )
    assert set(run(plain).counts) == {"red", "kept", "green", "machines"}
    assert set(run(guards).counts) == {"guards"}
    assert run(guards).counts["guards"] > len(guards.patches)


def test_a_stopped_run_ends_at_its_next_proof(monkeypatch, project, pins, root):
    closed: list[bool] = []

    def proving(*_, **__):
        try:
            for slug in ("a", "b"):
                yield prove.Row(pins.pair(NEW), "3.11", proofs.Verdict(slug, "patched", (), {"passed": 1}))
        finally:
            closed.append(True)

    monkeypatch.setattr(prove, "prove", proving)
    stopped = threading.Event()
    run = Runner(root, project, pins, stopped)
    (cell,) = choose(root, project, [pins.pair(NEW)], ["3.11"])
    assert run(cell).counts == {"green": 2}
    stopped.set()
    with pytest.raises(KeyboardInterrupt) as raised:
        run(cell)
    assert closed == [True, True]  # while somebody still holds the exception
    assert raised.tb


# The command


def tool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TOOL, "test-matrix", *arguments], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def told(root, project, pins, tmp_path):
    """Write results of a pair on 3.11 and 3.13; return the arguments that report them."""

    def write(*states: State) -> list[str | Path]:
        chosen = choose(root, project, [pins.pair("3.3.2+3.8.0")], ["3.11", "3.13"])
        entry = Result(State.PASSED, "", "2026-11-21T15:30:00Z", 61, {"red": 7}, reason="why [x]")
        book = {
            cell.name: replace(entry, state=state, fingerprint=cell.fingerprint)
            for cell, state in zip(chosen, states, strict=False)
        }
        matrix_results.write(tmp_path, book)
        return ["--pair", "3.3.2+3.8.0", "--python", "3.11", "--python", "3.13", "--output", tmp_path]

    return write


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ((State.PASSED, State.PASSED), Exit.OK),
        ((State.PASSED, State.SKIPPED), Exit.OK),
        ((State.PASSED, State.FAILED), Exit.FAULT),
        ((State.ERROR, State.PASSED), Exit.FAULT),
        ((State.SKIPPED, State.SKIPPED), Exit.FAULT),
        ((State.PASSED,), Exit.FAULT),
    ],
)
def test_how_the_command_ends(told, states, code, tmp_path):
    done = tool(*told(*states), "--report-only")
    assert done.returncode == code, done.stderr
    for state in states:
        assert state.value in done.stdout
    assert f"2 cells: {states.count(State.PASSED)} passed" in done.stdout or State.PASSED not in states
    if State.SKIPPED in states:
        assert "since Python 3.13 is not on this machine" in done.stdout
    if State.FAILED in states or State.ERROR in states:
        assert "proofs: why [x]" in done.stdout
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "report.json").is_file()


def test_what_passed_needs_no_run_and_json_is_the_report(told, tmp_path):
    done = tool(*told(State.PASSED, State.PASSED), "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert [(cell["python"], cell["state"]) for cell in data["cells"]] == [
        ("3.11", "passed"),
        ("3.13", "passed"),
    ]
    assert data["cells"] == json.loads((tmp_path / "report.json").read_text())["cells"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--pair", "1+1"), Exit.USAGE, "no tested pair"),
        (("--python", "3.9"), Exit.USAGE, "No pair that was chosen supports Python 3.9."),
        (("--python", "x"), Exit.USAGE, "No pair that was chosen supports Python x."),
        (("--pair", OLD, "--python", "3.13"), Exit.USAGE, "They support 3.10, 3.11, 3.12."),
        (("--python", "3.11", "--every-python"), Exit.USAGE, "exclude each other"),
        (("--jobs", "0"), Exit.USAGE, "--jobs"),
        (("--again", "--report-only"), Exit.USAGE, "exclude each other"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(arguments, code, said, tmp_path):
    done = tool(*arguments, "--output", tmp_path / "matrix")
    assert done.returncode == code
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_pair_that_does_not_support_a_named_python_is_told(tmp_path):
    words = ("--pair", OLD, "--pair", NEW, "--python", "3.13", "--output", tmp_path, "--report-only")
    done = tool(*words)
    assert f"Not supported on Python 3.13: {OLD}." in done.stdout
    assert "1 cell:" in done.stdout
    assert json.loads((tmp_path / "report.json").read_text())["unsupported"] == {"3.13": [OLD]}
    assert re.search(r"stays: .+ in build/databases and build/upstream\.", " ".join(done.stdout.split()))


def test_broken_results_are_told_of(tmp_path):
    (tmp_path / "results.json").write_text("[")
    done = tool("--output", tmp_path, "--report-only")
    assert done.returncode == Exit.REFUSED
    assert "results.json cannot be read" in done.stderr


# The real thing


@pytest.mark.proof
def test_a_guard_taken_out_of_a_patch_by_hand_turns_its_cell_red(copy, tmp_path):
    def run(slug: str = "users-route") -> Result:
        project, pins = series.load(copy / "patches"), releases.load(copy / "patches")
        (cell,) = choose(copy, project, [pins.pair(OLD)], ["3.11"])
        cell = replace(cell, patches=(slug,))
        book = matrix_results.read(tmp_path / "matrix")
        runner = Runner(copy, project, pins, threading.Event())
        machine = test_matrix.interpreters(["3.11"])
        ran = test_matrix.fill(copy, tmp_path / "matrix", [cell], book, runner, machine=machine, keep=True)
        assert len(ran) == 1, "it was due"
        return book[cell.name]

    result = run()
    assert (result.state, result.faults, result.reason) == (State.PASSED, (), "")
    assert result.counts == {"red": 4, "kept": 2, "green": 6}
    assert result.own > 0
    patch = copy / "patches/providers-fab/users-route.patch"
    text = patch.read_text()
    patch.write_text(text.replace("last_login: UtcDateTime | datetime", "last_login: datetime"))
    assert patch.read_text() != text
    result = run()
    assert result.state is State.FAILED
    assert [fault.partition(": ")[0] for fault in result.faults] == ["users-route, patched"]
    assert "test_date_with_a_time_zone_is_sent_in_utc must pass: failed: " in result.faults[0]
