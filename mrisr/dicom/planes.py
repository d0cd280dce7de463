"""A volume as DICOM planes: rows, columns and slices, with the attributes that place them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.volume import Volume
from mrisr.dicom.source import Source
from mrisr.dicom.text import millimetres

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: Directions closer than this, as a difference of unit vectors, are one direction.
_PARALLEL = 1e-4
#: Directions of rows and columns of the three planes as viewers expect them, LPS.
_CONVENTION = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
}


@dataclass(frozen=True, eq=False)
class Planes:
    """A volume cut into planes.

    Attributes:
        axes, flips: array axis that is the slice, row and column index, and whether it runs
            backwards.
        orientation: ImageOrientationPatient.
        affine: index (column, row, slice) to mm, LPS.
        source_slices: for each plane the indices of the source slices it is made from.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    orientation: tuple[str, ...]
    affine: geometry.Affine
    source_slices: tuple[tuple[int, ...], ...]

    def cut(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """``array`` as ``(slices, rows, columns)``, a view."""
        cut = array.transpose(self.axes)
        return cut[tuple(slice(None, None, -1 if f else 1) for f in self.flips)]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Between columns, between rows, between slices, mm."""
        column, row, between = (float(v) for v in geometry.spacing(self.affine))
        return column, row, between

    def position(self, k: int) -> NDArray[np.float64]:
        """Centre of the first pixel of plane ``k``, mm LPS."""
        return self.affine[:3, 3] + k * self.affine[:3, 2]

    @property
    def pixel_spacing(self) -> list[str]:
        column, row, _ = self.spacing
        return [millimetres(row), millimetres(column)]


def planes_of(volume: Volume, source: Source) -> Planes:
    """How to cut ``volume``: in the source's orientation where its axes allow, else as viewers expect.

    Planes follow each other along the cross product of the row and column directions.
    """
    lps = _RAS_TO_LPS @ volume.affine
    directions = geometry.directions(lps)
    wanted = [float(v) for v in source.orientation]
    row, column = np.array(wanted[:3]), np.array(wanted[3:])
    across, down = _nearest(directions, row), _nearest(directions, column)
    exact = across != down and all(
        np.abs(np.abs(directions[:, a]) - np.abs(d)).max() < _PARALLEL
        for a, d in ((across, row), (down, column))
    )
    if not exact or 3 - across - down != volume.slice_axis:
        row, column = (np.array(d, dtype=float) for d in _CONVENTION[volume.plane])
        rest = [a for a in range(3) if a != volume.slice_axis]
        across = max(rest, key=lambda a: abs(float(directions[:, a] @ row)))
        down = next(a for a in rest if a != across)
        exact = False
    return _planes(volume, source, (across, down), (row, column), exact)


def _planes(
    volume: Volume,
    source: Source,
    in_plane: tuple[int, int],
    towards: tuple[NDArray[np.float64], NDArray[np.float64]],
    exact: bool,
) -> Planes:
    lps = _RAS_TO_LPS @ volume.affine
    directions = geometry.directions(lps)
    across, down = in_plane
    through = 3 - across - down
    signs = [bool(directions[:, a] @ d < 0) for a, d in zip(in_plane, towards, strict=True)]
    normal = np.cross(
        directions[:, across] * (-1 if signs[0] else 1),
        directions[:, down] * (-1 if signs[1] else 1),
    )
    flips = (bool(directions[:, through] @ normal < 0), signs[1], signs[0])
    grid = np.eye(4)
    origin = np.zeros(4)
    origin[3] = 1
    for target, axis, flipped in (
        (0, across, flips[2]),
        (1, down, flips[1]),
        (2, through, flips[0]),
    ):
        grid[:3, target] = lps[:3, axis] * (-1 if flipped else 1)
        origin[axis] = volume.shape[axis] - 1 if flipped else 0
    grid[:3, 3] = (lps @ origin)[:3]
    spelled = tuple(millimetres(float(v)) for v in geometry.directions(grid)[:, :2].T.ravel())
    return Planes(
        (through, down, across),
        flips,
        source.orientation if exact else spelled,
        grid,
        _source_slices(grid, volume.shape[through], source),
    )


def _nearest(directions: NDArray[np.float64], direction: NDArray[np.float64]) -> int:
    return int(np.abs(directions.T @ direction).argmax())


def _source_slices(
    grid: geometry.Affine, count: int, source: Source
) -> tuple[tuple[int, ...], ...]:
    """Source slices that lie less than one source spacing from each plane; all where the planes are
    not parallel to the source's."""
    lps = _RAS_TO_LPS @ source.affine
    step = lps[:3, 2]
    between = float(np.linalg.norm(step))
    normal = step / between
    if abs(float(geometry.directions(grid)[:, 2] @ normal)) < 1 - _PARALLEL:
        return (tuple(range(source.shape[2])),) * count
    found = []
    for k in range(count):
        index = float((grid[:3, 3] + k * grid[:3, 2] - lps[:3, 3]) @ normal) / between
        found.append(tuple(j for j in range(source.shape[2]) if abs(j - index) < 1 - 1e-3))
    return tuple(found)
