"""One file of many frames, made by highdicom, for segmentations and parametric maps.

highdicom lays out pixels, frames and dimensions. It gets one header that describes the first plane
of the new grid, and what it would take from a source (patient, study, references, equipment) is set
here, so that these objects say the same as the derived MR series beside them.

Sources: DICOM PS3.3 C.7.6.16.2 (functional groups: pixel measures, plane orientation and position,
derivation image), C.12.4 (General Reference), C.12.2 (Common Instance Reference).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import MRImageStorage

from mrisr.core import geometry
from mrisr.core.errors import InputError, OutputError
from mrisr.core.volume import Volume
from mrisr.dicom import attributes
from mrisr.dicom.derivation import (
    MANUFACTURER,
    PRODUCT,
    Derivation,
    code_item,
    describe_series,
    reference,
    sign,
)
from mrisr.dicom.planes import Planes, planes_of
from mrisr.dicom.source import Slice, Source
from mrisr.dicom.text import millimetres
from mrisr.dicom.uids import derived_uid
from mrisr.io.atomic import atomic_path
from mrisr.io.dicom_scan import quiet, reason
from mrisr.io.paths import check_output

if TYPE_CHECKING:
    import highdicom as hd

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
class Content:
    """The content of one file.

    Attributes:
        name: in a word or two, for SeriesDescription.
        key: what decides the voxels besides the derivation; UIDs follow from it too.
        code: how it was derived from the source.
        make: highdicom's constructor, which gets the pixels ``(slices, rows, columns)`` and what
            all kinds have in common.
        read: the file as highdicom reads it back.
        size: bytes of its pixels.
    """

    name: str
    key: str
    code: Code
    make: Callable[..., Any]
    read: Callable[[Path], hd.Volume]
    size: int


def write_file(
    array: NDArray[np.generic],
    volume: Volume,
    path: Path,
    source: Source,
    derivation: Derivation,
    content: Content,
    *,
    force: bool,
) -> Path:
    """Write one multi-frame file, whole or not at all, once it reads back as it should.

    Args:
        array: what to write, on the grid of ``volume``.
        volume, path, source, derivation, force: as of ``write_segmentation``.
        content: what the array is.

    Raises:
        OutputError: the file exists, cannot be written, would be larger than DICOM allows, or does
            not read back: a voxel differs, a corner lies more than 0.001 mm off, or another frame of
            reference.
    """
    path = check_output(path, force=force)
    if content.size > _MOST:
        raise OutputError(f"{path}: one file holds {_MOST} bytes of pixels, not {content.size}")
    planes = planes_of(volume, source)
    with atomic_path(path, overwrite=force, size=content.size) as temporary, quiet():
        pixels = np.ascontiguousarray(planes.cut(array))
        d = content.make(pixels, **_common_arguments(planes, volume, source, derivation))
        _complete(d, planes, source, derivation, content)
        d.save_as(temporary, enforce_file_format=True)
        try:
            back = content.read(temporary)
        except Exception as error:  # highdicom and pydicom raise almost anything on damaged files
            found = error.found if isinstance(error, InputError) else reason(error)
            message = f"{path}: not written, it does not read back ({found})"
            raise OutputError(message) from error
        wrong = planes.differences(array, *in_our_order(back))
        if str(back.frame_of_reference_uid) != source.frame_of_reference_uid:
            wrong.append("its frame of reference is not the source's")
        if wrong:
            raise OutputError(f"{path}: not written, {'; '.join(wrong)}")
    return path


def in_our_order(volume: hd.Volume) -> tuple[NDArray[np.generic], geometry.Affine]:
    """Array and affine, mm RAS, of a ``highdicom.Volume``, in the order that ``read_dicom`` has.

    highdicom counts (slice, row, column) in LPS, slices in either direction.
    """
    lps = np.asarray(volume.affine)[:, [2, 1, 0, 3]]
    array = volume.array.transpose(2, 1, 0)
    if np.cross(lps[:3, 0], lps[:3, 1]) @ lps[:3, 2] < 0:
        lps[:3, 3] += (array.shape[2] - 1) * lps[:3, 2]
        lps[:3, 2] *= -1
        array = array[:, :, ::-1]
    return np.ascontiguousarray(array), geometry.LPS_TO_RAS @ lps


def _common_arguments(
    planes: Planes, volume: Volume, source: Source, derivation: Derivation
) -> dict[str, Any]:
    """Arguments that both of highdicom's constructors take; ``_complete`` sets the identifiers."""
    import highdicom as hd

    patient = hd.CoordinateSystemNames.PATIENT
    header = _header(planes, volume, source)
    return {
        "source_images": [header],
        "series_instance_uid": derived_uid("series to be named"),
        "series_number": 1,
        "sop_instance_uid": derived_uid("instance to be named"),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": PRODUCT,
        "software_versions": f"mrisr {derivation.version}",
        # Type 1 in Enhanced General Equipment; the weights are what tells two installations apart.
        "device_serial_number": derivation.model_sha256 or derivation.version,
        "content_description": derivation.label[:64],
        "pixel_measures": _measures(planes, volume),
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
    d.update(planes.measures(volume.slice_thickness))
    return d


def _measures(planes: Planes, volume: Volume) -> hd.PixelMeasuresSequence:
    import highdicom as hd

    holder = Dataset()
    holder.PixelMeasuresSequence = [planes.measures(volume.slice_thickness)]
    return hd.PixelMeasuresSequence.from_sequence(holder.PixelMeasuresSequence)


def _complete(
    d: Any, planes: Planes, source: Source, derivation: Derivation, content: Content
) -> None:
    """Give highdicom's object the source's patient and study, our series, names and references."""
    first = source.slices[0].carried
    for keyword in _CARRIED:
        if keyword in first:
            d[keyword] = deepcopy(first[keyword])
    scanner_and_library = list(d.ContributingEquipmentSequence)
    describe_series(
        d, source, replace(derivation, key=f"{derivation.key}\0{content.key}"), content.name
    )
    *earlier, ours = d.ContributingEquipmentSequence
    scanner_and_library[-1].ContributionDateTime = ours.get("ContributionDateTime", "")
    d.ContributingEquipmentSequence = [*earlier, *scanner_and_library, ours]
    d.DerivationCodeSequence = [code_item(content.code)]
    _name(d, derivation)
    d.SourceImageSequence = _references(source.slices)
    _refer_to_series(d, source)
    _refer_by_frame(d, planes, source, content.code)
    group = d.SharedFunctionalGroupsSequence[0]
    group.PlaneOrientationSequence[0].ImageOrientationPatient = list(planes.orientation)


def _name(d: Any, derivation: Derivation) -> None:
    """UIDs of the instance and its dimensions, which highdicom draws at random."""
    d.SOPInstanceUID = derived_uid(d.SeriesInstanceUID, 0)
    dimensions = derived_uid(d.SOPInstanceUID, "dimensions")
    for item in (*d.DimensionOrganizationSequence, *d.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions
    sign(d, derivation)


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


def _refer_to_series(d: Any, source: Source) -> None:
    """Set ReferencedSeriesSequence, by which archives and viewers find the source's images."""
    series = Dataset()
    series.SeriesInstanceUID = source.series_uid
    series.ReferencedInstanceSequence = []
    for uid, sop_class in {s.sop_uid: s.sop_class for s in source.slices}.items():
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        series.ReferencedInstanceSequence.append(item)
    d.ReferencedSeriesSequence = [series]


def _refer_by_frame(d: Any, planes: Planes, source: Source, code: Code) -> None:
    """Set DerivationImageSequence: the source slices of each plane, once for all if they are the same."""
    size = (int(d.Columns), int(d.Rows))
    count = len(planes.source_slices)
    items = [_derivation_image(k, size, planes, source, code) for k in range(count)]
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
    lps = geometry.LPS_TO_RAS @ source.affine
    steps = np.array([[0, 0], [1, 0], [0, 1]]) * (np.array(source.shape[:2]) - 1)
    theirs = lps[:3, 3] + j * lps[:3, 2] + steps @ lps[:3, :2].T
    ours = planes.position(k) + steps @ planes.affine[:3, :2].T
    return bool(np.abs(theirs - ours).max() < _SAME_PLACE_MM)
