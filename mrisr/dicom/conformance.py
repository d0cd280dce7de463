"""Checks of a derived series that validators do not make.

dciodvfy and dcentvfy pass a careless copy that is still ORIGINAL, carries the source's
SeriesInstanceUID or states a wrong SliceThickness. These checks do not; the writer runs them before
a series takes its place.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from mrisr.core.errors import InputError
from mrisr.core.volume import Volume
from mrisr.dicom.attributes import PER_SERIES
from mrisr.dicom.derivation import EQUIPMENT, PRODUCT, RESAMPLING, SOURCE_IMAGE
from mrisr.dicom.planes import TOLERANCE_MM, planes_of
from mrisr.dicom.source import Source
from mrisr.io.dicom import read_dicom

_KEPT = ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName", "StudyDate")
_DROPPED = ("IconImageSequence", "PixelPaddingValue", "PixelPaddingRangeLimit")


def check_derived(folder: Path, source: Source, volume: Volume | None = None) -> list[str]:
    """Deviations of a derived MR series from what it must say; empty where there is none.

    Each file is opened once.

    Args:
        folder: the series.
        source: what it was derived from.
        volume: what it should hold: voxels exactly, positions within 0.001 mm.
    """
    try:
        back = read_dicom(folder, allow_constant=True, digest=False)
    except InputError as error:
        return [f"it does not read back: expected {error.expected}, found {error.found}"]
    files = [f.header for f in back.stack.frames]
    stored = back.volume.storage.encode(back.volume.array)
    differing = [k for k in (*PER_SERIES, *_KEPT) if len({str(d.get(k)) for d in files}) > 1]
    wrong = [f"{keyword} differs between slices" for keyword in differing]
    wrong += [*_identity(files, source), *_geometry(files)]
    for k, d in enumerate(files):
        wrong += [*_provenance(d, source), *_file(d, stored[:, :, k])]
    if volume is not None:
        wanted = volume.storage.encode(volume.array)
        wrong += planes_of(volume, source).differences(wanted, stored, back.volume.affine)
    return sorted(set(wrong))


def _identity(files: Sequence[Dataset], source: Source) -> Iterator[str]:
    first, carried = files[0], source.slices[0].carried
    lost = (k for k in _KEPT if (first.get(k) or "") != (carried.get(k) or ""))
    yield from (f"{keyword} is not the source's" for keyword in lost)
    if first.SeriesInstanceUID in (source.series_uid, first.StudyInstanceUID):
        yield "SeriesInstanceUID is not new"
    uids = [str(d.SOPInstanceUID) for d in files]
    if len(set(uids)) < len(uids) or {s.sop_uid for s in source.slices} & set(uids):
        yield "SOPInstanceUID is not new"
    if first.SeriesNumber == source.number:
        yield "SeriesNumber is not new"


def _provenance(d: Dataset, source: Source) -> Iterator[str]:
    if list(d.ImageType[:2]) != ["DERIVED", "SECONDARY"]:
        yield "ImageType is not DERIVED\\SECONDARY"
    if "research use only" not in d.get("DerivationDescription", "").lower():
        yield "DerivationDescription does not say research use only"
    if "super-resolved" not in d.get("SeriesDescription", ""):
        yield "SeriesDescription does not say super-resolved"
    if _code(d, "DerivationCodeSequence") != RESAMPLING.value:
        yield f"DerivationCodeSequence is not {RESAMPLING.value}"
    known = {s.sop_uid for one in (source, *source.others) for s in one.slices}
    for item in d.get("SourceImageSequence", []):
        if item.ReferencedSOPInstanceUID not in known:
            yield "SourceImageSequence names an image that is not the source's"
        if _code(item, "PurposeOfReferenceCodeSequence") != SOURCE_IMAGE.value:
            yield f"SourceImageSequence has not the purpose {SOURCE_IMAGE.value}"
    last = (d.get("ContributingEquipmentSequence") or [Dataset()])[-1]
    ours = last.get("ManufacturerModelName") == PRODUCT
    if not ours or _code(last, "PurposeOfReferenceCodeSequence") != EQUIPMENT.value:
        yield "ContributingEquipmentSequence does not end with mrisr"
    lossy = any(s.carried.get("LossyImageCompression") == "01" for s in source.slices)
    if lossy and d.get("LossyImageCompression") != "01":
        yield "LossyImageCompression 01 of the source is lost"


def _code(d: Dataset, sequence: str) -> str:
    items = d.get(sequence)
    return str(items[0].CodeValue) if items else ""


def _geometry(files: Sequence[Dataset]) -> Iterator[str]:
    first = files[0]
    row, column = np.array(first.ImageOrientationPatient, dtype=float).reshape(2, 3)
    normal = np.cross(row, column)
    between = float(first.SpacingBetweenSlices)
    positions = [np.array(d.ImagePositionPatient, dtype=float) for d in files]
    for a, b in pairwise(positions):
        if np.abs(b - a - between * normal).max() > TOLERANCE_MM:
            yield "ImagePositionPatient does not advance by SpacingBetweenSlices"
    for k, (d, position) in enumerate(zip(files, positions, strict=True)):
        if abs(float(d.SliceLocation) - float(position @ normal)) > TOLERANCE_MM:
            yield "SliceLocation is not the position along the normal"
        if d.InstanceNumber != k + 1:
            yield "InstanceNumber does not count the slices in the order of their positions"
    if not float(first.SliceThickness) > 0:
        yield "SliceThickness is not above zero"


def _file(d: Dataset, stored: NDArray[np.generic]) -> Iterator[str]:
    """Deviations of a file on its own, with its stored numbers."""
    meta, own = d.file_meta, (d.SOPInstanceUID, d.SOPClassUID)
    if (meta.MediaStorageSOPInstanceUID, meta.MediaStorageSOPClassUID) != own:
        yield "the file meta information names another object"
    if (stored.min(), stored.max()) != (d.SmallestImagePixelValue, d.LargestImagePixelValue):
        yield "SmallestImagePixelValue and LargestImagePixelValue are not those of the pixels"
    if not float(d.WindowWidth) > 0:
        yield "WindowWidth is not above zero"
    for element in d.iterall():
        if element.tag.is_private or 0x6000 <= element.tag.group <= 0x60FF:
            yield f"a private attribute or an overlay is left ({element.tag})"
        values = element.value if element.VM > 1 else [element.value]
        if element.VR == "DS" and any(len(str(v)) > 16 for v in values):
            yield f"{element.keyword} is longer than 16 characters"
    yield from (f"{keyword} is left" for keyword in _DROPPED if keyword in d)
