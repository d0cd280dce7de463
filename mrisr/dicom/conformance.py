"""What a derived series must say and validators do not look for.

dciodvfy and dcentvfy pass a careless copy that is still ORIGINAL, carries the source's
SeriesInstanceUID or states a wrong SliceThickness. These checks do not; the writer runs them before
a series takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset

from mrisr.core.errors import InputError
from mrisr.core.volume import Volume
from mrisr.dicom.derivation import EQUIPMENT, PRODUCT, RESAMPLING, SOURCE_IMAGE
from mrisr.dicom.planes import planes_of
from mrisr.dicom.source import Source
from mrisr.io.dicom import read_dicom

_KEPT = ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName", "StudyDate")
_PER_SERIES = (
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "ImageOrientationPatient",
    "Rows",
    "Columns",
    "BitsStored",
    "PixelRepresentation",
    "WindowCenter",
    "WindowWidth",
    *_KEPT,
)
_TOLERANCE_MM = 1e-3


def check_derived(folder: Path, source: Source, volume: Volume | None = None) -> list[str]:
    """What is wrong with a derived MR series; empty where nothing is.

    Args:
        folder: the series.
        source: what it was derived from.
        volume: what it should hold: voxels exactly, positions within 0.001 mm.
    """
    files = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    if not files:
        return ["no files"]
    wrong = [f"{name} differs between slices" for name in _PER_SERIES if _differs(files, name)]
    wrong += [*_identity(files, source), *_provenance(files, source), *_geometry(files)]
    for d in files:
        wrong += _file(d)
    if volume is not None:
        wrong += _content(folder, volume, source)
    return sorted(set(wrong))


def _differs(files: Sequence[Dataset], name: str) -> bool:
    return len({str(d.get(name)) for d in files}) > 1


def _identity(files: Sequence[Dataset], source: Source) -> Iterator[str]:
    first, carried = files[0], source.slices[0].carried
    for name in _KEPT:
        if (first.get(name) or "") != (carried.get(name) or ""):
            yield f"{name} is not the source's"
    if first.SeriesInstanceUID in (source.series_uid, first.StudyInstanceUID):
        yield "SeriesInstanceUID is not new"
    uids = [str(d.SOPInstanceUID) for d in files]
    if len(set(uids)) < len(uids) or {s.sop_uid for s in source.slices} & set(uids):
        yield "SOPInstanceUID is not new"
    if first.SeriesNumber == source.number:
        yield "SeriesNumber is not new"


def _provenance(files: Sequence[Dataset], source: Source) -> Iterator[str]:
    known = {s.sop_uid for s in source.slices}
    for d in files:
        if list(d.ImageType[:2]) != ["DERIVED", "SECONDARY"]:
            yield "ImageType is not DERIVED\\SECONDARY"
        if "research use only" not in d.get("DerivationDescription", "").lower():
            yield "DerivationDescription does not say research use only"
        if "super-resolved" not in d.get("SeriesDescription", ""):
            yield "SeriesDescription does not say super-resolved"
        if _code(d.get("DerivationCodeSequence")) != RESAMPLING.value:
            yield f"DerivationCodeSequence is not {RESAMPLING.value}"
        for item in d.get("SourceImageSequence", []):
            if item.ReferencedSOPInstanceUID not in known:
                yield "SourceImageSequence names an image that is not the source's"
            if _code(item.get("PurposeOfReferenceCodeSequence")) != SOURCE_IMAGE.value:
                yield f"SourceImageSequence has not the purpose {SOURCE_IMAGE.value}"
        last = (d.get("ContributingEquipmentSequence") or [Dataset()])[-1]
        ours = last.get("ManufacturerModelName") == PRODUCT
        if not ours or _code(last.get("PurposeOfReferenceCodeSequence")) != EQUIPMENT.value:
            yield "ContributingEquipmentSequence does not end with mrisr"
        lossy = any(s.carried.get("LossyImageCompression") == "01" for s in source.slices)
        if lossy and d.get("LossyImageCompression") != "01":
            yield "LossyImageCompression 01 of the source is lost"


def _code(sequence: Sequence[Dataset] | None) -> str:
    return str(sequence[0].CodeValue) if sequence else ""


def _geometry(files: Sequence[Dataset]) -> Iterator[str]:
    first = files[0]
    row, column = np.array(first.ImageOrientationPatient, dtype=float).reshape(2, 3)
    normal = np.cross(row, column)
    between = float(first.SpacingBetweenSlices)
    positions = [np.array(d.ImagePositionPatient, dtype=float) for d in files]
    for a, b in pairwise(positions):
        if np.abs(b - a - between * normal).max() > _TOLERANCE_MM:
            yield "ImagePositionPatient does not advance by SpacingBetweenSlices"
    for k, (d, position) in enumerate(zip(files, positions, strict=True)):
        if abs(float(d.SliceLocation) - float(position @ normal)) > _TOLERANCE_MM:
            yield "SliceLocation is not the position along the normal"
        if d.InstanceNumber != k + 1:
            yield "InstanceNumber does not count the slices in the order of their positions"
    if not float(first.SliceThickness) > 0:
        yield "SliceThickness is not above zero"


def _file(d: Dataset) -> Iterator[str]:
    """Rules for each file on its own."""
    if (d.file_meta.MediaStorageSOPInstanceUID, d.file_meta.MediaStorageSOPClassUID) != (
        d.SOPInstanceUID,
        d.SOPClassUID,
    ):
        yield "the file meta information names another object"
    kind = np.dtype("<i2" if d.PixelRepresentation else "<u2")
    stored = np.frombuffer(d.PixelData, dtype=kind)
    if stored.size != d.Rows * d.Columns:
        yield "PixelData is not Rows x Columns"
    if (stored.min(), stored.max()) != (d.SmallestImagePixelValue, d.LargestImagePixelValue):
        yield "SmallestImagePixelValue and LargestImagePixelValue are not those of the pixels"
    bits = d.BitsStored - d.PixelRepresentation
    if stored.max() >= 2**bits or stored.min() < -(2**bits) or d.HighBit != d.BitsStored - 1:
        yield "BitsStored does not hold the pixels"
    if not float(d.WindowWidth) > 0:
        yield "WindowWidth is not above zero"
    for element in d.iterall():
        group = element.tag.group
        if element.tag.is_private or 0x6000 <= group <= 0x60FF:
            yield f"a private attribute or an overlay is left ({element.tag})"
        if element.VR == "DS" and any(len(str(v)) > 16 for v in _values(element.value)):
            yield f"{element.keyword} is longer than 16 characters"
    for name in ("IconImageSequence", "PixelPaddingValue", "PixelPaddingRangeLimit"):
        if name in d:
            yield f"{name} is left"


def _values(value: object) -> list[object]:
    if value is None:
        return []
    return list(value) if isinstance(value, pydicom.multival.MultiValue) else [value]


def _content(folder: Path, volume: Volume, source: Source) -> Iterator[str]:
    """Compare what our reader makes of the series with what was to be written."""
    try:
        back = read_dicom(folder, allow_constant=True).volume
    except InputError as error:
        yield f"it does not read back ({error.found})"
        return
    planes = planes_of(volume, source)
    stored = volume.storage.encode(cast(NDArray[np.floating], volume.array))
    wanted = planes.cut(stored).transpose(2, 1, 0)
    if back.array.shape != wanted.shape:
        yield f"it reads back as {back.array.shape}, not {wanted.shape}"
        return
    found = back.storage.encode(cast(NDArray[np.floating], back.array))
    different = int(np.count_nonzero(found != wanted))
    if different:
        yield f"{different} of {wanted.size} voxels read back differently"
    grid = np.diag([-1.0, -1.0, 1.0, 1.0]) @ planes.affine
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=float)
    corners[:, :3] *= np.array(wanted.shape) - 1
    off = float(np.abs(corners @ (back.affine - grid).T).max())
    if off > _TOLERANCE_MM * max(1.0, float(np.abs(grid[:3, 3]).max()) / 1000):
        yield f"its positions read back {off:.2g} mm off"
