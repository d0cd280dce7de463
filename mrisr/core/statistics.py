"""Scaling of intensities, means with their confidence intervals, and seeded random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch


class Interval(NamedTuple):
    """Mean over ``n`` values with its 95% interval; arrays of the shape of one value."""

    mean: NDArray[np.float64]
    half: NDArray[np.float64]  #: half the width of the interval, NaN for a single value
    n: int

    @property
    def low(self) -> NDArray[np.float64]:
        return self.mean - self.half

    @property
    def high(self) -> NDArray[np.float64]:
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


#: Share of the range below which a voxel is dark, and least share of the voxels that make an object.
DARK, OBJECT = 0.05, 1e-4
#: Share of the range by which a few voxels lie below all others before they are cold.
COLD = 0.2


def scaling(values: NDArray[np.generic]) -> tuple[float, float]:
    """Offset and scale that bring a volume to its 0..99.5 percentile range: ``(v - offset) / scale``.

    Where the percentile lies below a twentieth of the maximum, and at least one voxel in 10,000 above that,
    the image is a small object on an empty background: the percentile is then that of the object. Fewer are
    hot voxels, which scale nothing; nor do as few that lie far below all others.
    """
    few = max(OBJECT * values.size, 8)
    ranks = [0.0, min(100 * few / values.size, 0.5), 99.5, 100.0]
    low, least, high, top = np.percentile(values.astype(np.float64), ranks)
    if least - low > COLD * (high - least):
        low = least
    if high - low < DARK * (top - low):
        bright = values[values.astype(np.float64) > low + DARK * (top - low)]
        if bright.size >= few:
            high = np.percentile(bright.astype(np.float64), 99.5)
    return float(low), float(np.maximum(high - low, np.finfo(np.float32).tiny))


def seeded(device: torch.device | str, *numbers: int) -> torch.Generator:
    """A generator that depends on all ``numbers`` (seed, step, rank, purpose)."""
    import torch

    state = np.random.SeedSequence([n % 2**32 for n in numbers]).generate_state(2, np.uint32)
    return torch.Generator(device).manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)
