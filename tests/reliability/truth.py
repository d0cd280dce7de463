"""The one volume that every clean file of every format holds."""

from __future__ import annotations

import numpy as np

COLUMNS, ROWS, SLICES = 16, 12, 5
#: mm between columns, between rows, between slices.
SPACING = (0.7, 0.5, 3.0)

#: Stored numbers ``(columns, rows, slices)``: 12 bits in 16, noise on a ramp.
VOXELS = (
    np.random.default_rng(5).integers(0, 2000, (COLUMNS, ROWS, SLICES))
    + 100 * np.arange(COLUMNS)[:, None, None]
).astype(np.uint16)

#: Voxel indices to mm, RAS: an axial stack, read from left to right and from front to back.
AFFINE = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
AFFINE[:3, 3] = [10.5, 20.25, -6.0]
