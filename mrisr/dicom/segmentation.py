"""Label volumes as DICOM Segmentation, and back.

Written as BINARY: the type that archives and viewers have known for long. Every plane of every
segment is stored, also an empty one, so that the grid of the labels comes back whole.

Sources: DICOM PS3.3 A.51 (Segmentation IOD), C.8.20.2 (Segmentation Image); PS3.16 CID 7162 (algorithm
families).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydicom.sr.coding import Code

from mrisr.core.errors import InputError, UsageError
from mrisr.core.volume import Storage, Volume, VolumeFile
from mrisr.dicom.derivation import MANUFACTURER, PRODUCT, Derivation
from mrisr.dicom.multiframe import Content, as_read_dicom, write_file
from mrisr.dicom.segments import Segment
from mrisr.dicom.source import Source
from mrisr.io.checks import check_affine, check_size
from mrisr.io.dicom_scan import quiet, reason

if TYPE_CHECKING:
    import highdicom as hd

SEGMENTATION = Code("113076", "DCM", "Segmentation")
_ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")


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
    return VolumeFile(labels, path, hashlib.sha256(data).hexdigest())


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
