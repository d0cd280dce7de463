"""Cuts through volumes whose axes run along the cut's: quick, for a page has dozens of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrisr.core.volume import Volume
from mrisr.view import qc

Panel = NDArray[np.float32]
Vector = NDArray[np.float64]

#: As in mrisr.view.qc: axes (right, anterior, superior) that run to the right and down the screen, reversed.
_SCREEN = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}
#: Voxels by which an axis may leave its row over half a cut and still count as aligned.
_TURNED = 0.02


@dataclass(frozen=True)
class Cut:
    """A square cut.

    Attributes:
        plane: ``"axial"``, ``"coronal"`` or ``"sagittal"``.
        centre: of the square, world mm, RAS.
        extent_mm, pixel_mm: its side and that of a pixel.
        directions: columns along right, anterior, superior.
    """

    plane: str
    centre: Vector
    extent_mm: float
    pixel_mm: float
    directions: NDArray[np.float64]


def nearest(volume: Volume, cut: Cut) -> Panel:
    """The cut by the nearest voxels: what :func:`mrisr.view.qc.panel` gives, sooner where the axes agree."""
    where = _indices(volume, cut)
    if where is None:
        return qc.panel(volume, cut.plane, cut.centre, cut.extent_mm, cut.pixel_mm, cut.directions)
    indices, order = where
    index = [np.rint(i).astype(int) for i in indices]
    limits = [n - 1 for n in volume.shape]
    values = volume.array[np.ix_(*(np.clip(i, 0, n) for i, n in zip(index, limits, strict=True)))]
    return _masked(values.transpose(order)[0], index, limits, order)


def cubic(volume: Volume, cut: Cut) -> Panel:
    """The cut by cubic spline interpolation, as far as the nearest voxels reach.

    Volumes turned against the cut are shown by their nearest voxels.
    """
    where = _indices(volume, cut)
    if where is None:
        return nearest(volume, cut)
    indices, order = where
    near = [_near(i, n) for i, n in zip(indices, volume.shape, strict=True)]
    values = volume.array[tuple(slice(low, high) for low, high in near)].astype(np.float32)
    for axis in order:  # the one across the cut first: it leaves a single slice
        values = _along(values, axis, indices[axis] - near[axis][0])
    limits = [n - 1 for n in volume.shape]
    index = [np.rint(i).astype(int) for i in indices]
    return _masked(values.transpose(order)[0], index, limits, order)


def _indices(volume: Volume, cut: Cut) -> tuple[list[Vector], tuple[int, int, int]] | None:
    """Voxel index along each array axis of the cut's pixels, and the array axes across, down and to the
    right; None where the volume's axes do not run along the cut's."""
    to_index = np.linalg.inv(volume.affine)
    step = to_index[:3, :3] @ cut.directions  # array axes by frame axes, voxels for each mm
    along = np.abs(step).argmax(axis=1)
    if sorted(along) != [0, 1, 2]:
        return None
    rest = np.abs(step).sum(axis=1) - np.abs(step).max(axis=1)
    if (rest * cut.extent_mm / 2 > _TURNED).any():
        return None
    middle = cut.centre + cut.directions.sum(axis=1) * 1e-3  # never midway, as in mrisr.view.qc
    start = to_index[:3, :3] @ middle + to_index[:3, 3]
    count = round(cut.extent_mm / cut.pixel_mm)
    run = (np.arange(count) - (count - 1) / 2) * cut.pixel_mm
    right, down = _SCREEN[cut.plane]
    indices = []
    for axis, frame_axis in enumerate(along):
        moves = -run if frame_axis in (right, down) else np.zeros(1)
        indices.append(start[axis] + step[axis, frame_axis] * moves)
    axes = {int(f): axis for axis, f in enumerate(along)}
    across = 3 - right - down
    return indices, (axes[across], axes[down], axes[right])


def _masked(
    values: NDArray[np.generic],
    index: list[NDArray[np.intp]],
    limits: list[int],
    order: tuple[int, int, int],
) -> Panel:
    """Values ``(rows, columns)``, NaN where an index lies outside."""
    inside = [(index[a] >= 0) & (index[a] <= limits[a]) for a in order]
    seen = inside[0] & inside[1][:, None] & inside[2]
    return np.where(seen, values.astype(np.float32), np.float32(np.nan))


def _near(index: Vector, size: int) -> tuple[int, int]:
    """The voxels, of so many, that bear on fractional indices: first, and after the last; never none."""
    low = min(max(0, int(index.min()) - 8), size - 1)
    return low, min(size, max(int(index.max()) + 10, low + 1))


def _along(values: Panel, axis: int, index: Vector) -> Panel:
    """Values at fractional indices of one axis by an interpolating cubic spline, constant beyond its ends."""
    from scipy.interpolate import make_interp_spline

    part = np.moveaxis(values, axis, 0)
    count = len(part)
    at = np.clip(index, 0, count - 1)
    if count == 1:
        matrix = np.ones((len(at), 1))
    else:
        matrix = make_interp_spline(np.arange(count), np.eye(count), k=min(3, count - 1))(at)
    return np.moveaxis(np.tensordot(matrix.astype(np.float32), part, 1), 0, axis)
