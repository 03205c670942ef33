"""
The cells of the test matrix: `make test-matrix`.

pytest collects this file only when it is named, because its name does not begin with `test_`.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest

from airflow_auth_patches.series.project import load_project
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.verification import matrix
from airflow_auth_patches.verification.matrix import Part


@pytest.mark.timeout(0)  # each program that a cell runs has its own time-out
def test_cell(
    place: tuple[str, str],
    part: Part,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    config, (name, python) = request.config, place
    root, key = config.rootpath, f"matrix/{name}-py{python}-{part.value}"
    before = matrix.fingerprint(root, name, python, part)
    passed = config.cache.get(key, {})
    if passed.get("inputs") == before and not config.getoption("--again"):
        pytest.skip(f"passed on {passed['date']} with the same inputs")
    project = load_project(root)
    try:
        faults, counts = matrix.run(project, project.releases.pair(name), python, part)
    except Problem as problem:
        faults, counts = [str(problem)], {}
    for count in counts.items():
        record_property(*count)
    try:
        after = matrix.fingerprint(root, name, python, part)
    except (Problem, OSError, ValueError):  # a file is invalid now
        after = None
    if after != before:
        pytest.fail("The inputs changed during the run, so its result is discarded. Run it again.", False)
    today = datetime.date.today().isoformat()
    config.cache.set(key, {} if faults else {"inputs": before, "date": today})
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)
