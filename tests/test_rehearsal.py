"""Send the first batch of pull requests to a repository laid out as upstream's, without Docker."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from airflow_auth_patches.contribute import upstream
from airflow_auth_patches.contribute.send import Target, export
from airflow_auth_patches.contribute.send_backports import backport
from airflow_auth_patches.installation import environments
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.installation.pair_environments import folder_of
from airflow_auth_patches.releases import fetching
from airflow_auth_patches.releases.releases import CORE, Pins
from airflow_auth_patches.series import tree
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.verification import run_pytest

pytestmark = pytest.mark.airflow
AUTHOR = "Zoë Łukasz, of the Tests <zoe@example.org>"


def first_batch(project: Project) -> list[str]:
    return [each.patch.slug for each in upstream.order(project) if each.batch == 1]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, pins: Pins) -> tree.Tree:
    """Return a repository with the sources of the release nearest to main, at upstream's paths."""
    made = tree.Tree(tmp_path_factory.mktemp("airflow"), upstream.newest(pins, CORE))
    tree.write_files(made.folder, fetching.sources(made.release))
    package = made.folder / CORE.root / "src/airflow"
    for shared in (made.folder / "shared").glob("*/src/airflow_shared/*/"):
        (package / "_shared" / shared.name).symlink_to(shared)
    made.git("init", "--quiet", "--initial-branch=main")
    made.commit(f"{made.release} as released\n")
    return made


@pytest.fixture(scope="module")
def environment(checkout: tree.Tree, this_project: Project) -> Environment:
    pair = next(pair for pair in this_project.releases.pairs if pair.core == checkout.release)
    return environments.make(pair, "3.11", folder_of(this_project.root, pair, "3.11", "stock"))


def test_first_batch_has_five_pull_requests(this_project: Project) -> None:
    assert len(first_batch(this_project)) == 5


@pytest.mark.parametrize("number", range(5))
def test_tests_of_each_pull_request_pass_on_its_branch_alone(
    number: int, checkout: tree.Tree, environment: Environment, this_project: Project, tmp_path: Path
) -> None:
    slug = first_batch(this_project)[number]
    target = Target(checkout.folder, branch=slug, at="main")
    sent = export(
        this_project, checkout.release, tmp_path / "out", [slug], author=AUTHOR, bodies=True, target=target
    )
    assert [re.sub(r"^\d+-", "", file.name.partition(".")[0]) for file in sent.files] == [slug] * len(
        sent.files
    )
    assert (sent.branch, sent.missing) == (slug, {})
    checkout.git("switch", "--quiet", slug)
    (patch,) = this_project.series.select(checkout.release, [slug])
    outcomes = run(checkout, environment, this_project, patch.tests, checkout.folder / CORE.root / "src")
    assert {name.partition("::")[0] for name in outcomes} == set(patch.tests)
    assert set(outcomes.values()) == {"passed"}
    if number == 0:  # without the sources of the branch, they test the installed release
        released = run(checkout, environment, this_project, patch.tests)
        assert {outcome.partition(":")[0] for outcome in released.values()} > {"passed"}


def test_range_diff_shows_the_form_of_each_pull_request_for_the_stable_branch(this_project: Project) -> None:
    for slug in first_batch(this_project):
        differences = backport(this_project, None, [slug], author=AUTHOR).differences
        assert re.match(r"1:  \w+ [=!] 1:  \w+", differences["main..v3-3-test"]), slug


def run(
    checkout: tree.Tree, environment: Environment, project: Project, tests: Sequence[str], *sources: Path
) -> dict[str, str]:
    """Run tests of the checkout, with its own sources before the installed ones."""
    words, variables = run_pytest.with_plugin_stub(project.root)
    places = os.pathsep.join(map(str, (*sources, variables["PYTHONPATH"])))
    variables = {**variables, "PYTHONPATH": places}
    return run_pytest.run(checkout.folder, environment, [*words, *tests], variables=variables)
