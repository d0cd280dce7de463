"""Zones of the prostate out of DICOM Segmentations, on the voxels of the image that they were drawn on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code

from mrisr.core.errors import InputError
from mrisr.core.geometry import LPS_TO_RAS, directions, placed
from mrisr.core.labels import ZONES, Misplaced, grid_of
from mrisr.core.volume import Storage, Volume, VolumeFile
from mrisr.dicom.segments import meaning_of, zone_segments
from mrisr.io.checks import check_size, readable
from mrisr.io.dicom_frames import Frame, frame_attributes, frames_of
from mrisr.io.dicom_scan import (
    BoundedFile,
    File,
    candidates,
    printable,
    quiet,
    read_file,
    undamaged,
)


def find_segmentations(folder: Path) -> list[Path]:
    """DICOM Segmentations below a folder, hidden files left out."""
    return [path for path in candidates(folder) if _is_segmentation(path)]


@quiet()
def _is_segmentation(path: Path) -> bool:
    try:
        with BoundedFile(path) as handle:
            return "SegmentSequence" in read_file(handle, header=True)
    except Exception:  # pydicom raises almost anything on what is no DICOM file
        return False


def read_zones(path: Path, image: Volume, *, max_voxels: int = 2**31) -> VolumeFile:
    """Read a DICOM Segmentation of the zones of the prostate as labels 1 and 2 on the voxels of an image.

    What a segment is, ``zone_segments`` says; its number says nothing. Frames are put on the planes of the
    image on which they lie, and planes without one are 0. Segments of other structures are left out, with
    a note.

    Args:
        path: a file, or a folder with one of both zones or with one of each.
        image: to whose voxels the labels belong.
        max_voxels: larger ones are refused before their pixels are decoded.

    Raises:
        InputError: not a segmentation, damaged, fractional, segments that tell not both zones, frames of
            a segment that is not declared, zones that overlap, or frames that lie on no plane of the image.
    """
    paths = find_segmentations(path) if path.is_dir() else [path]
    files = [_stored(p, max_voxels) for p in paths]
    # Numbers of segments, counted on from file to file.
    starts = list(accumulate((1 + max(f.labels, default=0) for f in files), initial=0))[:-1]
    counted = list(zip(starts, files, strict=True))
    labels = {start + n: label for start, f in counted for n, label in f.labels.items()}
    codes = {start + n: code for start, f in counted for n, code in f.codes.items()}
    found, notes = zone_segments(labels, codes, path)
    for name, zone in ZONES.items():
        holders = [f.path.name for k, f in counted if zone in (found.get(k + n) for n in f.labels)]
        if len(holders) > 1:
            raise InputError(path, expected=f"{name} in one file", found=", ".join(holders))
    array = np.zeros(image.shape, np.uint8)
    for start, file in counted:
        for frame, number, mask in file.masks():
            if label := found.get(start + number):
                _add(array, image, frame, mask, label)
    volume = replace(image, array=array, storage=Storage(array.dtype), name=str(path))
    digests = [f.sha256 for f in files]
    sha256 = (
        digests[0]
        if len(digests) == 1
        else hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
    )
    return VolumeFile(volume, path, sha256, notes)


@dataclass(frozen=True, eq=False)
class _Stored:
    """Frames and segments of one file."""

    path: Path
    labels: dict[int, str]  #: SegmentLabel by SegmentNumber
    codes: dict[int, Code]  #: what ``meaning_of`` says of each segment
    frames: list[Frame]
    numbers: list[int | None]  #: ReferencedSegmentNumber of each frame
    pixels: NDArray[np.generic]  #: ``(frames, rows, columns)``
    background: set[int] | None  #: values of a label map, which holds the numbers of the segments
    sha256: str

    def masks(self) -> Iterator[tuple[Frame, int, NDArray[np.bool_]]]:
        """Pixels of each segment in each frame that has some. Raises InputError for one not declared."""
        for frame, number, pixels in zip(self.frames, self.numbers, self.pixels, strict=True):
            masks = {number: pixels > 0}
            if self.background is not None:
                values = set(np.unique(pixels).tolist()) - self.background
                masks = {n: pixels == n for n in values}
            for n, mask in masks.items():
                if not mask.any():
                    continue
                if n not in self.labels:
                    expected = f"frames of the segments {', '.join(map(str, self.labels))}"
                    found = f"frame {frame.number + 1} of {'none' if n is None else n}"
                    raise InputError(self.path, expected=expected, found=found)
                yield frame, n, mask


def _stored(path: Path, max_voxels: int) -> _Stored:
    with readable(path, "a DICOM segmentation"):
        data = path.read_bytes()
    with undamaged(path, "a DICOM segmentation"):
        header = read_file(BytesIO(data))
        if "SegmentSequence" not in header:
            raise InputError(path, expected="a DICOM segmentation", found="none")
        segments = {int(item.SegmentNumber): item for item in header.SegmentSequence}
        size = int(header.Columns), int(header.Rows), int(header.get("NumberOfFrames") or 1)
        check_size(size, path, max_voxels * len(segments))
        frames = frames_of(File(path, header, "", str(header.SOPInstanceUID), "", "", ()))
        told = (frame_attributes(header, f.number).get("ReferencedSegmentNumber") for f in frames)
        numbers = [None if number is None else int(number) for number in told]
        pixels = header.pixel_array.reshape(len(frames), size[1], size[0])
        kind = str(header.SegmentationType)
        some = {0, int(header.get("MaximumFractionalValue", 0))}
        if kind == "FRACTIONAL" and not np.isin(pixels, list(some)).all():
            raise InputError(path, expected="a segmentation by yes or no", found="a fractional one")
        codes = {n: _meaning(item) for n, item in segments.items()}
        labels = {n: printable(item.get("SegmentLabel")) for n, item in segments.items()}
        background = {0, int(header.get("PixelPaddingValue") or 0)} if kind == "LABELMAP" else None
    return _Stored(
        path, labels, codes, frames, numbers, pixels, background, hashlib.sha256(data).hexdigest()
    )


def _meaning(segment: Dataset) -> Code:
    """What the codes of type and region say; an empty code where there are none."""
    codes = []
    for keyword in ("SegmentedPropertyTypeCodeSequence", "AnatomicRegionSequence"):
        item = (segment.get(keyword) or [Dataset()])[0]
        meaning, scheme, value = (
            printable(item.get(key))
            for key in ("CodeMeaning", "CodingSchemeDesignator", "CodeValue")
        )
        codes.append(Code(value, {"SNM3": "SRT", "99SDM": "SRT"}.get(scheme, scheme), meaning))
    return meaning_of(printable(segment.get("SegmentLabel")), *codes)


def _add(
    array: NDArray[np.uint8], image: Volume, frame: Frame, mask: NDArray[np.bool_], label: int
) -> None:
    """Set a label where a frame has it. Raises InputError: it lies on no plane, or overlaps another."""
    normal = LPS_TO_RAS[:3, :3] @ np.cross(frame.along_row, frame.along_column)
    along = int(np.abs(directions(image.affine).T @ normal).argmax())
    lps = np.eye(4)
    lps[:3, 0] = frame.along_row * frame.pixel_spacing[1]
    lps[:3, 1] = frame.along_column * frame.pixel_spacing[0]
    lps[:3, 2] = LPS_TO_RAS[:3, :3] @ normal * image.spacing[along]
    lps[:3, 3] = frame.position
    found = placed(mask.T[:, :, None], LPS_TO_RAS @ lps, image.affine)
    there = found and tuple(slice(i, i + n) for i, n in zip(found[1], found[0].shape, strict=True))
    if not found or min(found[1]) < 0 or array[there].shape != found[0].shape:
        where = f"frame {frame.number + 1} at {', '.join(f'{v:.4g}' for v in frame.position)} mm"
        expected = f"frames on the voxels of {image.name} ({grid_of(image)})"
        raise Misplaced(frame.path, expected=expected, found=f"{where}, not on them")
    if not np.isin(array[there][found[0]], (0, label)).all():
        expected, text = "segments that do not overlap", "overlapping segments"
        raise InputError(frame.path, expected=expected, found=text)
    array[there][found[0]] = label
