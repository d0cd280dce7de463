"""Slice thickness from the voxels alone: how far neighbouring slices resemble each other.

Within its slices a scan shows what the same tissue looks like when it is sharp. Blurred there by profiles
of several widths and sampled at the distance of the slices, lines of pixels come to vary as much from one
sample to the next as neighbouring slices do; the width at which they do is the thickness. It holds as far as
the anatomy is as fine along the slices' normal as within them, and that is what makes it unsure.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mrisr.physics.rows import degradation_matrix

#: Widths that are tried, over the distance of the slices.
WIDTHS = np.geomspace(0.25, 3.0, 26)
#: Fewest slices, least distance of them in pixels, and fewest widths found that anything can be told from.
FEWEST, LEAST, WANTED = 6, 2.0, 2


class Thickness(NamedTuple):
    """Slice thickness (full width at half maximum) over the distance of the slices, and its standard
    deviation."""

    ratio: float
    sd: float


def estimated_thickness(
    y: Tensor, spacing: Sequence[float], noise: float = 0.0
) -> Thickness | None:
    """Estimate a stack's slice thickness from itself.

    Args:
        y: stack ``(slices, rows, columns)`` in -1..1.
        spacing: mm along the three.
        noise: level of its noise, a share of the intensity range.

    Returns:
        The mean over both axes of the slices and four quarters of them, with their standard deviation; None
        for too few slices, or slices no further apart than two pixels.
    """
    if len(y) < FEWEST:
        return None
    found = []
    for dim in (1, 2):
        factor = spacing[0] / spacing[dim]
        if factor < LEAST or y.shape[dim] < 2 * FEWEST * factor:
            continue
        for part in _quarters(y):
            width = _width(part, dim, factor, 2 * noise)
            if width is not None:
                found.append(width)
    if len(found) < WANTED:
        return None
    return Thickness(float(np.mean(found)), float(np.std(found, ddof=1)))


def _quarters(y: Tensor) -> list[Tensor]:
    return [part for half in y.chunk(2, 1) for part in half.chunk(2, 2)]


def _width(y: Tensor, dim: int, factor: float, sd: float) -> float | None:
    """The width at which lines along ``dim``, blurred and sampled, vary as the slices of the result do; None
    where that is none of those tried. Either direction has then lost the same by the other's blur."""
    lines = y.movedim(dim, -1).double()
    excess = []
    for width in WIDTHS:
        # a pixel is itself about one pixel wide
        own = max(float(width**2 - factor**-2), 1e-4) ** 0.5
        rows = torch.tensor(degradation_matrix("gaussian", lines.shape[-1], factor, own))
        coarse, left = lines @ rows.T, sd * float(rows.square().sum(1).mean().sqrt())
        excess.append(_roughness(coarse, -1, left) - _roughness(coarse, 0, left))
    falling = np.minimum.accumulate(excess)
    if not np.isfinite(falling).all() or not falling[-1] < 0 < falling[0]:
        return None
    return float(np.interp(0.0, -falling, WIDTHS))


def _roughness(x: Tensor, dim: int, sd: float) -> float:
    """Power of differences to the next sample over that to the next but one, less that of the noise: 1/4 of
    what is smooth, 1 of what is not."""
    x = x.movedim(dim, 0).double()
    one, two = (
        float((x[k:] - x[:-k]).square().mean()) - 2 * sd**2  # the noise of two samples
        for k in (1, 2)
    )
    return one / two if two > 0 and one > 0 else float("nan")
