"""A DICOM series, or one enhanced multi-frame file, as a Volume."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from mrisr.core.errors import InputError
from mrisr.core.volume import Storage, Volume, VolumeFile
from mrisr.io import checks
from mrisr.io.dicom_frames import Frame, frames_of
from mrisr.io.dicom_pixels import Pixels, read_pixels
from mrisr.io.dicom_scan import SHARED, File, Series, choose_series, quiet
from mrisr.io.dicom_stack import Stack, stack_frames


def read_dicom(
    path: Path,
    *,
    series: str | None = None,
    frame: int | None = None,
    max_voxels: int = 2**31,
    allow_constant: bool = False,
) -> VolumeFile:
    """Read one series below a folder, or one file.

    Slices are ordered by position. The array is (column index, row index, slice).

    Args:
        path: a folder, searched to the bottom, or a file.
        series: UID, number or description, where there are several series.
        frame: which volume, from 1, where the series holds several.
        max_voxels: larger series are refused before their pixels are read.
        allow_constant: accept voxels that are all equal.

    Raises:
        InputError: anything that leaves a doubt about voxels or geometry; the message names the
            file and the attribute.
    """
    chosen = choose_series(path, series)
    return read_series(
        chosen, path, frame=frame, max_voxels=max_voxels, allow_constant=allow_constant
    )


@quiet()
@np.errstate(all="ignore")  # what overflows is counted and refused by the checks
def read_series(
    series: Series,
    path: Path,
    *,
    frame: int | None = None,
    max_voxels: int = 2**31,
    allow_constant: bool = False,
) -> VolumeFile:
    """Read a series that ``dicom_scan`` found; the rest as in ``read_dicom``."""
    if series.broken:
        raise series.broken[0].error
    stack, pixels, dropped = _stack(series.files, path, frame, max_voxels)
    array, storage, notes = _voxels(stack.frames, pixels)
    checks.check_volume(array, stack.affine, path, allow_constant=allow_constant)
    if dropped:
        notes += (f"{dropped} identical copies of slices dropped",)
    volume = Volume(
        array,
        stack.affine,
        storage=storage,
        slice_thickness=stack.frames[0].thickness,
        stacked_along=2,
        name=str(path),
    )
    return VolumeFile(volume, path, _digest(stack.frames, pixels), (*stack.notes, *notes))


def series_stack(
    path: Path, *, series: str | None = None, frame: int | None = None, max_voxels: int = 2**31
) -> tuple[Stack, dict[Path, Dataset]]:
    """The slices behind ``read_dicom``'s array, in its order, and the header of each file.

    Pixels are not read. Raises InputError as ``read_dicom`` does for a bad geometry.
    """
    files = choose_series(path, series).files
    stack, _, _ = _grid(files, path, frame, max_voxels)
    return stack, {file.path: file.header for file in files}


def _stack(
    files: Sequence[File], path: Path, frame: int | None, max_voxels: int
) -> tuple[Stack, dict[Path, Pixels], int]:
    """The checked stack, the pixels of its files, and how many copies were dropped."""
    stack, pixels, dropped = _grid(files, path, frame, max_voxels)
    for f in stack.frames:
        if f.path not in pixels:
            pixels[f.path] = read_pixels(f.path)
        held = len(pixels[f.path].stored)
        if f.number >= held:
            found = f"{held} frames of pixel data"
            raise InputError(f.path, expected=f"at least {f.number + 1}", found=found)
    return stack, pixels, dropped


def _grid(
    files: Sequence[File], path: Path, frame: int | None, max_voxels: int
) -> tuple[Stack, dict[Path, Pixels], int]:
    """The checked stack; pixels only of files that had to be compared with their copies."""
    _check_one_scan(files)
    kept, pixels = _without_copies(files)
    frames = [f for file in kept for f in frames_of(file)]
    rows, columns = frames[0].size
    checks.check_size((columns, rows, len(frames)), path, max_voxels)
    return stack_frames(frames, path, frame), pixels, len(files) - len(kept)


def _check_one_scan(files: Sequence[File]) -> None:
    """Refuse a SeriesInstanceUID that two scans share."""
    for file in files:
        for key, value, first in zip(SHARED, file.shared, files[0].shared, strict=True):
            if value != first:
                found = f"another than in {files[0].path.name}"
                raise InputError(file.path, expected=f"one {key} in the series", found=found)


def _without_copies(files: Sequence[File]) -> tuple[list[File], dict[Path, Pixels]]:
    """Files with each SOPInstanceUID once. Raises InputError if two of one UID differ."""
    kept: dict[str, File] = {}
    pixels: dict[Path, Pixels] = {}
    for file in files:
        first = kept.setdefault(file.sop_uid or str(file.path), file)
        if first is file:
            continue
        for path in (first.path, file.path):
            if path not in pixels:
                pixels[path] = read_pixels(path)
        same = all(
            np.array_equal(a.position, b.position) and np.array_equal(a.along_row, b.along_row)
            for a, b in zip(frames_of(first), frames_of(file), strict=False)
        )
        if not same or not np.array_equal(pixels[first.path].stored, pixels[file.path].stored):
            raise InputError(
                file.path,
                expected=f"the same image as {first.path.name}, of the same SOPInstanceUID",
                found="another",
            )
    return list(kept.values()), pixels


def _voxels(
    frames: Sequence[Frame], pixels: dict[Path, Pixels]
) -> tuple[NDArray[np.generic], Storage, tuple[str, ...]]:
    """Values ``(columns, rows, slices)``, their storage, and notes."""
    notes: tuple[str, ...] = ()
    if any(pixels[f.path].inverted for f in frames):
        notes += ("MONOCHROME1 inverted, so that bright is high",)
    slices = [pixels[f.path].stored[f.number] for f in frames]
    if len({(f.slope, f.intercept) for f in frames}) == 1:
        stored = np.stack(slices).transpose(2, 1, 0)
        storage = Storage(stored.dtype, frames[0].slope, frames[0].intercept)
        return storage.decode(stored), storage, notes
    notes += ("RescaleSlope differs between slices: voxels become float32",)
    values = np.stack(
        [s.astype(np.float64) * f.slope + f.intercept for s, f in zip(slices, frames, strict=True)]
    )
    return values.transpose(2, 1, 0), Storage(np.dtype(np.float32)), notes


def _digest(frames: Sequence[Frame], pixels: dict[Path, Pixels]) -> str:
    """SHA-256 over the sorted lines "SOPInstanceUID file-digest", whatever the files are called."""
    lines = sorted({f"{f.uid} {pixels[f.path].sha256}\n" for f in frames})
    return hashlib.sha256("".join(lines).encode()).hexdigest()
