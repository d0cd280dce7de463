"""Volumes: voxels, where they lie, and how they were stored."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry

#: Voxels that are brought to their storage at once.
_PART = 1 << 20


@dataclass(frozen=True)
class Storage:
    """Storage of voxels on disk: value = ``slope * stored + intercept``, stored as ``dtype``."""

    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.float32))
    slope: float = 1.0
    intercept: float = 0.0

    def encode(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """Values to stored numbers: integers are rounded and clipped to the range, never wrapped."""
        dtype = self.dtype.newbyteorder("=")
        if self.slope == 1.0 and self.intercept == 0.0 and values.dtype == dtype:
            return values
        info = np.iinfo(dtype) if np.issubdtype(dtype, np.integer) else None
        stored = np.empty_like(values, dtype=dtype, subok=False)
        flat, found = values.ravel(order="K"), stored.ravel(order="K")
        for first in range(
            0, flat.size, _PART
        ):  # float64 of a large volume would be all its memory
            part = flat[first : first + _PART].astype(np.float64)
            part -= self.intercept
            part /= self.slope
            if info is not None:
                np.clip(np.rint(part, out=part), info.min, info.max, out=part)
            found[first : first + _PART] = part
        return stored

    def decode(self, stored: NDArray[np.generic]) -> NDArray[np.generic]:
        """Stored numbers to values: untouched without scaling, otherwise float64."""
        if self.slope == 1.0 and self.intercept == 0.0:
            return stored
        return stored.astype(np.float64) * self.slope + self.intercept


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3-D scalar image.

    Two volumes are equal only if they are one object; compare ``array`` and ``affine`` for their content.
    """

    #: Values ``(i, j, k)`` in the scanner's units, rescaled; in the storage dtype where no rescaling applies.
    array: NDArray[np.generic]
    affine: geometry.Affine  #: ``(4, 4)`` float64, voxel indices to world mm, RAS
    storage: Storage = field(default_factory=Storage)  #: of the source; outputs keep it
    slice_thickness: float | None = None  #: nominal, in mm, if the source states one; no spacing
    #: Array axis of the slices where the source says so (DICOM does), else the one of the coarsest spacing.
    stacked_along: int | None = None
    name: str = "volume"  #: what messages call it: the path it was read from, or what it is

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise ValueError(f"a Volume has 3 axes, got shape {self.array.shape}")
        object.__setattr__(self, "affine", np.asarray(self.affine, dtype=np.float64))

    @property
    def shape(self) -> tuple[int, int, int]:
        i, j, k = self.array.shape
        return i, j, k

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Spacing in mm along each array axis, shape ``(3,)``."""
        return geometry.spacing(self.affine)

    @property
    def slice_axis(self) -> int:
        """Array axis along which the slices are stacked."""
        stated = self.stacked_along
        return geometry.slice_axis(self.affine) if stated is None else stated

    @property
    def plane(self) -> str:
        """``"axial"``, ``"coronal"`` or ``"sagittal"``."""
        return geometry.plane(self.affine, self.slice_axis)

    @property
    def is_stack(self) -> bool:
        """True where slices are more than twice as coarse as their pixels: they show one plane only."""
        pixels = np.delete(self.spacing, self.slice_axis).max()
        return bool(self.spacing[self.slice_axis] > 2 * pixels)

    def reoriented(self, codes: str) -> Volume:
        """The same voxels in the same places with array axes along ``codes`` such as ``"LPS"``."""
        array, affine = geometry.reoriented(self.array, self.affine, codes)
        through = geometry.world_axes(self.affine)[self.slice_axis]
        stacked_along = geometry.world_axes(affine).index(through)
        return replace(self, array=array, affine=affine, stacked_along=stacked_along)

    def with_array(
        self, array: NDArray[np.generic], affine: geometry.Affine | None = None
    ) -> Volume:
        """The same volume (storage, name) with other voxels and, if given, another grid."""
        return replace(self, array=array, affine=self.affine if affine is None else affine)


@dataclass(frozen=True, eq=False)
class VolumeFile:
    """A volume as it was read, and what is known of where it came from."""

    volume: Volume
    path: Path | None = None  #: file or folder it was read from; None for an image in memory
    sha256: str | None = None  #: of the bytes that were read; None for an image in memory
    notes: tuple[str, ...] = ()  #: what the reader decided, such as "sform used", for provenance
