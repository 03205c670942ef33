"""The cost of the revocation check, as far as no server is needed."""

from __future__ import annotations

import pytest

from airflow_auth_patches.demo.load import NO_ANSWER, Answer, Request, Result
from airflow_auth_patches.demo.scenarios import check_cost


@pytest.mark.parametrize(
    ("ratios", "outcome", "failed", "inconclusive"),
    [
        ([1.02] * 9, "200", False, False),
        ([1.30] * 9, "200", True, False),
        ([0.9, 1.5, 1.0, 1.4, 1.2, 0.9, 1.4, 1.3, 1.0], "200", True, True),
        ([1.30] * 9, NO_ANSWER, True, False),
        ([1.02] * 9, "500", True, False),
        ([1.02] * 8, "200", True, False),
    ],
)
def test_ratio_is_judged_by_its_interval(
    ratios: list[float], outcome: str, failed: bool, inconclusive: bool
) -> None:
    """A lost request, and a round that did not finish, are failures whatever the ratio is."""
    total = {name: Result([Answer(Request("GET", "/"), outcome, 0.1)], 9.0) for name in ("check", "no check")}
    seen = check_cost.compare(total, ratios, len(ratios))
    assert (seen.failed, seen.inconclusive) == (failed, inconclusive)
