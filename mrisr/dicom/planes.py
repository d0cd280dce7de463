"""A volume as DICOM planes: rows, columns and slices, with the attributes that place them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from mrisr.core import geometry
from mrisr.core.volume import Volume
from mrisr.dicom.source import Source
from mrisr.dicom.text import decimal, millimetres

#: Places may differ by this, mm, between what was to be written and what was read back.
TOLERANCE_MM = 1e-3
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

    def measures(self, slice_thickness: float | None) -> Dataset:
        """PixelSpacing, SliceThickness (the spacing, where it is `None`) and SpacingBetweenSlices."""
        column, row, between = self.spacing
        d = Dataset()
        d.PixelSpacing = [millimetres(row), millimetres(column)]
        d.SpacingBetweenSlices = decimal(round(between, 6))
        d.SliceThickness = decimal(round(slice_thickness or between, 6))
        return d

    def differences(
        self, array: NDArray[np.generic], found: NDArray[np.generic], affine: geometry.Affine
    ) -> list[str]:
        """Differences between what was to be written and what a reader makes of the files.

        Args:
            array: of the volume that these planes cut.
            found: ``(columns, rows, slices)``, in the order of the planes.
            affine: of ``found``, to mm RAS; corners may lie 0.001 mm off.
        """
        wanted = self.cut(array).transpose(2, 1, 0)
        if found.shape != wanted.shape:
            return [f"it reads back as {found.shape}, not {wanted.shape}"]
        wrong = []
        if different := int(np.count_nonzero(found != wanted)):
            wrong.append(f"{different} of {wanted.size} voxels read back differently")
        corners = np.array([[*c, 1] for c in np.ndindex(2, 2, 2)]) * [
            *np.array(wanted.shape) - 1,
            1,
        ]
        off = float(np.abs(corners @ (geometry.LPS_TO_RAS @ affine - self.affine).T).max())
        if off > TOLERANCE_MM:
            wrong.append(f"its positions read back {off:.2g} mm off")
        return wrong


def planes_of(volume: Volume, source: Source) -> Planes:
    """Cut ``volume`` in the source's orientation where its axes allow, else as viewers expect.

    Planes follow each other along the cross product of the row and column directions.
    """
    lps = geometry.LPS_TO_RAS @ volume.affine
    directions = geometry.directions(lps)
    row, column = np.array(source.orientation, dtype=float).reshape(2, 3)
    across, down = (int(np.abs(directions.T @ d).argmax()) for d in (row, column))
    exact = 3 - across - down == volume.slice_axis and all(
        np.abs(np.abs(directions[:, a]) - np.abs(d)).max() < _PARALLEL
        for a, d in ((across, row), (down, column))
    )
    if not exact:
        row, column = np.array(_CONVENTION[volume.plane], dtype=float)
        rest = [a for a in range(3) if a != volume.slice_axis]
        across = max(rest, key=lambda a: abs(float(directions[:, a] @ row)))
        down = next(a for a in rest if a != across)
    axes = (across, down, 3 - across - down)
    forward = [np.copysign(1, directions[:, a] @ d) for a, d in ((across, row), (down, column))]
    normal = np.cross(directions[:, across], directions[:, down]) * forward[0] * forward[1]
    flips = [bool(f < 0) for f in (*forward, directions[:, axes[2]] @ normal)]
    grid = lps[:, [*axes, 3]]
    for target, axis in enumerate(axes):
        if flips[target]:
            grid[:3, 3] += (volume.shape[axis] - 1) * grid[:3, target]
            grid[:3, target] *= -1
    spelled = tuple(millimetres(float(v)) for v in geometry.directions(grid)[:, :2].T.ravel())
    return Planes(
        axes=(axes[2], down, across),
        flips=(flips[2], flips[1], flips[0]),
        orientation=source.orientation if exact else spelled,
        affine=grid,
        source_slices=_source_slices(grid, volume.shape[axes[2]], source),
    )


def _source_slices(
    grid: geometry.Affine, count: int, source: Source
) -> tuple[tuple[int, ...], ...]:
    """Source slices that lie less than one source spacing from each plane; all where the planes are
    not parallel to the source's."""
    lps = geometry.LPS_TO_RAS @ source.affine
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
