"""Intensities of a volume scaled to the range that networks work on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def scaling(values: NDArray[np.generic]) -> tuple[float, float]:
    """Offset and scale that bring a volume to its 0..99.5 percentile range: ``(v - offset) / scale``.

    Where hardly anything is bright (the percentile lies below a twentieth of the maximum, as in a
    phantom on an empty background) the maximum takes the percentile's place.
    """
    low, high, top = np.percentile(values.astype(np.float64), [0.0, 99.5, 100.0])
    if high - low < 0.05 * (top - low):
        high = top
    return float(low), float(max(high - low, np.finfo(np.float32).tiny))
