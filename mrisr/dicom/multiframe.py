"""What segmentations and parametric maps share: one file of many frames, made by highdicom.

highdicom lays out pixels, frames and dimensions. It gets one header that describes the first plane
of the new grid, and what it would take from a source (patient, study, references, equipment) is set
here, so that these objects say the same as the derived MR series beside them.

Sources: DICOM PS3.3 C.7.6.16.2 (functional groups: pixel measures, plane orientation and position,
derivation image), C.12.4 (General Reference), C.12.2 (Common Instance Reference).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID, MRImageStorage

from mrisr.core import geometry
from mrisr.core.errors import OutputError
from mrisr.core.volume import Volume
from mrisr.dicom import attributes
from mrisr.dicom.derivation import PRODUCT, Derivation, code_item, describe_series, reference
from mrisr.dicom.planes import Planes
from mrisr.dicom.source import Slice, Source
from mrisr.dicom.text import decimal, millimetres
from mrisr.dicom.uids import IMPLEMENTATION, derived_uid

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_TOLERANCE_MM = 1e-3
#: Pixels nearer than this are one place: positions that were written and read once differ by less.
_SAME_PLACE_MM = 1e-2
#: Attributes of patient, study and series that every kind of image may carry.
_CARRIED = tuple(
    keyword
    for keyword in (*attributes.PATIENT, *attributes.STUDY, *attributes.SERIES)
    if keyword != "AnatomicRegionSequence"  # these objects have a functional group for it
)
#: Attributes that tell which scanner made the source, for highdicom's item about it.
_SCANNER = tuple(k for k in attributes.EQUIPMENT if k != "ContributingEquipmentSequence")
_LOSSY = ["LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"]
#: Bytes that one attribute can hold (PS3.5 7.1: an even length of 32 bits, not all ones).
_MOST = 2**32 - 2


@dataclass(frozen=True, eq=False)
class Seen:
    """What a reader makes of a file: ``array`` (columns, rows, slices), ``affine`` to mm RAS."""

    array: NDArray[np.generic]
    affine: geometry.Affine
    frame_of_reference_uid: str


def check_fits(path: Path, size: int) -> None:
    """Refuse pixels that one file cannot hold. Raises OutputError."""
    if size > _MOST:
        raise OutputError(f"{path}: one file holds {_MOST} bytes of pixels, not {size}")


def common_arguments(
    planes: Planes, volume: Volume, source: Source, derivation: Derivation
) -> dict[str, Any]:
    """Arguments that both of highdicom's constructors take; ``complete`` sets the identifiers."""
    import highdicom as hd

    patient = hd.CoordinateSystemNames.PATIENT
    header = _header(planes, volume, source)
    return {
        "source_images": [header],
        "series_instance_uid": derived_uid("series to be named"),
        "series_number": 1,
        "sop_instance_uid": derived_uid("instance to be named"),
        "instance_number": 1,
        "manufacturer": "The mrisr authors",
        "manufacturer_model_name": PRODUCT,
        "software_versions": f"mrisr {derivation.version}",
        # Type 1 in Enhanced General Equipment; the weights are what tells two installations apart.
        "device_serial_number": derivation.model_sha256 or derivation.version,
        "content_description": derivation.label[:64],
        "pixel_measures": hd.PixelMeasuresSequence.from_sequence(_measures(planes, volume)),
        "plane_orientation": hd.PlaneOrientationSequence(
            patient, [float(v) for v in planes.orientation]
        ),
        "plane_positions": [
            hd.PlanePositionSequence(patient, [float(millimetres(float(p))) for p in position])
            for position in map(planes.position, range(len(planes.source_slices)))
        ],
    }


def _header(planes: Planes, volume: Volume, source: Source) -> Dataset:
    """A classic MR image at the first plane, without a patient."""
    first = source.slices[0].carried
    d = Dataset()
    d.SOPClassUID, d.SOPInstanceUID = MRImageStorage, derived_uid("template", source.series_uid)
    d.Modality, d.SeriesInstanceUID = "MR", source.series_uid
    d.StudyInstanceUID, d.FrameOfReferenceUID = source.study_uid, source.frame_of_reference_uid
    for keyword in attributes.TYPE_2:
        setattr(d, keyword, None)
    for keyword in (*_SCANNER, *_LOSSY):
        if keyword in first:
            d[keyword] = deepcopy(first[keyword])
    d.Rows, d.Columns = (volume.shape[axis] for axis in planes.axes[1:])
    d.ImageOrientationPatient = list(planes.orientation)
    d.ImagePositionPatient = [millimetres(float(p)) for p in planes.position(0)]
    d.update(_measures(planes, volume)[0])
    return d


def _measures(planes: Planes, volume: Volume) -> Any:
    item = Dataset()
    between = decimal(round(planes.spacing[2], 6))
    thickness = volume.slice_thickness
    item.PixelSpacing = planes.pixel_spacing
    item.SliceThickness = between if thickness is None else decimal(round(thickness, 6))
    item.SpacingBetweenSlices = between
    holder = Dataset()
    holder.PixelMeasuresSequence = [item]
    return holder.PixelMeasuresSequence


def complete(
    d: Dataset,
    planes: Planes,
    source: Source,
    derivation: Derivation,
    *,
    content: str,
    key: str,
    code: Code,
) -> None:
    """Give highdicom's object the source's patient and study, our series, names and references.

    Args:
        d: the object, changed in place.
        planes: in the order of the pixels that highdicom got.
        source, derivation: as of the derived MR series.
        content: what it holds, in a word or two, for SeriesDescription.
        key: what decides the voxels besides the derivation; UIDs follow from it too.
        code: how it was derived from the source.
    """
    first = source.slices[0].carried
    for keyword in _CARRIED:
        if keyword in first:
            d[keyword] = deepcopy(first[keyword])
    scanner_and_library = list(d.ContributingEquipmentSequence)
    describe_series(d, source, replace(derivation, key=f"{derivation.key}\0{key}"), content)
    *earlier, ours = d.ContributingEquipmentSequence
    scanner_and_library[-1].ContributionDateTime = ours.get("ContributionDateTime", "")
    d.ContributingEquipmentSequence = [*earlier, *scanner_and_library, ours]
    d.DerivationCodeSequence = [code_item(code)]
    _name(d, derivation)
    d.SourceImageSequence = _references(source.slices)
    _refer_to_series(d, source)
    _refer_by_frame(d, planes, source, code)
    group = d.SharedFunctionalGroupsSequence[0]
    group.PlaneOrientationSequence[0].ImageOrientationPatient = list(planes.orientation)


def _name(d: Dataset, derivation: Derivation) -> None:
    """UIDs of the instance and its dimensions, which highdicom draws at random."""
    d.SOPInstanceUID = derived_uid(d.SeriesInstanceUID, 0)
    dimensions = derived_uid(d.SOPInstanceUID, "dimensions")
    for item in (*d.DimensionOrganizationSequence, *d.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions
    d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
    d.file_meta.ImplementationClassUID = UID(IMPLEMENTATION)
    d.file_meta.ImplementationVersionName = f"MRISR_{derivation.version}"[:16]


def _references(slices: Sequence[Slice]) -> list[Dataset]:
    """One item for each file; the slices of an enhanced one share it and are told by frame number."""
    items: dict[str, Dataset] = {}
    for s in slices:
        items.setdefault(s.sop_uid, reference(s))
    for uid, item in items.items():
        numbers = [s.frame for s in slices if s.sop_uid == uid and s.frame is not None]
        if numbers:
            item.ReferencedFrameNumber = sorted(numbers)
    return list(items.values())


def _refer_to_series(d: Dataset, source: Source) -> None:
    """ReferencedSeriesSequence; an archive or a viewer finds the images of the source by it."""
    series = Dataset()
    series.SeriesInstanceUID = source.series_uid
    series.ReferencedInstanceSequence = []
    for uid, sop_class in {s.sop_uid: s.sop_class for s in source.slices}.items():
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        series.ReferencedInstanceSequence.append(item)
    d.ReferencedSeriesSequence = [series]


def _refer_by_frame(d: Dataset, planes: Planes, source: Source, code: Code) -> None:
    """DerivationImageSequence: the source slices of each plane, once for all where they are the same."""
    size = (int(d.Columns), int(d.Rows))
    items = [
        _derivation_image(k, size, planes, source, code) for k in range(len(planes.source_slices))
    ]
    alike = len(set(planes.source_slices)) == 1 < len(items)
    if alike:
        d.SharedFunctionalGroupsSequence[0].DerivationImageSequence = items[0]
    normal = planes.affine[:3, 2] / planes.spacing[2]
    for group in d.PerFrameFunctionalGroupsSequence:
        if alike:
            del group.DerivationImageSequence
            continue
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        along = float((position - planes.position(0)) @ normal)
        group.DerivationImageSequence = items[round(along / planes.spacing[2])]


def _derivation_image(
    k: int, size: tuple[int, int], planes: Planes, source: Source, code: Code
) -> list[Dataset]:
    slices = planes.source_slices[k]
    if not slices:
        return []
    item = Dataset()
    item.DerivationCodeSequence = [code_item(code)]
    # One item for each slice: highdicom does not read several frame numbers in one.
    item.SourceImageSequence = [reference(source.slices[j]) for j in slices]
    same = size == source.shape[:2] and len(slices) == 1 and _coincide(k, slices[0], planes, source)
    for image in item.SourceImageSequence:
        image.SpatialLocationsPreserved = "YES" if same else "NO"
    return [item]


def _coincide(k: int, j: int, planes: Planes, source: Source) -> bool:
    """Whether a plane's corners lie on those of a source slice."""
    lps = _RAS_TO_LPS @ source.affine
    steps = np.array([[0, 0], [1, 0], [0, 1]]) * (np.array(source.shape[:2]) - 1)
    theirs = lps[:3, 3] + j * lps[:3, 2] + steps @ lps[:3, :2].T
    ours = planes.position(k) + steps @ planes.affine[:3, :2].T
    return bool(np.abs(theirs - ours).max() < _SAME_PLACE_MM)


def seen_by(volume: Any) -> Seen:
    """A ``highdicom.Volume``, (slice, row, column) and LPS, in the order that ``read_dicom`` has."""
    lps = np.asarray(volume.affine)[:, [2, 1, 0, 3]]
    array = volume.array.transpose(2, 1, 0)
    if np.cross(lps[:3, 0], lps[:3, 1]) @ lps[:3, 2] < 0:
        lps[:3, 3] += (array.shape[2] - 1) * lps[:3, 2]
        lps[:3, 2] *= -1
        array = array[:, :, ::-1]
    uid = str(volume.frame_of_reference_uid)
    return Seen(np.ascontiguousarray(array), _RAS_TO_LPS @ lps, uid)


def check_back(
    path: Path, seen: Seen, array: NDArray[np.generic], planes: Planes, source: Source
) -> None:
    """Compare what a reader makes of a file with what was to be written.

    Args:
        path: named in the message.
        seen: from the file.
        array: of the volume that ``planes`` cuts.
        planes, source: give positions and frame of reference.

    Raises:
        OutputError: a voxel differs, a corner lies more than 0.001 mm off, or another frame of
            reference.
    """
    wanted = planes.cut(array).transpose(2, 1, 0)
    wrong = []
    if seen.array.shape != wanted.shape:
        wrong.append(f"it reads back as {seen.array.shape}, not {wanted.shape}")
    elif different := int(np.count_nonzero(seen.array != wanted)):
        wrong.append(f"{different} of {wanted.size} voxels read back differently")
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=float)
    corners[:, :3] *= np.array(wanted.shape) - 1
    off = float(np.abs(corners @ (seen.affine - _RAS_TO_LPS @ planes.affine).T).max())
    if off > _TOLERANCE_MM:
        wrong.append(f"its positions read back {off:.2g} mm off")
    if seen.frame_of_reference_uid != source.frame_of_reference_uid:
        wrong.append("its frame of reference is not the source's")
    if wrong:
        raise OutputError(f"{path}: not written, {'; '.join(wrong)}")
