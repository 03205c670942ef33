"""Patches that do not apply to a checkout: one error for all, or a branch without them."""

from __future__ import annotations

import dataclasses

import pytest

from airflow_auth_patches.contribute import branch
from airflow_auth_patches.installation.listening import blob
from airflow_auth_patches.releases.fetching import sources
from airflow_auth_patches.series import series
from airflow_auth_patches.util.errors import Problem

CORE = "apache-airflow-core==3.3.2"
TEST = "airflow-core/tests/unit/api_fastapi/core_api/test_pool_slots_session.py"
ADDED, SETTINGS = "airflow-core/src/airflow/added_module.py", "airflow-core/src/airflow/settings.py"
OTHER = "airflow-core/src/airflow/other_module.py"


@pytest.fixture
def three(upstream, project, pins, adding) -> series.Series:
    """Return a series: a patch that adds a file, one that requires it, and an independent one."""
    stock = sources(pins.release(CORE))[SETTINGS]
    upstream.commit({SETTINGS: stock})
    files = {ADDED: "LIMIT = 1\n", SETTINGS: f"{stock.decode()}# edited\n"}
    first = adding(CORE, files, trailers=f"Tests: {TEST}\n")
    more = {ADDED: "LIMIT = 1\nMORE = 2\n"}
    second = adding(CORE, more, "more-limits", after=[first], trailers="Depends: added-module\n")
    third = adding(CORE, {OTHER: "X = 1\n"}, "other-module")
    return dataclasses.replace(project, patches=(first, second, third))


def test_a_source_file_that_a_patch_adds_is_on_the_branch(upstream, three, send):
    slugs = ("added-module", "more-limits")
    done = send(*slugs, loaded=three, branch="mine")
    assert (done.told, done.missing) == ((), {})
    changed = upstream.git("diff", "--name-status", "main", "mine").splitlines()
    assert {f"A\t{ADDED}", f"M\t{SETTINGS}"} <= set(changed)
    (upstream.folder / "providers/fab").mkdir(parents=True)
    found = branch.look(upstream.folder, "mine", "main")
    assert branch.blobs(found)["airflow/added_module.py"] == blob(b"LIMIT = 1\nMORE = 2\n")
    upstream.commit({ADDED: b"LIMIT = 1\n"})  # the same file: the patch has only its other edit
    send(*slugs, loaded=three, branch="again")
    assert ADDED not in upstream.git("diff", "--name-only", "main", "again~1")


def test_reports_all_conflicts_and_on_request_leaves_these_patches_out(upstream, three, send):
    upstream.commit({ADDED: b"LIMIT = 3\n", SETTINGS: b"# nothing\n"})
    slugs = ("added-module", "more-limits", "other-module")
    said = [
        "2 of 3 patches cannot be applied",
        f"added-module: CONFLICT (add/add): Merge conflict in {ADDED}",
        f"added-module: CONFLICT (content): Merge conflict in {SETTINGS}",
        "more-limits: it requires added-module",
        "with --skip-conflicts",
    ]
    with pytest.raises(Problem) as raised:
        send(*slugs, loaded=three)
    assert [text for text in said if text not in str(raised.value)] == []
    done = send(*slugs, loaded=three, branch="mine", skip_conflicts=True)
    assert list(done.missing) == ["added-module", "more-limits"]
    assert upstream.git("diff", "--name-only", "main", "mine").split() == [OTHER]
    with pytest.raises(Problem, match="1 of 1 patches"):
        send("added-module", loaded=three, branch="none", skip_conflicts=True)


def test_a_patch_that_is_there_is_left_out_and_those_that_require_it_apply(upstream, three, send):
    edited = (upstream.folder / SETTINGS).read_bytes() + b"# edited\n"
    upstream.commit({ADDED: b"LIMIT = 1\n", SETTINGS: edited})
    with pytest.raises(Problem, match="added-module: the checkout already has its edits"):
        send("added-module", "more-limits", loaded=three)
    done = send("added-module", "more-limits", loaded=three, branch="mine", skip_conflicts=True)
    assert list(done.missing) == ["added-module"]
    assert upstream.git("diff", "--name-only", "main", "mine").split() == [ADDED]
