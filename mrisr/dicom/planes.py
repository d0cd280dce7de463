"""A volume as DICOM planes: rows, columns and slices, with the attributes that place them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray
from pydicom import Dataset

from mrisr.core import geometry
from mrisr.core.volume import Volume
from mrisr.dicom.attributes import decimal, millimetres
from mrisr.dicom.source import Source

#: Places may differ by this, mm, between what was to be written and what was read back.
TOLERANCE_MM = 1e-3
#: Directions closer than this, as a difference of unit vectors, are one direction.
_PARALLEL = 1e-4
#: Directions of rows, columns and slices of the three planes as viewers expect them.
_CONVENTION = {"axial": "LPS", "coronal": "LIP", "sagittal": "PIR"}


@dataclass(frozen=True, eq=False)
class Planes:
    """The planes that a volume is cut into. Arrays are (column, row, slice), as ``read_dicom`` has them."""

    #: nibabel's orientation of the volume's array axes along columns, rows and slices.
    turn: NDArray[np.float64]
    orientation: tuple[str, ...]  #: ImageOrientationPatient
    affine: geometry.Affine  #: index (column, row, slice) to mm, LPS
    thickness: float | None  #: of a slice, mm, if it is known
    #: For each plane the indices of the source slices it is made from.
    source_slices: list[tuple[int, ...]]

    def cut(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """An array on the volume's grid as (column, row, slice), a view."""
        return np.asarray(orientations.apply_orientation(array, self.turn))

    def position(self, k: int) -> NDArray[np.float64]:
        """Centre of the first pixel of plane ``k``, mm LPS, ``(3,)``."""
        return np.asarray(self.affine[:3, 3] + k * self.affine[:3, 2])

    def place(self, k: int) -> list[str]:
        """ImagePositionPatient of plane ``k``."""
        return [millimetres(p) for p in self.position(k)]

    def nearest(self, place: Iterable[float]) -> int:
        """The plane on which a place lies, mm LPS."""
        return round(float((np.linalg.inv(self.affine) @ [*map(float, place), 1.0])[2]))

    def measures(self) -> Dataset:
        """PixelSpacing, SliceThickness (the spacing, where none is known) and SpacingBetweenSlices."""
        column, row, between = (float(v) for v in geometry.spacing(self.affine))
        d = Dataset()
        d.PixelSpacing = [millimetres(row), millimetres(column)]
        d.SpacingBetweenSlices = decimal(round(between, 6))
        d.SliceThickness = decimal(round(self.thickness or between, 6))
        return d

    def differences(
        self, array: NDArray[np.generic], found: NDArray[np.generic], affine: geometry.Affine
    ) -> list[str]:
        """Differences between what was to be written and what a reader makes of the files.

        Args:
            array: on the grid of the volume that was cut.
            found: (column, row, slice).
            affine: of ``found``, to mm RAS; corners may lie 0.001 mm off.
        """
        wanted = self.cut(array)
        if found.shape != wanted.shape:
            return [f"it reads back as {found.shape}, not {wanted.shape}"]
        wrong = []
        if different := int(np.count_nonzero(found != wanted)):
            wrong.append(f"{different} of {wanted.size} voxels read back differently")
        last = [*np.subtract(wanted.shape, 1), 1]
        corners = np.array([[*corner, 1] for corner in np.ndindex(2, 2, 2)]) * last
        off = float(np.abs(corners @ (geometry.LPS_TO_RAS @ affine - self.affine).T).max())
        if off > TOLERANCE_MM:
            wrong.append(f"its positions read back {off:.2g} mm off")
        return wrong


def planes_of(volume: Volume, source: Source) -> Planes:
    """Cut ``volume`` in the source's orientation where its axes allow, else as viewers expect.

    Planes follow each other along the cross product of the row and column directions.
    """
    turn = orientations.io_orientation(np.linalg.inv(source.affine) @ volume.affine)
    affine = volume.affine @ orientations.inv_ornt_aff(turn, volume.shape)
    apart = (geometry.directions(affine) - geometry.directions(source.affine))[:, :2]
    own = turn[volume.slice_axis, 0] == 2 and np.abs(apart).max() < _PARALLEL
    if not own:
        turn = orientations.ornt_transform(
            orientations.axcodes2ornt(geometry.axis_codes(volume.affine)),
            orientations.axcodes2ornt(_CONVENTION[volume.plane]),
        )
        affine = volume.affine @ orientations.inv_ornt_aff(turn, volume.shape)
    affine = geometry.LPS_TO_RAS @ affine
    spelled = tuple(millimetres(v) for v in geometry.directions(affine)[:, :2].T.ravel())
    return Planes(
        turn=turn,
        orientation=source.orientation if own else spelled,
        affine=affine,
        thickness=volume.slice_thickness,
        source_slices=_source_slices(affine, volume.shape[volume.slice_axis], source),
    )


def _source_slices(affine: geometry.Affine, count: int, source: Source) -> list[tuple[int, ...]]:
    """Source slices less than one source spacing from each plane; all where the planes are not parallel."""
    theirs = geometry.LPS_TO_RAS @ source.affine
    slices = np.arange(source.shape[2])
    cosines = geometry.directions(affine).T @ geometry.directions(theirs)
    if abs(cosines[2, 2]) < 1 - _PARALLEL:
        return [tuple(slices.tolist())] * count
    first, step = (np.linalg.inv(theirs) @ affine)[2, [3, 2]]
    apart = np.abs(slices - (first + step * np.arange(count))[:, None])
    return [tuple(slices[near].tolist()) for near in apart < 1 - 1e-3]
