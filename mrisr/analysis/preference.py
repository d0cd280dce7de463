"""An automated reader: which of several restorations is nearest to the reference.

On each slice a restoration is a point in a plane: ``1 - SSIM`` (are structures in their places) against the
spectrum error in dB (is there as much detail of each fineness), both divided by those of interpolation on
the same slice. The reference lies at the origin, interpolation at (1, 1), and of two restorations the one
nearer to the origin is preferred; equal ones share the point. A restoration that is nearer by both measures
is then always preferred. Where the two disagree, as they do between few steps and many, the scale decides:
what interpolation lacks by either measure counts the same. That is a convention, not a finding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Below this a distance of interpolation counts as this: SSIM and spectra have single precision.
_LEAST = 1e-6


def distance(ssim: Array, spectrum: Array) -> Array:
    """Distance from the reference of figures ``(settings, slices)``, whose first row is interpolation's.

    >>> distance(np.array([[0.5], [0.7]]), np.array([[20.0], [16.0]])).round(6).tolist()
    [[1.414214], [1.0]]
    """
    parts = [d / np.maximum(d[:1], _LEAST) for d in (1 - ssim, spectrum)]
    return np.hypot(parts[0], parts[1])


def preferred(distances: Array) -> Array:
    """``(settings, slices)`` of distances to ``(settings, settings)``: the share of slices on which the
    row's setting is preferred to the column's; one half on the diagonal.

    >>> preferred(np.array([[1.0, 1.0], [2.0, 0.5]])).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    nearer = distances[:, None] < distances[None]
    equal = distances[:, None] == distances[None]
    return (nearer + 0.5 * equal).mean(axis=-1)


def win_rates(shares: Array) -> Array:
    """Mean of each row of :func:`preferred` over the other settings ``(settings,)``: how often a setting is
    preferred to another one drawn at random."""
    n = len(shares)
    return (shares.sum(axis=1) - 0.5) / (n - 1)
