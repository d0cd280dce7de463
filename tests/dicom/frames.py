"""Multi-frame files as pydicom alone reads them, and what their tests share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import EnhancedMRImageStorage, generate_uid

from mrisr.core import geometry
from mrisr.core.volume import Volume
from mrisr.dicom.source import Source


def frames(d: pydicom.Dataset) -> Iterator[tuple[NDArray, NDArray, pydicom.Dataset]]:
    """Pixels ``(rows, columns)``, RAS points ``(rows, columns, 3)`` and functional groups of frames."""
    shared = d.SharedFunctionalGroupsSequence[0]
    row, column = np.array(
        shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float
    ).reshape(2, 3)
    down, across = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
    i, j = np.meshgrid(np.arange(d.Rows), np.arange(d.Columns), indexing="ij")
    pixels = d.pixel_array.reshape(d.NumberOfFrames, d.Rows, d.Columns)
    for plane, group in zip(pixels, d.PerFrameFunctionalGroupsSequence, strict=True):
        first = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        points = first + i[..., None] * down * column + j[..., None] * across * row
        yield plane, points * [-1, -1, 1], group


def at(volume: Volume, points: NDArray) -> NDArray:
    """Voxels at RAS points, each of which is a voxel's centre."""
    inverse = np.linalg.inv(volume.affine)
    index = points @ inverse[:3, :3].T + inverse[:3, 3]
    np.testing.assert_allclose(index, np.rint(index), atol=2e-3)
    return volume.array[tuple(np.rint(index).astype(int).reshape(-1, 3).T)].reshape(
        index.shape[:-1]
    )


def world(volume: Volume) -> NDArray:
    """RAS points of all voxels, ``(i, j, k, 3)``."""
    index = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), axis=-1)
    return index @ volume.affine[:3, :3].T + volume.affine[:3, 3]


def as_nifti(volume: Volume) -> Volume:
    """The same voxels in the axes of many NIfTI files: near R, A, S, slices not last."""
    column, row, along = geometry.axis_codes(volume.affine)
    opposite = dict(zip("LRPAIS", "RLAPSI", strict=True))
    codes = along + opposite[column] + opposite[row]
    array, affine = geometry.reoriented(volume.array, volume.affine, codes)
    return Volume(np.ascontiguousarray(array), affine, name="labels")


def multiframe(source: Source) -> Source:
    """The source as if all its slices were frames, in reverse, of one enhanced file."""
    uid, count = generate_uid(entropy_srcs=["enhanced"]), len(source.slices)
    slices = tuple(
        replace(s, sop_class=EnhancedMRImageStorage, sop_uid=uid, frame=count - k)
        for k, s in enumerate(source.slices)
    )
    return replace(source, slices=slices)


FAULTS = {
    "truncated": "read back",
    "a wrong bit": "1 of .* voxels read back differently",
    "a wrong place": "positions read back 0.0.* mm off",
    "a wrong frame of reference": "frame of reference is not the source's",
}


def stumped(monkeypatch, fault: str) -> None:
    """Make pydicom write files with one of the faults."""
    real = pydicom.Dataset.save_as

    def save_as(self, path, **more):
        if fault == "a wrong place":
            measures = self.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
            measures.PixelSpacing = [v + 0.001 for v in measures.PixelSpacing]
        if fault == "a wrong frame of reference":
            self.FrameOfReferenceUID = "1.2.3"
        real(self, path, **more)
        data = bytearray(Path(path).read_bytes())
        if fault == "truncated":
            del data[-100:]
        if fault == "a wrong bit":
            data[-2] ^= 0x10
        Path(path).write_bytes(data)

    monkeypatch.setattr(pydicom.Dataset, "save_as", save_as)


def references(items: pydicom.Sequence) -> list[tuple[str, object]]:
    return [(i.ReferencedSOPInstanceUID, i.get("ReferencedFrameNumber")) for i in items]
