"""What all patches reach beside the minimal patches, as far as no server is needed."""

from __future__ import annotations

import pytest

from airflow_auth_patches.demo.outcomes import Observation
from airflow_auth_patches.demo.scenarios.token_throughput import beside


def reached(tokens_per_second: float, *, failed: bool = False) -> Observation:
    return Observation("seen", failed, details={"tokens_per_second": tokens_per_second})


@pytest.mark.parametrize(("tokens_per_second", "failed"), [(2.49, True), (2.5, False), (7.5, False)])
def test_must_be_so_many_times_as_many(tokens_per_second: float, failed: bool) -> None:
    seen = beside(reached(1), reached(tokens_per_second))
    assert seen.failed is failed
    assert seen.details["times_minimal"] == tokens_per_second
    assert seen.sees.startswith("seen; ")


def test_what_failed_stays_so() -> None:
    failing = reached(7.5, failed=True)
    assert beside(reached(1), failing) is failing
    not_measured = Observation("not measured: no server", failed=True)
    assert beside(reached(1), not_measured) is not_measured


def test_there_is_nothing_to_compare_with_what_fails() -> None:
    seen = beside(Observation("not measured: no server", failed=True), reached(7.5))
    assert seen.failed
    assert "nothing to compare with" in seen.sees
