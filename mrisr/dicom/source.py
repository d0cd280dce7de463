"""The series that an object is derived from: what it passes on."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import DataElement, Dataset
from pydicom.uid import UID

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.volume import Volume
from mrisr.dicom.attributes import CARRIED, FROM_ENHANCED
from mrisr.dicom.text import decimal, millimetres
from mrisr.dicom.uids import derived_uid
from mrisr.io.dicom import DicomFile, read_stack
from mrisr.io.dicom_frames import Frame, frame_attributes
from mrisr.io.dicom_scan import printable, quiet
from mrisr.io.dicom_stack import Stack

_LOSSY = {
    "1.2.840.10008.1.2.4.50",  # JPEG baseline
    "1.2.840.10008.1.2.4.51",  # JPEG extended
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
}


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice of the source: where it came from and the attributes that may be carried on.

    Attributes:
        sop_class, sop_uid: of its file.
        frame: frame number, from 1, in a multi-frame file.
        carried: the attributes of ``attributes.CARRIED`` that it has, all of them at the top level,
            also those that an enhanced file keeps in functional groups.
    """

    sop_class: str
    sop_uid: str
    frame: int | None
    carried: Dataset


@dataclass(frozen=True, eq=False)
class Source:
    """A series as the source of derived objects.

    Attributes:
        slices: in the order of the array that ``read_dicom`` returns.
        shape: ``(columns, rows, slices)``.
        affine: voxel indices to mm, RAS.
        orientation: ImageOrientationPatient as the file spells it.
        series_uid: SeriesInstanceUID.
        number: SeriesNumber, 0 where there is none.
        description: SeriesDescription, on one line.
        rescale_type: RescaleType, if there is a rescale at all.
    """

    slices: tuple[Slice, ...]
    shape: tuple[int, int, int]
    affine: geometry.Affine
    orientation: tuple[str, ...]
    series_uid: str
    number: int
    description: str
    rescale_type: str | None

    @property
    def study_uid(self) -> str:
        return str(self.slices[0].carried.StudyInstanceUID)

    @property
    def frame_of_reference_uid(self) -> str:
        return str(self.slices[0].carried.FrameOfReferenceUID)


def read_source(path: Path, *, series: str | None = None, frame: int | None = None) -> Source:
    """The series at ``path`` as a source; pixels are not read.

    Args:
        path: a folder or a file.
        series: UID, number or description, where there are several series.
        frame: which volume, from 1, where the series holds several.

    Raises:
        InputError: as ``mrisr.io.dicom.read_dicom`` and ``source_of``.
    """
    return _source(read_stack(path, series=series, frame=frame), path)


def source_of(file: DicomFile) -> Source:
    """The series that a volume was read from as a source; nothing is read again.

    Raises:
        InputError: another modality than MR; no StudyInstanceUID or SOPInstanceUID.
    """
    return _source(file.stack, file.path or Path(file.volume.name))


@quiet()
def _source(stack: Stack, path: Path) -> Source:
    first = stack.frames[0]
    header = first.header
    modality = printable(header.get("Modality"))
    if modality not in ("", "MR"):
        raise InputError(path, expected="an MR series (Modality MR)", found=modality)
    rows, columns = first.size
    number = printable(header.get("SeriesNumber"))
    return Source(
        slices=tuple(_slice(f) for f in stack.frames),
        shape=(columns, rows, len(stack.frames)),
        affine=stack.affine,
        orientation=_orientation(first),
        series_uid=str(header.SeriesInstanceUID),
        number=int(number) if number.isdecimal() else 0,
        description=printable(header.get("SeriesDescription")),
        rescale_type=_rescale_type(first),
    )


def check_same_place(volume: Volume, source: Source, template: Path) -> None:
    """Refuse a template whose images do not show the place that the volume shows.

    Coordinates of both count as those of one scanner: the centre of one must lie inside the other.

    Raises:
        InputError: neither centre does.
    """
    grids = ((volume.affine, volume.shape), (source.affine, source.shape))
    for one, (affine, limits) in (grids, grids[::-1]):
        index = (np.linalg.inv(affine) @ [*_centre(*one), 1.0])[:3]
        if np.all((index > -0.5) & (index < np.array(limits) - 0.5)):
            return
    apart = float(np.linalg.norm(_centre(*grids[0]) - _centre(*grids[1])))
    raise InputError(
        template,
        expected="a template that shows the same place as the input",
        found=f"one whose centre is {apart:.0f} mm away",
    )


def _centre(affine: geometry.Affine, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    centre: NDArray[np.float64] = affine @ [*((np.array(shape) - 1) / 2), 1.0]
    return centre[:3]


def _slice(f: Frame) -> Slice:
    header = f.header
    for keyword in ("StudyInstanceUID", "SOPInstanceUID"):
        if not UID(str(header.get(keyword, ""))).is_valid:
            raise InputError(f.path, expected=f"a valid {keyword}", found=_found(header, keyword))
    carried = Dataset()
    for keyword in CARRIED:
        if keyword in header:
            carried[keyword] = _without_private(deepcopy(header[keyword]))
    multiframe = "PerFrameFunctionalGroupsSequence" in header
    if multiframe:
        _flatten(carried, header, frame_attributes(header, f.number))
    if not carried.get("FrameOfReferenceUID"):
        carried.FrameOfReferenceUID = derived_uid("frame of reference", header.SeriesInstanceUID)
    if _is_lossy(header):
        carried.LossyImageCompression = "01"
    return Slice(
        str(header.SOPClassUID),
        str(header.SOPInstanceUID),
        f.number + 1 if multiframe else None,
        carried,
    )


def _found(header: Dataset, keyword: str) -> str:
    value = printable(header.get(keyword))
    return repr(value) if value else "none"


def _without_private(element: DataElement) -> DataElement:
    if element.VR == "SQ":
        for item in element.value:
            item.remove_private_tags()
    return element


def _flatten(carried: Dataset, header: Dataset, attributes: dict[str, Any]) -> None:
    """Attributes of an enhanced file's functional groups as those of a classic one."""
    top = {key: header[key].value for key in FROM_ENHANCED if key in header}
    found = {**top, **attributes}
    renamed = {classic: found[key] for key, classic in FROM_ENHANCED.items() if key in found}
    if found.get("InPlanePhaseEncodingDirection") == "COLUMN":
        renamed["InPlanePhaseEncodingDirection"] = "COL"
    for keyword, value in {**found, **renamed}.items():
        if keyword in CARRIED and value not in (None, "", []):
            single = keyword == "InversionTime" and not isinstance(value, (int, float, str))
            _set(carried, keyword, value[0] if single else value)

    def get(keyword: str) -> str:
        return str(found.get(keyword, header.get(keyword, "")))

    pulse = {"SPIN": ["SE"], "GRADIENT": ["GR"], "BOTH": ["SE", "GR"]}.get(get("EchoPulseSequence"))
    inversion = ["IR"] if get("InversionRecovery") == "YES" else []
    carried.ScanningSequence = [*(pulse or ["RM"]), *inversion]
    variants = {
        "SK": get("SegmentedKSpaceTraversal") in ("PARTIAL", "FULL"),
        "SS": get("SteadyStatePulseSequence") not in ("", "NONE"),
        "SP": get("Spoiling") not in ("", "NONE"),
        "MTC": get("MagnetizationTransfer") not in ("", "NONE"),
        "OSP": get("OversamplingPhase") not in ("", "NONE"),
    }
    carried.SequenceVariant = [name for name, true in variants.items() if true] or "NONE"


def _set(carried: Dataset, keyword: str, value: Any) -> None:
    """Set a number as the classic attribute's representation holds it: 16 characters at most."""
    if isinstance(value, float):
        value = decimal(value)
    setattr(carried, keyword, value)


def _is_lossy(header: Dataset) -> bool:
    syntax = str(header.file_meta.get("TransferSyntaxUID", ""))
    return syntax in _LOSSY


def _orientation(f: Frame) -> tuple[str, ...]:
    if "ImageOrientationPatient" in f.header:
        stated = [str(v).strip() for v in f.header.ImageOrientationPatient]
        if all(0 < len(text) <= 16 for text in stated):
            return tuple(stated)
    return tuple(millimetres(float(v)) for v in (*f.along_row, *f.along_column))


def _rescale_type(f: Frame) -> str | None:
    header = f.header
    found = {key: header[key].value for key in ("RescaleSlope", "RescaleType") if key in header}
    if "PerFrameFunctionalGroupsSequence" in header:
        found |= frame_attributes(header, f.number)
    if "RescaleSlope" not in found:
        return None
    return printable(found.get("RescaleType")) or "US"
