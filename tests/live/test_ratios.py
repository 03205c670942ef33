"""Comparing ratios with a limit, and noisy ratios."""

from __future__ import annotations

import pytest

from airflow_auth_patches.demo.ratios import Ratios

STEADY = (1.20, 1.21, 1.19, 1.22, 1.20, 1.18, 1.21, 1.20, 1.19)
NOISY = (0.80, 1.50, 0.90, 1.45, 1.20, 0.85, 1.40, 1.30, 0.95)


@pytest.mark.parametrize(
    ("values", "limit", "exceeds", "falls_below"),
    [
        (STEADY, 1.1, True, False),
        (STEADY, 1.3, False, True),
        (STEADY, 1.2, False, False),
        (NOISY, 1.1, None, False),
        (NOISY, 1.3, False, None),
        ((1.0,), 0.9, True, False),
        ((1.0,), 1.1, False, True),
    ],
)
def test_comparison_is_inconclusive_when_noise_exceeds_the_effect(
    values: tuple[float, ...], limit: float, exceeds: bool | None, falls_below: bool | None
) -> None:
    ratios = Ratios(values)
    assert ratios.exceed(limit) is exceeds
    assert ratios.fall_below(limit) is falls_below


def test_interval_is_reproducible_and_contains_the_median() -> None:
    low, high = Ratios(NOISY).interval
    assert (low, high) == Ratios(NOISY).interval
    assert min(NOISY) <= low <= Ratios(NOISY).median <= high <= max(NOISY)
    text = Ratios(STEADY).text("the time of stock")
    assert text == "1.20 times the time of stock (median of 9 rounds, 95 % interval 1.19 to 1.21)"
