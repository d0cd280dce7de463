"""Volumes stored along other array axes, by nibabel's orientations."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from numpy.typing import NDArray

from mrisr.core.geometry import Affine
from mrisr.core.volume import Volume

Scalar = TypeVar("Scalar", bound=np.generic)


def reoriented(volume: Volume, codes: str) -> Volume:
    """The same voxels in the same places, with array axes along ``codes`` such as ``"LPS"``, at right angles.

    >>> coronal = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    >>> reoriented(Volume(np.zeros((2, 3, 4)), coronal), "LPS").shape
    (2, 4, 3)
    """
    turn = ornt_transform(io_orientation(volume.affine), axcodes2ornt(codes))
    array = np.ascontiguousarray(apply_orientation(volume.array, turn))
    affine = volume.affine @ inv_ornt_aff(turn, volume.shape)
    return replace(
        volume, array=array, affine=affine, stacked_along=int(turn[volume.slice_axis, 0])
    )


def oriented_like(array: NDArray[Scalar], codes: str, affine: Affine) -> NDArray[Scalar]:
    """An array with axes along ``codes`` on the array axes of a grid: undoes :func:`reoriented`."""
    turn = ornt_transform(axcodes2ornt(codes), io_orientation(affine))
    return np.ascontiguousarray(apply_orientation(array, turn))
