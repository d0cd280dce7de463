"""Cuts through volumes as a radiologist sees them, whatever the array looks like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrisr.core import geometry
from mrisr.core.errors import UsageError
from mrisr.core.volume import Volume

#: Largest side of a pixel of the pictures, and smallest voxel that has one of its own, mm.
PIXEL_MM, _FINEST_MM = 0.25, 0.12
#: Side in mm of the square around the centre that is shown.
EXTENT_MM = 90.0
ROWS = ("axial", "coronal", "sagittal")
#: World axes that run to the right and down the screen, both against their positive direction:
#: radiological convention, the patient's left on the right; sagittal cuts seen from the left.
SCREEN = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}


class PanelRow(NamedTuple):
    """A row of the picture: its plane, and the sides of its panels and of their pixels in mm."""

    plane: str
    extent_mm: float
    pixel_mm: float = PIXEL_MM


def panel(
    volume: Volume,
    plane: str,
    centre: ArrayLike,
    extent_mm: float,
    pixel_mm: float = PIXEL_MM,
    directions: ArrayLike | None = None,
    spline: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """A square cut through a volume as a radiologist sees it, each pixel the nearest voxel's value.

    The cut follows the volume's own axes, not the world's, so an oblique stack shows whole slices.
    The order and the direction of the array axes make no difference: a point midway between two
    voxels takes the one nearer to right, anterior, superior.

    Args:
        plane: ``"axial"``, ``"coronal"`` or ``"sagittal"``.
        centre: the middle of the panel, world mm, RAS.
        extent_mm: length of the panel's sides, mm.
        pixel_mm: pixel size, mm.
        directions: 3x3, columns along right, anterior, superior; cuts along these instead, for
            panels that are compared.
        spline: from :func:`spline_of`; the cut is then interpolated, as far as the nearest voxels reach.

    Returns:
        ``(n, n)`` with ``n = round(extent_mm / pixel_mm)``; rows run down the screen, columns to
        the right. NaN lies outside the volume.

    Raises:
        UsageError: the plane is none of the three, or no pixel fits into the panel.
    """
    count = round(extent_mm / pixel_mm)
    if plane not in SCREEN or count < 1:
        raise UsageError(
            f"panel: expected a plane of {', '.join(ROWS)} and pixels smaller than the panel, "
            f"found {plane!r}, {extent_mm} mm and {pixel_mm} mm"
        )
    d = anatomical_directions(volume.affine) if directions is None else np.asarray(directions)
    to_index = np.linalg.inv(volume.affine)
    right, down = (-to_index[:3, :3] @ d[:, axis] for axis in SCREEN[plane])
    steps = (np.arange(count) - (count - 1) / 2) * pixel_mm
    middle = np.asarray(centre, dtype=np.float64) + d.sum(axis=1) * 1e-3  # never midway
    start = to_index[:3, :3] @ middle + to_index[:3, 3]
    points = [
        s + steps[:, None] * u + steps * v for s, u, v in zip(start, down, right, strict=True)
    ]
    index = [np.rint(p).astype(np.intp) for p in points]
    inside = np.all([(i >= 0) & (i < n) for i, n in zip(index, volume.shape, strict=True)], axis=0)
    ends = [n - 1 for n in volume.shape]
    if spline is not None:
        from scipy.ndimage import map_coordinates

        at = [np.clip(p, 0, n) for p, n in zip(points, ends, strict=True)]
        values = map_coordinates(spline, at, order=3, mode="mirror", prefilter=False)
    else:
        at = [np.clip(i, 0, n) for i, n in zip(index, ends, strict=True)]
        values = volume.array[tuple(at)].astype(np.float32)
    return np.where(inside, values, np.float32(np.nan))


def spline_of(volume: Volume) -> NDArray[np.float32]:
    """Coefficients of the cubic spline through a volume's voxels, mirrored at its ends."""
    from scipy.ndimage import spline_filter

    values = np.asarray(volume.array, dtype=np.float32)
    return np.asarray(spline_filter(values, order=3, output=np.float32, mode="mirror"))


def anatomical_directions(affine: geometry.Affine) -> NDArray[np.float64]:
    """Unit vectors of the array axes, sorted and turned to right, anterior, superior; columns."""
    return geometry.directions(geometry.reoriented(np.empty((1, 1, 1)), affine, "RAS")[1])


def display_window(
    volume: Volume, centre: ArrayLike, extent_mm: float = EXTENT_MM
) -> tuple[float, float]:
    """Darkest and brightest value to show: the 1st and 98th percentile of the finite voxels within a cube
    around the centre (world mm). Fat near a coil, out of the picture, darkens nothing in it."""
    middle = (np.linalg.inv(volume.affine) @ [*np.asarray(centre), 1.0])[:3]
    reach = extent_mm / 2 / volume.spacing
    low_high = zip(middle - reach, middle + reach, volume.shape, strict=True)
    box = tuple(slice(*np.clip((round(a), round(b) + 1), 0, n)) for a, b, n in low_high)
    values = np.asarray(volume.array[box], dtype=np.float64)
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, (1, 98)) if values.size else (0.0, 1.0)
    return float(low), float(high if high > low else low + 1.0)


def middle_slice(volume: Volume) -> tuple[NDArray[np.float64], str]:
    """The centre of a volume's middle slice, world mm, and its number in words, counted from the right, the
    back or the feet. Of an even number the upper of the two in the middle: a slice, not the gap between."""
    axis, count = volume.slice_axis, volume.shape[volume.slice_axis]
    along = volume.reoriented("RAS")
    through = geometry.world_axes(volume.affine)[axis]
    index = (np.array(along.shape) - 1) / 2
    index[geometry.world_axes(along.affine).index(through)] = count // 2
    return (along.affine @ [*index, 1.0])[:3], f"slice {count // 2 + 1}/{count}"


def page_pixel(volume: Volume, extent_mm: float = EXTENT_MM) -> float:
    """Side of a pixel in mm: a volume's smallest voxel, a whole part of a large one, several tiny ones."""
    voxel = float(volume.spacing.min())
    pixel = voxel * np.ceil(_FINEST_MM / voxel - 1e-6) / np.ceil(voxel / PIXEL_MM - 1e-6)
    return float(min(pixel, extent_mm))


def cuts(
    volume: Volume, rows: Sequence[PanelRow], centre: ArrayLike, directions: ArrayLike
) -> list[NDArray[np.float32]]:
    """The panels of a volume, one for each row; voxels finer than the pixels are averaged in them."""
    fine = float(volume.spacing.min())
    made = []
    for plane, extent_mm, pixel_mm in rows:
        parts = int(np.ceil(pixel_mm / fine - 1e-6))
        drawn = panel(volume, plane, centre, extent_mm, pixel_mm, directions)
        if parts > 1:
            n = drawn.shape[0]
            extent = n * pixel_mm
            dense = panel(volume, plane, centre, extent, extent / (n * parts), directions)
            drawn = dense.reshape(n, parts, n, parts).mean(axis=(1, 3))
        made.append(drawn)
    return made
