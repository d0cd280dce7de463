"""Means over patients with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mrisr.core.statistics import mean_interval


@dataclass(frozen=True)
class Mean:
    """Mean over ``n`` patients; ``half`` is half the width of its 95% interval, None for one patient."""

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
    found = mean_interval(values)
    return Mean(float(found.mean), float(found.half) if found.n > 1 else None, found.n)
