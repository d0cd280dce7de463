"""Label volumes as DICOM Segmentation, and back.

Written as BINARY: the type that archives and viewers have known for long. Every plane of every
segment is stored, also an empty one, so that the grid of the labels comes back whole.

Sources: DICOM PS3.3 A.51 (Segmentation IOD), C.8.20.2 (Segmentation Image); PS3.16 CID 7150
(categories), CID 6300 (zones of the prostate), CID 7162 (algorithm families).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code

from mrisr.core.errors import InputError, UsageError
from mrisr.core.geometry import LPS_TO_RAS, directions, placed
from mrisr.core.labels import (
    BACKGROUND,
    PZ,
    TZ,
    ZONES,
    Misplaced,
    grid_of,
    named,
    unnamed,
    zone_of,
    zones_of,
)
from mrisr.core.volume import Storage, Volume, VolumeFile
from mrisr.dicom.derivation import MANUFACTURER, PRODUCT, Derivation
from mrisr.dicom.multiframe import Content, as_read_dicom, write_file
from mrisr.dicom.source import Source
from mrisr.io.checks import check_affine, check_size, readable
from mrisr.io.dicom_scan import (
    BoundedFile,
    File,
    candidates,
    printable,
    quiet,
    read_file,
    reason,
    undamaged,
)
from mrisr.io.dicom_stack import Frame, frame_attributes, frames_of

if TYPE_CHECKING:
    import highdicom as hd

ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
SEGMENTATION = Code("113076", "DCM", "Segmentation")
_ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")


@dataclass(frozen=True)
class Segment:
    """The structure that one label stands for."""

    number: int  #: the label; the segments of a file are numbered from 1 without a gap
    name: str  #: for people, at most 64 characters
    category: Code  #: PS3.16 CID 7150
    type: Code  #: for instance PS3.16 CID 6300
    #: Recommended for display: red, green, blue from 0 to 255.
    colour: tuple[int, int, int] | None = None


_PERIPHERAL = Code("279706003", "SCT", "Peripheral zone of the prostate")
_TRANSITION = Code("399384005", "SCT", "Transition zone of the prostate")
PROSTATE_ZONES = (
    Segment(PZ, "Peripheral zone", ANATOMICAL_STRUCTURE, _PERIPHERAL, (230, 159, 0)),
    Segment(TZ, "Transition zone", ANATOMICAL_STRUCTURE, _TRANSITION, (86, 180, 233)),
)
#: Types that leave open what a segment is.
UNSPECIFIC = (
    Code("", "", ""),
    Code("85756007", "SCT", "Tissue"),
    Code("41216001", "SCT", "Prostate"),
    ANATOMICAL_STRUCTURE,
)


def write_segmentation(
    labels: Volume,
    path: Path,
    source: Source,
    derivation: Derivation,
    segments: Sequence[Segment],
    *,
    force: bool = False,
) -> Path:
    """Write a label volume as one DICOM Segmentation file, whole or not at all, and return its path.

    The file is read back by highdicom and compared before it takes its place. UIDs follow from the
    source, the derivation and the segments: a rerun gives the same.

    Args:
        labels: whole numbers, 0 for none; its grid may differ from the source's in any way, its
            frame of reference may not.
        path: of the new file.
        source: gives patient, study and frame of reference, and is referred to.
        derivation: what made the labels. SeriesDescription is its label and "segmentation";
            its ``series_offset`` should differ from that of the images beside.
        segments: what the labels stand for, numbered 1, 2 and so on. They need not all occur.
        force: replace an existing file.

    Raises:
        UsageError: the segments are not numbered from 1 without a gap.
        InputError: a label that no segment stands for, or axes that are not at right angles.
        OutputError: the file exists, cannot be written, or does not read back as it should.
    """
    numbers = _checked(labels, segments)
    # Other segments of the same labels are another file, and need other UIDs.
    told = " ".join(f"{s.number} {s.type.scheme_designator} {s.type.value}" for s in segments)
    content = Content(
        "segmentation",
        key=told,
        code=SEGMENTATION,
        make=lambda arguments: _make(segments, derivation, arguments),
        read=lambda written: _read(written, written.read_bytes(), numbers.size)[0],
        size=numbers.size * len(segments) // 8,
    )
    return write_file(numbers, labels, path, source, derivation, content, force=force)


def read_segmentation(path: Path, *, max_voxels: int = 2**31) -> VolumeFile:
    """Read a DICOM Segmentation, binary or a label map, as a label volume.

    The array is (column index, row index, slice), as ``read_dicom`` gives that of a series, and holds
    the segment numbers; planes that the file leaves out are 0.

    Args:
        path: the file.
        max_voxels: larger ones are refused before their pixels are decoded.

    Raises:
        InputError: not a segmentation, damaged, fractional, segments that overlap, or frames that are
            not on one regular grid.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        found = f"none ({reason(error)})"
        raise InputError(path, expected="a DICOM segmentation", found=found) from error
    with quiet():
        volume, thickness = _read(path, data, max_voxels)
    array, affine = as_read_dicom(volume)
    check_affine(affine, path)
    storage = Storage(array.dtype)
    labels = Volume(array, affine, storage, thickness, stacked_along=2, name=str(path))
    return VolumeFile(labels, path, _digest(data))


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
    sha256 = digests[0] if len(digests) == 1 else _digest("".join(sorted(digests)).encode())
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
    return _Stored(path, labels, codes, frames, numbers, pixels, background, _digest(data))


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


def zone_segments(
    labels: Mapping[int, str], codes: Mapping[int, Code], path: Path
) -> tuple[dict[int, int], tuple[str, ...]]:
    """Zone of each segment that is one, by its number, and notes about the others.

    A segment is what its code says (SNOMED CT or the older SRT), else its label or the meaning of its code.
    Raises InputError where none of them tells both zones.
    """
    coded = {
        n: zone.number for n, code in codes.items() for zone in PROSTATE_ZONES if code == zone.type
    }
    meant = {n: code.meaning for n, code in codes.items()}
    found = coded if set(coded.values()) == set(ZONES.values()) else None
    found = found or zones_of(labels) or zones_of(meant)
    told = {n: labels[n] or meant[n] for n in labels}
    if found is None:
        wanted = "segments of peripheral and transition zone, by their codes or labels"
        raise InputError(path, expected=wanted, found=named(told))
    notes = []
    left = {n for n in told if not found.get(n) and zone_of(told[n]) != BACKGROUND}
    if left:
        notes.append(f"segments left out: {named({n: told[n] for n in sorted(left)})}")
    if any((zone_of(labels[n]) or zone) != zone for n, zone in found.items()):
        notes.append(f"the codes of segments are followed, not their labels {named(labels)}")
    return found, tuple(notes)


def meaning_of(label: str, kind: Code, region: Code) -> Code:
    """The code that tells what a segment is: its type, or its region where type and label leave that open."""
    return region if region.value and kind in UNSPECIFIC and unnamed(label) else kind


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _checked(labels: Volume, segments: Sequence[Segment]) -> NDArray[np.unsignedinteger]:
    """The labels as unsigned numbers, all of them declared."""
    numbers = [s.number for s in segments]
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        raise UsageError(f"segments: expected the numbers 1, 2, 3 and so on, found {numbers}")
    check_affine(labels.affine, labels.name)
    array = labels.array
    if array.dtype.kind not in "iub" and not np.array_equal(array, np.rint(array)):
        expected, found = "labels that are whole numbers", "fractions or NaN"
        raise InputError(labels.name, expected=expected, found=found)
    if array.size and (array.min() < 0 or array.max() > len(numbers)):
        strange = [f"{v:g}" for v in np.unique(array) if not 0 <= v <= len(numbers)]
        found = ", ".join(strange[:5]) + (" and others" if len(strange) > 5 else "")
        raise InputError(labels.name, expected=f"labels from 0 to {len(numbers)}", found=found)
    return array.astype(np.uint8 if len(numbers) < 256 else np.uint16)


def _make(
    segments: Sequence[Segment], derivation: Derivation, arguments: dict[str, Any]
) -> hd.seg.Segmentation:
    """The file as highdicom makes it."""
    import highdicom as hd

    weights = derivation.model_sha256 or "none"
    algorithm = hd.AlgorithmIdentificationSequence(
        name=PRODUCT,
        family=_ARTIFICIAL_INTELLIGENCE,
        version=derivation.version,
        source=MANUFACTURER,
        parameters={"model_sha256": weights, "seed": str(derivation.seed)},
    )
    described = [
        hd.seg.SegmentDescription(
            segment_number=s.number,
            segment_label=s.name[:64],
            segmented_property_category=s.category,
            segmented_property_type=s.type,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            display_color=hd.color.CIELabColor.from_rgb(*s.colour) if s.colour else None,
        )
        for s in segments
    ]
    return hd.seg.Segmentation(
        **arguments,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        omit_empty_frames=False,
        content_label="SEGMENTATION",
    )


def _read(path: Path, data: bytes, max_voxels: int) -> tuple[hd.Volume, float | None]:
    """Labels and slice thickness of a file's bytes, by highdicom. Raises InputError."""
    import highdicom as hd

    try:
        found = hd.seg.segread(BytesIO(data))
        kind = str(found.SegmentationType)
        geometry = found.get_volume_geometry(allow_missing_positions=True)
        measures = found.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence") or [{}]
        thickness = float(measures[0].get("SliceThickness") or 0) or None
    except Exception as error:  # highdicom and pydicom raise almost anything on damaged files
        text = f"none ({reason(error)})"
        raise InputError(path, expected="a DICOM segmentation", found=text) from error
    if kind == "FRACTIONAL":
        raise InputError(path, expected="a segmentation by yes or no", found="a fractional one")
    if geometry is None:
        raise InputError(path, expected="frames on one regular grid", found="gaps that differ")
    check_size(geometry.spatial_shape, path, max_voxels)
    try:
        return found.get_volume(combine_segments=True, allow_missing_positions=True), thickness
    except Exception as error:
        expected, text = "a DICOM segmentation", f"damage ({reason(error)})"
        if "overlap" in str(error).lower():
            expected, text = "segments that do not overlap", "overlapping segments"
        raise InputError(path, expected=expected, found=text) from error
