"""Means with their confidence intervals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Interval(NamedTuple):
    """Mean over ``n`` values with half the width of its 95% interval, NaN for a single value; arrays of the
    shape of one value."""

    mean: NDArray[np.float64]
    half: NDArray[np.float64]
    n: int

    @property
    def low(self) -> NDArray[np.float64]:
        """Lower end of the interval."""
        return self.mean - self.half

    @property
    def high(self) -> NDArray[np.float64]:
        """Upper end of the interval."""
        return self.mean + self.half


def mean_interval(values: ArrayLike) -> Interval:
    """Mean over the first axis of ``values`` ``(n, ...)`` with the 95% interval of Student's t.

    >>> found = mean_interval([3.0, 5.0, 7.0])
    >>> float(found.mean), round(float(found.half), 3), found.n
    (5.0, 4.968, 3)
    """
    from scipy.special import stdtrit

    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    mean = np.asarray(array.mean(axis=0))
    if n < 2:
        return Interval(mean, np.full_like(mean, np.nan), n)
    half = stdtrit(n - 1, 0.975) * array.std(axis=0, ddof=1) / np.sqrt(n)
    return Interval(mean, np.asarray(half), n)
