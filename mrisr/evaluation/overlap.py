"""Where two scans of one patient show the same tissue, and one of them seen through the other's slices.

The reference is another stack, with other thick slices. A result is compared with it on its own grid: every
voxel of the reference is given the mean of the result at points spread along its slice
thickness, moved by the registration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.volume import Volume

#: Rows and columns that a slice's share of the overlap has at least, or it is left out.
SMALLEST = 32
#: Voxels around the points that are sampled, enough for the spline's prefilter (0.27 per voxel).
_MARGIN = 12
_ROUNDING = 1e-3  # voxels


class Box(NamedTuple):
    """A rectangle of one slice: the slice's number, first row and past the last, columns likewise."""

    slice: int
    top: int
    bottom: int
    left: int
    right: int


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

    def images(self) -> list[NDArray[np.float64]]:
        """The reference's voxels in each box."""
        array = self.reference.array
        return [
            array[b.slice, b.top : b.bottom, b.left : b.right].astype(float) for b in self.boxes
        ]

    def sample(self, volume: Volume) -> list[NDArray[np.float64]]:
        """The volume as the reference's slices would show it, in each box: cubic B-spline, then the mean over
        the slice thickness (a box profile).

        Raises:
            InputError: the volume does not cover the overlap.
        """
        from scipy.ndimage import map_coordinates, spline_filter

        places = self.places(volume)
        low, high = _extent(places)
        if (low < -0.5 - _ROUNDING).any() or (
            high > np.array(volume.shape) - 0.5 + _ROUNDING
        ).any():
            raise InputError(
                volume.name,
                expected="a volume that covers the measured stack",
                found=f"voxels 0..{[n - 1 for n in volume.shape]} where {np.round(low, 1).tolist()} to "
                f"{np.round(high, 1).tolist()} are needed",
            )
        start = np.maximum(np.floor(low).astype(int) - _MARGIN, 0)
        stop = np.ceil(high).astype(int) + _MARGIN
        part = volume.array[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
        spline = spline_filter(part.astype(np.float64), order=3, mode="mirror")
        images = []
        for place in places:
            at = place - start[:, None, None, None]
            values = map_coordinates(spline, at, order=3, mode="mirror", prefilter=False)
            images.append(values.mean(axis=0))
        return images

    def places(self, volume: Volume) -> list[NDArray[np.float64]]:
        """Points ``(3, rows, h, w)`` of each box along the slice thickness, as indices of a volume."""
        matrix = np.linalg.inv(volume.affine) @ self.motion
        return [_places(self.reference, matrix, self.rows, box) for box in self.boxes]

    def extent(self, volume: Volume) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Smallest and largest voxel index of the volume's grid that the overlap reaches, ``(3,)`` each."""
        return _extent(self.places(volume))

    @property
    def size_mm(self) -> tuple[float, float, float]:
        """Extent of the overlap along the reference's slices, rows and columns."""
        step = self.reference.spacing
        h = max(b.bottom for b in self.boxes) - min(b.top for b in self.boxes)
        w = max(b.right for b in self.boxes) - min(b.left for b in self.boxes)
        return float(len(self.boxes) * step[0]), float(h * step[1]), float(w * step[2])


def upright(volume: Volume) -> Volume:
    """The same scan with array axes slices, rows, columns: rows towards inferior (in axial stacks towards
    posterior) and columns towards the left (in sagittal ones towards posterior)."""
    slices = geometry.axis_codes(volume.affine)[volume.slice_axis]
    return volume.reoriented(slices + geometry.DISPLAYED[volume.plane][1:])


def overlap_centre(reference: Volume, measured: Volume) -> NDArray[np.float64]:
    """World centroid (RAS mm) of the reference's voxels that lie in the measured stack, before registration.

    Raises:
        InputError: the two do not overlap.
    """
    every = [np.arange(0, n, max(1, n // 64)) for n in reference.shape]
    index = np.stack(np.meshgrid(*every, indexing="ij")).reshape(3, -1)
    world = _moved(reference.affine, index)
    inside = _inside(_moved(np.linalg.inv(measured.affine), world), measured)
    if not inside.any():
        raise _apart(reference, measured, "none of its voxels there")
    return np.asarray(world[:, inside].mean(axis=1))


def find_overlap(
    reference: Volume,
    measured: Volume,
    motion: geometry.Affine,
    rows: int,
    region: tuple[NDArray[np.float64], float] | None = None,
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
        low = np.maximum(np.ceil(centre - half), 0)
        high = np.minimum(np.floor(centre + half), high)
    (first, top, left), (last, bottom, right) = low.astype(int), high.astype(int)
    matrix = np.linalg.inv(measured.affine) @ motion
    boxes = []
    for index in range(first, last + 1):
        box = Box(index, top, bottom + 1, left, right + 1)
        at = _places(reference, matrix, rows, box)
        inner = _full_rectangle(np.all(_inside(at, measured), axis=0), box)
        if min(inner.bottom - inner.top, inner.right - inner.left) >= SMALLEST:
            boxes.append(inner)
    if not boxes:
        found = f"no slice with {SMALLEST} x {SMALLEST} voxels inside it"
        raise _apart(reference, measured, found)
    return Overlap(reference, motion, rows, tuple(boxes))


def _full_rectangle(mask: NDArray[np.bool_], box: Box) -> Box:
    """The part of a box that is left when edges with voxels outside the mask are cut off, the worst first."""
    top, bottom, left, right = 0, mask.shape[0], 0, mask.shape[1]
    while top < bottom and left < right:
        edges = (
            mask[top, left:right],
            mask[bottom - 1, left:right],
            mask[top:bottom, left],
            mask[top:bottom, right - 1],
        )
        worst = int(np.argmin([edge.mean() for edge in edges]))
        if edges[worst].all():
            break
        top, bottom = top + (worst == 0), bottom - (worst == 1)
        left, right = left + (worst == 2), right - (worst == 3)
    return Box(box.slice, box.top + top, box.top + bottom, box.left + left, box.left + right)


def _places(reference: Volume, matrix: geometry.Affine, rows: int, box: Box) -> NDArray[np.float64]:
    """World points ``(3, rows, h, w)`` of a box's voxels, along the slice thickness, mapped by a matrix."""
    thickness = reference.slice_thickness or float(reference.spacing[0])
    spread = ((np.arange(rows) + 0.5) / rows - 0.5) * thickness / float(reference.spacing[0])
    axes = (box.slice + spread, np.arange(box.top, box.bottom), np.arange(box.left, box.right))
    return _moved(matrix @ reference.affine, np.stack(np.meshgrid(*axes, indexing="ij")))


def _moved(matrix: NDArray[np.floating[Any]], points: NDArray[Any]) -> NDArray[np.float64]:
    """Points ``(3, ...)`` mapped by a matrix ``(4, 4)``."""
    offset = matrix[:3, 3].reshape(3, *[1] * (points.ndim - 1))
    return np.asarray(np.tensordot(matrix[:3, :3], points, 1) + offset)


def _inside(index: NDArray[np.float64], volume: Volume) -> NDArray[np.bool_]:
    """Whether indices ``(3, ...)`` lie between the outermost voxel centres."""
    last = np.asarray(volume.shape).reshape(3, *[1] * (index.ndim - 1)) - 1
    return np.asarray(((index >= -_ROUNDING) & (index <= last + _ROUNDING)).all(axis=0))


def _extent(
    places: list[NDArray[np.float64]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    ends = [(p.min(axis=(1, 2, 3)), p.max(axis=(1, 2, 3))) for p in places]
    return np.min([e[0] for e in ends], axis=0), np.max([e[1] for e in ends], axis=0)


def _apart(reference: Volume, measured: Volume, found: str) -> InputError:
    expected = f"a scan that overlaps with {measured.name}"
    return InputError(reference.name, expected=expected, found=found)
