"""A DICOM series, or one enhanced multi-frame file, as a Volume."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from mrisr.core.errors import InputError
from mrisr.core.volume import Storage, Volume, VolumeFile
from mrisr.io import checks
from mrisr.io.dicom_frames import Frame, frames_of
from mrisr.io.dicom_pixels import read_pixels
from mrisr.io.dicom_scan import SHARED, BoundedFile, File, Series, find_series, pick_series, quiet
from mrisr.io.dicom_stack import Stack, stack_frames

#: Bytes of a file beyond these, for its header and for each voxel, are not kept in memory.
_HEADER_BYTES, _VOXEL_BYTES = 1 << 20, 8


@dataclass(frozen=True, eq=False, kw_only=True)
class DicomFile(VolumeFile):
    """A volume that was read from DICOM."""

    stack: Stack  #: the slices of its array, whose headers give derived objects patient and study


@quiet()
@np.errstate(all="ignore")  # what overflows is counted and refused by the checks
def read_dicom(
    path: Path,
    *,
    series: str | Series | None = None,
    frame: int | None = None,
    max_voxels: int = 2**31,
    allow_constant: bool = False,
    digest: bool = True,
) -> DicomFile:
    """Read one series below a folder, or one file; each file of it is opened once.

    Slices are ordered by position. The array is (column index, row index, slice).

    Args:
        path: a folder, searched to the bottom, or a file.
        series, frame, max_voxels, allow_constant: as in ``mrisr.io.read_file``; the series may also be
            one that ``dicom_scan.find_series`` found.
        digest: False leaves the SHA-256 out.

    Raises:
        InputError: anything that leaves a doubt about voxels or geometry; the message names the
            file and the attribute.
    """
    if isinstance(series, Series):
        pixels, chosen = _Pixels(digest=digest), series
    else:
        pixels = _Pixels(series, max_voxels, digest=digest)
        chosen = pick_series(find_series(path, pixels.keep), series, path)
    stack, dropped = _stack(chosen, path, frame, max_voxels, pixels)
    for f in stack.frames:
        held = len(pixels.of(f.path))
        if f.number >= held:
            found = f"{held} frames of pixel data"
            raise InputError(f.path, expected=f"at least {f.number + 1}", found=found)
    slices = [pixels.of(f.path)[f.number] for f in stack.frames]
    sha256 = pixels.sha256(stack.frames) if digest else None
    del pixels
    array, storage, notes = _voxels(stack.frames, slices)
    checks.check_affine(stack.affine, path)
    checks.check_values(array, path, allow_constant=allow_constant)
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
    return DicomFile(volume, path, sha256, (*stack.notes, *notes), stack=stack)


@quiet()
def read_stack(
    path: Path, *, series: str | None = None, frame: int | None = None, max_voxels: int = 2**31
) -> Stack:
    """The slices behind ``read_dicom``'s array, in its order, by their headers alone; its InputErrors."""
    chosen = pick_series(find_series(path), series, path)
    return _stack(chosen, path, frame, max_voxels, _Pixels())[0]


class _Pixels:
    """Pixels of the files of the series that is to be read, and the digests of their bytes.

    A file's bytes are kept while the folder is scanned, so that none is opened twice. Nothing is kept of
    a series that will be refused anyway: a second one where ``wanted`` names none, or more than ``room``
    voxels.
    """

    def __init__(self, wanted: str | None = None, room: int = -1, *, digest: bool = False) -> None:
        self._wanted = None if wanted is None else wanted.strip().lower()
        self._room = room
        self._digest = digest
        self._uid = ""
        self._held: dict[Path, bytes] = {}
        self._pixels: dict[Path, NDArray[np.generic]] = {}
        self._sha256: dict[Path, str] = {}

    def keep(self, file: File, handle: BoundedFile) -> None:
        """Keep the bytes of an open file, if it is of the series and no larger than its voxels need."""
        self._uid = self._uid or file.series_uid
        names = (file.series_uid, file.number, file.description.lower())
        if self._wanted is None and file.series_uid != self._uid:
            self._room = -1
        elif self._wanted is not None and self._wanted not in names:
            return
        voxels = _voxel_count(file.header)
        self._room -= voxels
        if self._room < 0:
            self._held.clear()
        elif handle.size <= _HEADER_BYTES + _VOXEL_BYTES * voxels:
            handle.seek(0)
            self._held[file.path] = handle.read()

    def of(self, path: Path) -> NDArray[np.generic]:
        """Stored numbers ``(frames, rows, columns)`` of a file, decoded once. Raises InputError."""
        if path not in self._pixels:
            with checks.readable(path):
                data = self._held.pop(path) if path in self._held else path.read_bytes()
            if self._digest:
                self._sha256[path] = hashlib.sha256(data).hexdigest()
            self._pixels[path] = read_pixels(path, data)
        return self._pixels[path]

    def sha256(self, frames: Sequence[Frame]) -> str:
        """SHA-256 over the sorted lines "SOPInstanceUID file-digest", whatever the files are called."""
        lines = sorted({f"{f.uid} {self._sha256[f.path]}\n" for f in frames})
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def _voxel_count(header: Dataset) -> int:
    """Voxels that a header claims; 0 where it makes no sense, which is told later."""
    try:
        frames = max(int(header.get("NumberOfFrames") or 1), 1)
        return int(header.Rows) * int(header.Columns) * frames
    except Exception:  # pydicom raises almost anything on a value that breaks its type
        return 0


def _stack(
    series: Series, path: Path, frame: int | None, max_voxels: int, pixels: _Pixels
) -> tuple[Stack, int]:
    """The checked stack, and how many copies of slices were dropped; only their pixels are decoded."""
    if series.broken:
        raise series.broken[0]
    for file in series.files:
        for key, value, first in zip(SHARED, file.shared, series.files[0].shared, strict=True):
            if value != first:
                found = f"another than in {series.files[0].path.name}"
                raise InputError(file.path, expected=f"one {key} in the series", found=found)
    kept = _without_copies(series.files, pixels)
    frames = [f for file in kept for f in frames_of(file)]
    rows, columns = frames[0].size
    checks.check_size((columns, rows, len(frames)), path, max_voxels)
    return stack_frames(frames, path, frame), len(series.files) - len(kept)


def _without_copies(files: Sequence[File], pixels: _Pixels) -> list[File]:
    """Files with each SOPInstanceUID once. Raises InputError if two of one UID differ."""
    kept: dict[str, File] = {}
    for file in files:
        first = kept.setdefault(file.sop_uid or str(file.path), file)
        if first is file:
            continue
        same = all(
            np.array_equal(a.position, b.position) and np.array_equal(a.along_row, b.along_row)
            for a, b in zip(frames_of(first), frames_of(file), strict=False)
        ) and np.array_equal(pixels.of(first.path), pixels.of(file.path))
        if not same:
            expected = f"the same image as {first.path.name}, of the same SOPInstanceUID"
            raise InputError(file.path, expected=expected, found="another")
    return list(kept.values())


def _voxels(
    frames: Sequence[Frame], slices: list[NDArray[np.generic]]
) -> tuple[NDArray[np.generic], Storage, tuple[str, ...]]:
    """Values ``(columns, rows, slices)``, their storage, and notes; ``slices`` is emptied meanwhile."""
    notes: tuple[str, ...] = ()
    if any(f.header.PhotometricInterpretation == "MONOCHROME1" for f in frames):
        notes += ("MONOCHROME1 inverted, so that bright is high",)
    stored = np.empty((len(slices), *frames[0].size), np.result_type(*slices))
    for k in reversed(range(len(slices))):
        stored[k] = slices.pop()
    stored = stored.transpose(2, 1, 0)
    if len({(f.slope, f.intercept) for f in frames}) == 1:
        storage = Storage(stored.dtype, frames[0].slope, frames[0].intercept)
        return storage.decode(stored), storage, notes
    notes += ("RescaleSlope differs between slices: voxels become float32",)
    slopes, intercepts = np.array([(f.slope, f.intercept) for f in frames]).T
    return stored.astype(np.float64) * slopes + intercepts, Storage(np.dtype(np.float32)), notes
