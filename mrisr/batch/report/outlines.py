"""Zones as lines that a page draws over its pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrisr.zones.labels import ZONES

#: As the DICOM segmentations recommend for display; told apart with any kind of colour vision.
COLOURS = {"PZ": (230, 159, 0), "TZ": (86, 180, 233)}
#: Units of the paths in a pixel, so that they are written in whole numbers.
UNITS = 10
#: Standard deviation in pixels of the smoothing that takes the stairs off, and vertices to a step.
_SMOOTHING, _STRIDE = 1.0, 3


def zone_paths(labels: NDArray[np.float32]) -> dict[str, str]:
    """SVG paths around the zones of a cut, by the zones' short names; those that occur.

    Args:
        labels: ``(h, w)``, NaN outside the volume.
    """
    paths = {zone: outline(labels == label) for zone, label in ZONES.items()}
    return {zone: path for zone, path in paths.items() if path}


def outline(mask: NDArray[np.bool_]) -> str:
    """The borders of a mask ``(h, w)`` as an SVG path, closed, holes included; ``""`` without any.

    A pixel is ``UNITS`` wide, and the upper left corner of the first one is the origin.

    >>> outline(np.zeros((4, 4), dtype=bool))
    ''
    """
    if not mask.any():
        return ""
    from contourpy import contour_generator
    from scipy.ndimage import gaussian_filter

    rows, columns = (np.flatnonzero(mask.any(axis=a)) for a in (1, 0))
    margin = 4
    top, left = rows[0] - margin, columns[0] - margin
    box = np.zeros((rows[-1] - top + 1 + margin, columns[-1] - left + 1 + margin), np.float32)
    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    box[margin:-margin, margin:-margin] = part
    lines = contour_generator(z=gaussian_filter(box, _SMOOTHING)).lines(0.5)
    corner = np.array([left + 0.5, top + 0.5])
    return "".join(_path(np.asarray(line) + corner) for line in lines if len(line) > 2 * _STRIDE)


def _path(points: NDArray[np.float64]) -> str:
    """A closed line ``(n, 2)`` of x and y in pixels, each vertex told by the step to it."""
    at = np.rint(points[:-1:_STRIDE] * UNITS).astype(int)
    steps = np.diff(at, axis=0)
    told = " ".join(f"{x} {y}" for x, y in steps[np.any(steps != 0, axis=1)])
    return f"M{at[0, 0]} {at[0, 1]}l{told}z"
