"""The cells of the test matrix: which there are, and which are due when something changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_auth_patches.releases import releases
from airflow_auth_patches.series import series
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.verification.cells import (
    PYTHONS,
    Cell,
    Part,
    choose,
    inputs_unchanged,
    supported,
    unsupported,
)


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
    with pytest.raises(Problem, match=r"No chosen pair supports Python 3\.9") as raised:
        choose(root, project, pins.pairs, ["3.9", "3.11"])
    assert raised.value.exit_code == Exit.USAGE
    assert "3.9, 3.10, 3.11" not in raised.value.remedy
    assert "Choose one of 3.10, 3.11, 3.12, 3.13, 3.14." in raised.value.remedy


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
    for entry in (Path(__file__).parents[1] / "patches/releases.toml").read_text().split("[[pair]]")
    if entry.startswith('\ncore = "3.3.2"\nfab = "3.10.2"\n')
)


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
        (append("patches/expectations/users-route.toml"), 0, 1),
        (append("patches/expectations/users-route.toml"), 2, 0),
        (append("patches/expectations/revoked-token-off-loop.toml"), 1, with_look_up),
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
    assert inputs_unchanged(copy, folder, cell)
    edit(copy)
    assert inputs_unchanged(copy, folder, cell) is holds


def test_a_patch_out_of_its_series_is_proven_too(copy):
    (copy / "patches/providers-fab/series").write_text("")
    project, pins = series.load(copy / "patches"), releases.load(copy / "patches")
    (cell,) = choose(copy, project, [pins.pair("3.3.2+3.3.0")])
    assert "users-route" in cell.patches
