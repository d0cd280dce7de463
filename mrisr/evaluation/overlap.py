"""One scan of a patient seen through the slices of another, where both show the same tissue.

Every voxel of the reference is compared with the mean of the result at points spread along its slice
thickness, moved by the registration (:mod:`mrisr.planes.registration`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.volume import Volume
from mrisr.planes.registration import apart

Points = NDArray[np.float64]
#: A rectangle of one slice of an array: the slice, its rows, its columns.
Box = tuple[slice, slice, slice]

#: Rows and columns that a slice's share of the overlap has at least, or it is left out.
SMALLEST = 32
#: Voxels around the points that are sampled, enough for the spline's prefilter (0.27 per voxel).
_MARGIN = 12
_ROUNDING = 1e-3  # voxels


@dataclass(frozen=True)
class Overlap:
    """The part of a reference scan that a measured stack covers.

    Attributes:
        reference: with array axes slices, rows (towards inferior), columns (towards the left); see
            :func:`upright`.
        motion: ``(4, 4)`` world RAS mm of the reference to that of the measured stack.
        rows: points along the reference's slice thickness that are averaged.
        boxes: what is compared of each slice.
    """

    reference: Volume
    motion: geometry.Affine
    rows: int
    boxes: tuple[Box, ...]

    def images(self) -> list[Points]:
        """The reference's voxels ``(h, w)`` in each box."""
        return [self.reference.array[box][0].astype(float) for box in self.boxes]

    def sample(self, volume: Volume) -> list[Points]:
        """The volume as the reference's slices would show it, in each box: cubic B-spline, then the mean over
        the slice thickness (a box profile).

        Raises:
            InputError: the volume does not cover the overlap.
        """
        from scipy.ndimage import map_coordinates, spline_filter

        low, high = self.extent(volume)
        if (np.minimum(low, np.array(volume.shape) - 1 - high) < -0.5 - _ROUNDING).any():
            needed = " to ".join(str(np.round(end, 1).tolist()) for end in (low, high))
            raise InputError(
                volume.name,
                expected="a volume that covers the measured stack",
                found=f"voxels 0..{[n - 1 for n in volume.shape]} where {needed} are needed",
            )
        start = np.maximum(np.floor(low).astype(int) - _MARGIN, 0)
        stop = np.ceil(high).astype(int) + _MARGIN
        part = volume.array[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
        spline = spline_filter(part.astype(np.float64), order=3, mode="mirror")
        places = (points - start[:, None, None, None] for points in self._places(volume))
        return [
            map_coordinates(spline, at, order=3, mode="mirror", prefilter=False).mean(axis=0)
            for at in places
        ]

    def extent(self, volume: Volume) -> tuple[Points, Points]:
        """Smallest and largest voxel index of the volume's grid that the overlap reaches, ``(3,)`` each."""
        every = np.hstack([points.reshape(3, -1) for points in self._places(volume)])
        return every.min(axis=1), every.max(axis=1)

    def _places(self, volume: Volume) -> list[Points]:
        matrix = np.linalg.inv(volume.affine) @ self.motion
        return [_places(self.reference, matrix, self.rows, box) for box in self.boxes]

    @property
    def size_mm(self) -> tuple[float, float, float]:
        """Extent of the overlap along the reference's slices, rows and columns."""
        _, *edges = zip(*self.boxes, strict=True)
        spans = [max(e.stop for e in each) - min(e.start for e in each) for each in edges]
        a, b, c = (np.array([len(self.boxes), *spans]) * self.reference.spacing).tolist()
        return a, b, c


def upright(volume: Volume) -> Volume:
    """The same scan with array axes slices, rows, columns: rows towards inferior (in axial stacks towards
    posterior) and columns towards the left (in sagittal ones towards posterior)."""
    slices = geometry.axis_codes(volume.affine)[volume.slice_axis]
    return volume.reoriented(slices + geometry.DISPLAYED[volume.plane][1:])


def overlap_centre(reference: Volume, measured: Volume) -> Points:
    """World centroid (RAS mm) of the reference's voxels that lie in the measured stack, before registration.

    Raises:
        InputError: the two do not overlap.
    """
    index = np.mgrid[tuple(slice(0, n, max(1, n // 64)) for n in reference.shape)].reshape(3, -1)
    world = _moved(reference.affine, index)
    inside = _inside(_moved(np.linalg.inv(measured.affine), world), measured)
    if not inside.any():
        raise apart(reference, measured, "none of its voxels there")
    return np.asarray(world[:, inside].mean(axis=1))


def find_overlap(
    reference: Volume,
    measured: Volume,
    motion: geometry.Affine,
    rows: int,
    region: tuple[Points, float] | None = None,
) -> Overlap:
    """The largest rectangle of every slice of the reference whose points all lie between the outermost
    voxel centres of the measured stack, where every method interpolates and none extrapolates.

    Args:
        reference: from :func:`upright`.
        measured: the input of the methods.
        motion: world RAS mm of the reference to that of the measured stack.
        rows: points along the reference's slice thickness.
        region: world centre (of the reference, RAS mm) and edge in mm of a cube along the
            reference's axes that bounds the overlap.

    Raises:
        InputError: nothing, or too little, remains.
    """
    low, high = np.zeros(3), np.asarray(reference.shape, dtype=float) - 1
    if region is not None:
        centre = _moved(np.linalg.inv(reference.affine), region[0])
        half = region[1] / 2 / reference.spacing
        low, high = np.maximum(np.ceil(centre - half), 0), np.minimum(np.floor(centre + half), high)
    slices, *edges = (slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True))
    matrix = np.linalg.inv(measured.affine) @ motion
    boxes = []
    for index in range(slices.start, slices.stop):
        box = (slice(index, index + 1), edges[0], edges[1])
        inside = _inside(_places(reference, matrix, rows, box), measured)
        inner = _full_rectangle(np.all(inside, axis=0), box)
        if min(edge.stop - edge.start for edge in inner[1:]) >= SMALLEST:
            boxes.append(inner)
    if not boxes:
        raise apart(reference, measured, f"no slice with {SMALLEST} x {SMALLEST} voxels inside it")
    return Overlap(reference, motion, rows, tuple(boxes))


def _full_rectangle(mask: NDArray[np.bool_], box: Box) -> Box:
    """The part of a box that is left when edges with voxels outside the mask are cut off, the worst first."""
    top, bottom, left, right = 0, mask.shape[0], 0, mask.shape[1]
    while top < bottom and left < right:
        inner = mask[top:bottom, left:right]
        shares = [edge.mean() for edge in (inner[0], inner[-1], inner[:, 0], inner[:, -1])]
        worst = int(np.argmin(shares))
        if shares[worst] == 1:
            break
        top, bottom = top + (worst == 0), bottom - (worst == 1)
        left, right = left + (worst == 2), right - (worst == 3)
    one, rows, columns = box
    first = rows.start, columns.start
    return one, slice(first[0] + top, first[0] + bottom), slice(first[1] + left, first[1] + right)


def _places(reference: Volume, matrix: geometry.Affine, rows: int, box: Box) -> Points:
    """World points ``(3, rows, h, w)`` of a box's voxels, along the slice thickness, mapped by a matrix."""
    step = float(reference.spacing[0])
    spread = ((np.arange(rows) + 0.5) / rows - 0.5) * (reference.slice_thickness or step) / step
    index = np.repeat(np.mgrid[box].astype(float), rows, axis=1)
    index[0] += spread[:, None, None]
    return _moved(matrix @ reference.affine, index)


def _moved(matrix: NDArray[np.floating[Any]], points: NDArray[Any]) -> Points:
    """Points ``(3, ...)`` mapped by a matrix ``(4, 4)``."""
    offset = matrix[:3, 3].reshape(3, *[1] * (points.ndim - 1))
    return np.asarray(np.tensordot(matrix[:3, :3], points, 1) + offset)


def _inside(index: Points, volume: Volume) -> NDArray[np.bool_]:
    """Whether indices ``(3, ...)`` lie between the outermost voxel centres."""
    last = np.asarray(volume.shape).reshape(3, *[1] * (index.ndim - 1)) - 1
    return np.asarray(((index >= -_ROUNDING) & (index <= last + _ROUNDING)).all(axis=0))
