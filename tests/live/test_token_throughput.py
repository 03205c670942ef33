"""The throughput of all patches compared with the minimal patches, without a server."""

from __future__ import annotations

import pytest

from airflow_auth_patches.demo.outcomes import Observation
from airflow_auth_patches.demo.scenarios.token_throughput import compare


def reached(tokens_per_second: float, *, failed: bool = False) -> Observation:
    return Observation("seen", failed, details={"tokens_per_second": tokens_per_second})


@pytest.mark.parametrize(("tokens_per_second", "failed"), [(2.49, True), (2.5, False), (7.5, False)])
def test_fails_below_minimum_ratio(tokens_per_second: float, failed: bool) -> None:
    seen = compare(reached(1), reached(tokens_per_second))
    assert seen.failed is failed
    assert seen.details["times_minimal"] == tokens_per_second
    assert seen.sees.startswith("seen; ")


def test_failed_observation_is_unchanged() -> None:
    failing = reached(7.5, failed=True)
    assert compare(reached(1), failing) is failing
    not_measured = Observation("not measured: no server", failed=True)
    assert compare(reached(1), not_measured) is not_measured


def test_is_inconclusive_if_minimal_patches_fail() -> None:
    seen = compare(Observation("not measured: no server", failed=True), reached(7.5))
    assert seen.failed
    assert seen.inconclusive
    assert "nothing to compare with" in seen.sees
