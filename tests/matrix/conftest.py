"""The options and the parameters of the test matrix, and the environments that it creates."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from airflow_auth_patches.installation import environments
from airflow_auth_patches.releases import releases
from airflow_auth_patches.verification import matrix
from airflow_auth_patches.verification.matrix import Part

OPTIONS = {
    "--every-python": "use each Python that both releases of a pair support",
    "--again": "also run cells that passed with the same inputs",
    "--keep-environments": "keep the environments in build/envs",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("test matrix")
    for name, text in OPTIONS.items():
        group.addoption(name, action="store_true", help=text)


def pytest_xdist_auto_num_workers() -> int:
    """Return the number of pairs to run at once: one for every three cores. 0 runs them in this process."""
    pairs = (os.cpu_count() or 1) // 3
    return pairs if pairs > 1 else 0


class ByProvider(LoadScopeScheduling):
    """
    Runs the cells of a provider in sequence: they share environments, or the folder of the provider's tests.

    This is `--dist loadgroup`, which has no effect in xdist 3.8 with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("[")[2].partition("-py")[0].partition("+")[2]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByProvider:
    return ByProvider(config, log)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Select the pairs, Pythons and parts: the usual ones, and others that the expression of `-k` names."""
    config, keywords = metafunc.config, metafunc.config.option.keyword
    if "part" not in metafunc.fixturenames:
        return
    places = []
    for pair in releases.load(config.rootpath / "patches").pairs:
        usual = pair.pythons if config.getoption("--every-python") else matrix.usual_pythons(pair)
        for python in pair.pythons:
            if python in usual or f"py{python}" in keywords:
                places.append(pytest.param((pair.name, python), id=f"{pair.name}-py{python}"))
    parts = [part for part in Part if part is Part.TESTS or part.value in keywords]
    metafunc.parametrize("place", places, indirect=True, scope="session")
    metafunc.parametrize("part", parts, ids=[part.value for part in parts])


@pytest.fixture(scope="session")
def place(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """Give the pair and the Python of a cell, and remove the environments that its cells created."""
    name, python = request.param
    root = request.config.rootpath
    if environments.interpreter(python) is None:
        pytest.skip(f"Python {python} is not installed")
    folders = matrix.folders(root, releases.load(root / "patches").pair(name), python)
    new = [folder for folder in folders if not folder.exists()]
    yield name, python
    if not request.config.getoption("--keep-environments"):
        # In a session of its own: it also ends its work when Ctrl-C or pytest-xdist ends this process.
        subprocess.run(["rm", "-rf", *new], check=True, start_new_session=True)
