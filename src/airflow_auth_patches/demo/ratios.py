"""Compare repeated ratios of two servers with a limit, and detect measurements that are too noisy."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

#: Number of bootstrap resamples, and the fixed seed: the same ratios always give the same interval.
RESAMPLES, SEED = 2000, 66493
#: The part of the resampled medians that is inside the interval.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Ratios:
    """
    The ratios of all rounds.

    :param values: one ratio per round, at least one.
    """

    values: Sequence[float]

    @property
    def median(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.values)

    @property
    def interval(self) -> tuple[float, float]:
        """The bootstrap interval of the median, with a confidence of 95 %."""
        source = random.Random(SEED)
        medians = sorted(
            statistics.median(source.choices(self.values, k=len(self.values))) for _ in range(RESAMPLES)
        )
        cut = round(RESAMPLES * (1 - CONFIDENCE) / 2)
        return medians[cut], medians[-cut - 1]

    @property
    def differ(self) -> bool:
        """Whether the interval excludes 1: the two servers differ by more than the noise."""
        low, high = self.interval
        return low > 1 or high < 1

    def exceed(self, limit: float) -> bool | None:
        """
        Check whether the median is above a limit.

        :return: ``None`` if it is above but the limit is inside the interval: the noise exceeds the effect.
        """
        if self.median <= limit:
            return False
        return True if self.interval[0] > limit else None

    def fall_below(self, limit: float) -> bool | None:
        """
        Check whether the median is below a limit.

        :return: ``None`` if it is below but the limit is inside the interval: the noise exceeds the effect.
        """
        if self.median >= limit:
            return False
        return True if self.interval[1] < limit else None

    def text(self, of: str) -> str:
        """Return the median with its interval, as a multiple of something: ``the wall time of no check``."""
        low, high = self.interval
        spread = f"median of {len(self.values)} rounds, 95 % interval {low:.2f} to {high:.2f}"
        return f"{self.median:.2f} times {of} ({spread})"
