"""Means over patients with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mean:
    """Mean over ``n`` patients; ``half`` is half the width of its 95% interval, none for one patient."""

    value: float
    half: float | None
    n: int


def mean_of(values: Sequence[float]) -> Mean:
    """Mean with the 95% interval of Student's t.

    >>> mean_of([1.0, 3.0]).value
    2.0
    >>> mean_of([1.0]).half is None
    True
    """
    from scipy.special import stdtrit

    n = len(values)
    half = None
    if n > 1:
        half = float(stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / math.sqrt(n))
    return Mean(float(np.mean(values)), half, n)
