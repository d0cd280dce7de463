"""Parts of volumes, in their places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mrisr.core.volume import Volume


def cut(volume: Volume, axis: int, first: int, last: int) -> Volume:
    """Voxels ``first`` to before ``last`` along one array axis; the slice axis stays what it is."""
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, axis] * first
    array = np.take(volume.array, np.arange(first, last), axis=axis)
    return replace(volume, array=array, affine=affine, stacked_along=volume.slice_axis)


def middle(volume: Volume, shape: Sequence[int]) -> Volume:
    """The central voxels of a smaller shape; where it cannot be central, the far edge loses one more."""
    for axis, (n, wanted) in enumerate(zip(volume.shape, shape, strict=True)):
        if wanted < n:
            first = (n - wanted) // 2
            volume = cut(volume, axis, first, first + wanted)
    return volume
