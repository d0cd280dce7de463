"""One file of many frames, made by highdicom, for segmentations and parametric maps.

highdicom lays out pixels, frames and dimensions. It gets one header that describes the first plane
of the new grid, and what it would take from a source (patient, study, references, equipment) is set
here, so that these objects say the same as the derived MR series beside them.

Sources: DICOM PS3.3 C.7.6.16.2 (functional groups: pixel measures, plane orientation and position,
derivation image), C.12.4 (General Reference), C.12.2 (Common Instance Reference).
"""

from __future__ import annotations

from collections.abc import Callable
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
from mrisr.dicom.attributes import code_item, derived_uid
from mrisr.dicom.derivation import MANUFACTURER, PRODUCT, Derivation, describe, reference, sign
from mrisr.dicom.planes import Planes, planes_of
from mrisr.dicom.source import Source, copied
from mrisr.io.atomic import atomic_path
from mrisr.io.dicom_scan import quiet, reason
from mrisr.io.paths import check_output

if TYPE_CHECKING:
    import highdicom as hd

#: Attributes of patient, study and series that every kind of image may carry.
_CARRIED = {*attributes.PATIENT, *attributes.STUDY, *attributes.SERIES}
_CARRIED -= {"AnatomicRegionSequence"}  # these objects have a functional group for it
#: Attributes that tell which scanner made the source, for highdicom's item about it, and of lossy images.
_SCANNER = {*attributes.EQUIPMENT} - {"ContributingEquipmentSequence"}
_LOSSY = {"LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"}
#: Bytes that one attribute can hold (PS3.5 7.1: an even length of 32 bits, not all ones).
_MOST = 2**32 - 2


@dataclass(frozen=True, eq=False)
class Content:
    """The content of one file."""

    name: str  #: in a word or two, for SeriesDescription
    key: str  #: what decides the voxels besides the derivation; UIDs follow from it too
    code: Code  #: how it was derived from the source
    #: highdicom's object, from the arguments that all kinds have in common.
    make: Callable[[dict[str, Any]], Any]
    read: Callable[[Path], hd.Volume]  #: the file as highdicom reads it back
    size: int  #: bytes of its pixels


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
        OutputError: the file exists, cannot be written, would be larger than DICOM allows, or does not
            read back: another voxel, a corner more than 0.001 mm off, another frame of reference.
    """
    path = check_output(path, force=force)
    if content.size > _MOST:
        raise OutputError(f"{path}: one file holds {_MOST} bytes of pixels, not {content.size}")
    planes = planes_of(volume, source)
    with atomic_path(path, overwrite=force, size=content.size) as temporary, quiet():
        d = content.make(_arguments(planes.cut(array), planes, source, derivation))
        _complete(d, planes, source, derivation, content)
        d.save_as(temporary, enforce_file_format=True)
        try:
            back = content.read(temporary)
        except Exception as error:  # highdicom and pydicom raise almost anything on damaged files
            found = error.found if isinstance(error, InputError) else reason(error)
            raise OutputError(f"{path}: not written, it does not read back ({found})") from error
        wrong = planes.differences(array, *as_read_dicom(back))
        if str(back.frame_of_reference_uid) != source.frame_of_reference_uid:
            wrong.append("its frame of reference is not the source's")
        if wrong:
            raise OutputError(f"{path}: not written, {'; '.join(wrong)}")
    return path


def as_read_dicom(volume: hd.Volume) -> tuple[NDArray[np.generic], geometry.Affine]:
    """Array and affine, mm RAS, of a ``highdicom.Volume``, in the order that ``read_dicom`` has.

    highdicom counts (slice, row, column) in LPS, slices in either direction.
    """
    lps = np.asarray(volume.affine)[:, [2, 1, 0, 3]]
    array = volume.array.transpose(2, 1, 0)
    if np.linalg.det(lps) < 0:
        lps[:3, 3] += (array.shape[2] - 1) * lps[:3, 2]
        lps[:3, 2] *= -1
        array = array[:, :, ::-1]
    return np.ascontiguousarray(array), geometry.LPS_TO_RAS @ lps


def _arguments(
    array: NDArray[np.generic], planes: Planes, source: Source, derivation: Derivation
) -> dict[str, Any]:
    """Arguments that both of highdicom's constructors take; ``_complete`` sets the identifiers."""
    import highdicom as hd

    pixels = hd.Volume(
        np.ascontiguousarray(array.transpose(2, 1, 0)),
        planes.affine[:, [2, 1, 0, 3]],
        coordinate_system="PATIENT",
        frame_of_reference_uid=source.frame_of_reference_uid,
    )
    return {
        "pixel_array": pixels,
        "source_images": [_template(array.shape, planes, source)],
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
    }


def _template(shape: tuple[int, ...], planes: Planes, source: Source) -> Dataset:
    """A classic MR image at the first plane, without a patient."""
    d = Dataset()
    d.SOPClassUID, d.SOPInstanceUID = MRImageStorage, derived_uid("template", source.series_uid)
    d.Modality, d.SeriesInstanceUID = "MR", source.series_uid
    d.StudyInstanceUID = source.slices[0].carried.StudyInstanceUID
    d.FrameOfReferenceUID = source.frame_of_reference_uid
    for keyword in attributes.TYPE_2:
        setattr(d, keyword, None)
    d.update(copied(source.slices[0].carried, _SCANNER | _LOSSY))
    d.Columns, d.Rows, _ = shape
    d.ImageOrientationPatient = list(planes.orientation)
    d.ImagePositionPatient = planes.place(0)
    d.update(planes.measures())
    return d


def _complete(
    d: Any, planes: Planes, source: Source, derivation: Derivation, content: Content
) -> None:
    """Give highdicom's object the source's patient and study, our series, names and references."""
    d.update(copied(source.slices[0].carried, _CARRIED))
    derivation = replace(derivation, key=f"{derivation.key}\0{content.key}")
    describe(d, source, derivation, content.code, content.name)
    sign(d, 0, derivation)
    dimensions = derived_uid(d.SOPInstanceUID, "dimensions")  # drawn at random by highdicom
    for item in (*d.DimensionOrganizationSequence, *d.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions
    shared = d.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = list(planes.orientation)
    shared.PixelMeasuresSequence = [planes.measures()]
    _refer_to_files(d, source)
    _refer_by_frame(d, planes, source, content.code)


def _refer_to_files(d: Any, source: Source) -> None:
    """Set SourceImageSequence and ReferencedSeriesSequence: an item for each file, with its frame numbers."""
    items = {s.sop_uid: reference(s) for s in source.slices}
    for uid, item in items.items():
        if "ReferencedFrameNumber" in item:
            numbers = [s.frame for s in source.slices if s.sop_uid == uid]
            item.ReferencedFrameNumber = sorted(n for n in numbers if n is not None)
    d.SourceImageSequence = list(items.values())
    series = Dataset()
    series.SeriesInstanceUID = source.series_uid
    whole = ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID")
    series.ReferencedInstanceSequence = [copied(item, whole) for item in items.values()]
    d.ReferencedSeriesSequence = [series]


def _refer_by_frame(d: Any, planes: Planes, source: Source, code: Code) -> None:
    """Set DerivationImageSequence: the source slices of each plane, once for all if they are the same."""
    size, count = (int(d.Columns), int(d.Rows), 1), len(planes.source_slices)
    items = [_derivation_images(k, size, planes, source, code) for k in range(count)]
    alike = len(set(planes.source_slices)) == 1 < len(items)
    if alike:
        d.SharedFunctionalGroupsSequence[0].DerivationImageSequence = items[0]
    for group in d.PerFrameFunctionalGroupsSequence:
        place = group.PlanePositionSequence[0]
        k = planes.nearest(place.ImagePositionPatient)
        place.ImagePositionPatient = planes.place(k)
        if alike:
            del group.DerivationImageSequence
        else:
            group.DerivationImageSequence = items[k]


def _derivation_images(
    k: int, size: tuple[int, int, int], planes: Planes, source: Source, code: Code
) -> list[Dataset]:
    """An item of DerivationImageSequence for plane ``k``, none where it is made from no slice."""
    slices = planes.source_slices[k]
    item = Dataset()
    item.DerivationCodeSequence = [code_item(code)]
    # One item for each slice: highdicom does not read several frame numbers in one.
    item.SourceImageSequence = [reference(source.slices[j]) for j in slices]
    for j, image in zip(slices, item.SourceImageSequence, strict=True):
        ours = _at_slice(k, planes.affine)
        own = _at_slice(j, geometry.LPS_TO_RAS @ source.affine)
        same = geometry.same_grid(size, ours, (*source.shape[:2], 1), own)
        image.SpatialLocationsPreserved = "YES" if same and len(slices) == 1 else "NO"
    return [item] if slices else []


def _at_slice(k: int, affine: geometry.Affine) -> geometry.Affine:
    moved = affine.copy()
    moved[:3, 3] += k * affine[:3, 2]
    return moved
