"""Sources, results and derivations for the writers of derived objects, and multi-frame files as pydicom alone
reads them."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.uid import EnhancedMRImageStorage, generate_uid

from mrisr.core import geometry
from mrisr.core.volume import Volume
from mrisr.data.phantom import label_volume
from mrisr.dicom.derivation import Derivation
from mrisr.dicom.segments import PROSTATE_ZONES
from mrisr.dicom.series import storable, write_series
from mrisr.dicom.source import Source, read_source
from mrisr.io import read_volume
from tests.dicom.synthetic import hospital_series

DERIVATION = Derivation(
    label="super-resolved in-plane x2",
    description="Super-resolved in-plane x2 by mrisr 0. Research use only, not for diagnosis.",
    details="model tiny; seed 3",
    version="0",
    model_sha256="ab" * 32,
    seed=3,
    key="tiny x2 seed 3",
    series_offset=81,
    created=datetime(2026, 3, 5, 23, 30, 1, tzinfo=timezone.utc),
)


def upsampled(volume: Volume, factors: tuple[float, float, float]) -> Volume:
    """A stand-in for a result: the nearest voxels on the finer grid of the same field of view."""
    shape, affine = geometry.resampled_grid(volume.shape, volume.affine, factors)
    array = volume.array
    for axis, (n, old) in enumerate(zip(shape, volume.shape, strict=True)):
        nearest = np.clip((np.arange(n) + 0.5) * old / n, 0, old - 1).astype(int)
        array = array.take(nearest, axis=axis)
    between = float(geometry.spacing(affine)[2])
    thickness = volume.slice_thickness if factors[2] == 1 else between
    return replace(volume.with_array(array, affine), slice_thickness=thickness)


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    return hospital_series(tmp_path / "hospital")


@pytest.fixture
def derive(tmp_path: Path) -> Callable[..., tuple[Path, Volume, Source]]:
    """Read a series, upsample it, write it as a derived one; returns folder, volume and source."""

    def run(series, factors=(2, 2, 1), *, name="derived", source=None):
        volume = storable(upsampled(read_volume(series), factors))
        source = source or read_source(series)
        return write_series(volume, tmp_path / name, source, DERIVATION), volume, source

    return run


def tool(name: str) -> str:
    """The path of a program that not every machine has; the test is skipped without it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: dicom3tools, dcmtk, dcm2niix)")
    return found


def errors_of(*command: object) -> list[str]:
    """Lines that a validator begins with Error; its exit code says nothing."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if line.startswith("Error")]


def assert_valid(path: Path) -> None:
    """``dciodvfy`` finds no error in a file."""
    assert errors_of(tool("dciodvfy"), "-new", path) == []


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


# --- segmentations ---------------------------------------------------------------------------------


@pytest.fixture
def series(tmp_path):
    return hospital_series(tmp_path / "series", size=48, slices=6)


@pytest.fixture
def labels(series):
    """Zones on the source's own grid."""
    return zones(read_volume(series))


def zones(grid: Volume) -> Volume:
    found = label_volume(grid.shape, grid.affine)
    assert set(np.unique(found.array)) == {0, 1, 2}
    return replace(found, stacked_along=grid.stacked_along)


@pytest.fixture
def foreign(tmp_path, series, labels):
    """A segmentation as others write it: empty planes left out, of any type."""
    import highdicom as hd

    def run(kind="BINARY", array=None, segments=PROSTATE_ZONES, edit=None, name="foreign.dcm"):
        images = [pydicom.dcmread(p) for p in sorted(series.iterdir())]
        by_hand = hd.seg.SegmentAlgorithmTypeValues.MANUAL
        described = [
            hd.seg.SegmentDescription(s.number, s.name, s.category, s.type, by_hand)
            for s in segments
        ]
        given = labels.array.transpose(2, 1, 0) if array is None else array
        names = ("1.2.3", 1, "1.2.4", 1, "m", "n", "1", "s")
        path = tmp_path / name
        made = hd.seg.Segmentation(images, given, kind, described, *names)
        if edit is not None:
            edit(made)
        path.parent.mkdir(exist_ok=True)
        made.save_as(path)
        return path

    return run
