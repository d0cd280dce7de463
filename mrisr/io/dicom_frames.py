"""Frames of DICOM files, classic and enhanced: where each lies, and what tells its contrast."""

from collections import ChainMap
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from mrisr.core.errors import InputError
from mrisr.io.dicom_scan import File, printable, undamaged

#: Attributes that tell the volumes of one series apart, most telling first.
LABELS = (
    "DiffusionBValue",
    "EchoTime",
    "EffectiveEchoTime",
    "ImageType",
    "FrameType",
    "SequenceName",
    "DiffusionGradientOrientation",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "StackID",
    "InversionTime",
    "AcquisitionNumber",
    "TriggerTime",
    "AcquisitionTime",
)

_KIND = "kind of image in ImageType"
#: Attributes that tell two contrasts, or two stacks, apart, and from which relative difference numbers do.
#: Repetition times vary with a trigger, flip angles a little with the power that a patient may receive.
CONTRASTS = {
    "EchoTime": 1e-3,
    "EffectiveEchoTime": 1e-3,
    "DiffusionBValue": 1e-3,
    "InversionTime": 1e-3,
    "InversionTimes": 1e-3,
    "StackID": 0.0,
    "FrameType": 0.0,
    "ComplexImageComponent": 0.0,
    _KIND: 0.0,
    "FlipAngle": 0.2,
    "RepetitionTime": 0.5,
    "SequenceName": 0.0,
    "EchoNumbers": 0.0,
    "ScanningSequence": 0.0,
    "ScanOptions": 0.0,
    "AcquisitionContrast": 0.0,
    "SpectrallySelectedSuppression": 0.0,
    "DiffusionDirectionality": 0.0,
    "TemporalPositionIdentifier": 0.0,
    "TemporalPositionIndex": 0.0,
    "ContrastBolusAgent": 0.0,
    "SeriesDescription": 0.0,
    "ProtocolName": 0.0,
    "Modality": 0.0,
    "SOPClassUID": 0.0,
}
#: Those of them that may count slices.
COUNTING = {"SequenceName", "EchoNumbers", "TemporalPositionIdentifier", "TemporalPositionIndex"}
#: Vendors' own elements, by group, creator and offset in its block, and the attribute that says the same.
_PRIVATE = (
    (0x0019, "SIEMENS MR HEADER", 0x0C, "DiffusionBValue"),
    (0x2001, "Philips Imaging DD 001", 0x03, "DiffusionBValue"),
    (0x0043, "GEMS_PARM_01", 0x39, "DiffusionBValue"),
    (0x0043, "GEMS_PARM_01", 0x2F, "ComplexImageComponent"),
)
#: The first items of ImageType tell what an image shows, but for those of filters and corrections; further
#: ones where they are parts of the complex signal, or of fat and water, or maps.
_KIND_ITEMS = 4
_CORRECTIONS = {"ND", "NORM", "DIS2D", "DIS3D", "FIL", "MFSPLIT", "NONE"}
_KINDS = {"M", "P", "R", "I", "W", "F", "IP", "OP", "WATER", "FAT", "IN", "OPP", "IN_PHASE"}
_KINDS |= {"OUT_PHASE", "OPP_PHASE", "PHASE MAP", "MAGNITUDE", "PHASE", "REAL", "IMAGINARY"}
_KINDS |= {"ADC", "TRACEW", "FA", "CALC_BVALUE", "T1 MAP", "T2 MAP", "T2_STAR MAP"}
_TOLD = tuple(dict.fromkeys((*LABELS, *(key for key in CONTRASTS if key != _KIND))))
_GEOMETRY = ("SliceThickness", "SpacingBetweenSlices", "ImageOrientationPatient", "PixelSpacing")


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a stack. Positions and directions are DICOM's LPS, lengths in mm."""

    path: Path
    header: Dataset  #: of its file, without pixels
    number: int  #: index in its file, from 0
    uid: str  #: SOPInstanceUID
    size: tuple[int, int]  #: rows and columns
    position: NDArray[np.float64]  #: centre of the first pixel, ``(3,)``
    along_row: NDArray[np.float64]  #: unit vector in which the column index grows, ``(3,)``
    along_column: NDArray[np.float64]  #: unit vector in which the row index grows, ``(3,)``
    pixel_spacing: tuple[float, float]  #: between rows, between columns
    thickness: float | None  #: SliceThickness, if stated
    between: float | None  #: SpacingBetweenSlices, if stated; informative only
    slope: float
    intercept: float
    labels: dict[str, str]  #: of ``LABELS`` and ``CONTRASTS``, those that it has, as text


def frames_of(file: File) -> list[Frame]:
    """Frames of one file. Raises InputError naming the attribute that is missing or wrong."""
    header = file.header
    with undamaged(file.path, "readable attributes", "{}"):
        stated = int(header.get("NumberOfFrames", 0) or 0)
        if "PerFrameFunctionalGroupsSequence" not in header:
            if stated > 1:
                expected = "a geometry for each frame (PerFrameFunctionalGroupsSequence)"
                raise InputError(file.path, expected=expected, found=f"{stated} frames without")
            return [_frame(file, 0, header.get, _private(header))]
        top = {key: header[key].value for key in (*_TOLD, *_GEOMETRY) if key in header}
        count = len(header.PerFrameFunctionalGroupsSequence)
        if not count or stated != count:
            found = f"{count} functional groups"
            raise InputError(file.path, expected=f"NumberOfFrames {stated}", found=found)
        private = _private(header)
        return [
            _frame(file, number, ChainMap(frame_attributes(header, number), top).get, private)
            for number in range(count)
        ]


def frame_attributes(header: Dataset, number: int) -> dict[str, Any]:
    """Attributes of an enhanced file's functional groups for one frame (from 0), by keyword.

    Those of standard macros of one item each; what a frame states goes before what all share.
    """
    own = header.PerFrameFunctionalGroupsSequence[number]
    return {
        element.keyword: element.value
        for group in (*header.get("SharedFunctionalGroupsSequence", []), own)
        for macro in group
        if macro.VR == "SQ" and not macro.tag.is_private and len(macro.value) == 1
        for element in _with_nested(macro.value[0])
        if element.keyword
    }


def _with_nested(item: Dataset) -> list[Any]:
    nested = [
        inner
        for element in item
        if element.keyword == "DiffusionGradientDirectionSequence" and len(element.value) == 1
        for inner in element.value[0]
    ]
    return [*(element for element in item if element.VR != "SQ"), *nested]


def _frame(file: File, number: int, get: Callable[[str], Any], private: dict[str, str]) -> Frame:
    path = file.path
    rows, columns = (int(file.header.get(k) or 0) for k in ("Rows", "Columns"))
    if min(rows, columns) < 1:
        expected = "Rows and Columns above zero"
        raise InputError(path, expected=expected, found=f"{rows} and {columns}")
    orientation = _numbers(get, "ImageOrientationPatient", 6, path)
    row, column = orientation[:3], orientation[3:]
    lengths = float(np.linalg.norm(row)), float(np.linalg.norm(column))
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(float(row @ column))) > 1e-3:
        found = ", ".join(f"{v:g}" for v in orientation)
        expected = "ImageOrientationPatient of two unit vectors at right angles"
        raise InputError(path, expected=expected, found=found)
    spacing = _numbers(get, "PixelSpacing", 2, path)
    if not np.all(spacing > 0):
        found = f"{spacing[0]:g}, {spacing[1]:g}"
        raise InputError(path, expected="PixelSpacing above zero", found=found)
    slope = _optional(get, "RescaleSlope", path)
    if slope == 0:
        raise InputError(path, expected="a RescaleSlope other than zero", found="0")
    if file.header.get("ModalityLUTSequence"):
        raise InputError(path, expected="a linear rescale", found="a ModalityLUTSequence")
    thickness = _optional(get, "SliceThickness", path)
    labels = {key: _label(get(key)) for key in _TOLD if get(key) not in (None, "")}
    items = enumerate(labels.get("ImageType", "").split("\\"))
    kind = [v for k, v in items if v in _KINDS or (k < _KIND_ITEMS and v not in _CORRECTIONS)]
    return Frame(
        path=path,
        header=file.header,
        number=number,
        uid=file.sop_uid,
        size=(rows, columns),
        position=_numbers(get, "ImagePositionPatient", 3, path),
        along_row=row / lengths[0],
        along_column=column / lengths[1],
        pixel_spacing=(float(spacing[0]), float(spacing[1])),
        thickness=thickness if thickness and thickness > 0 else None,
        between=_optional(get, "SpacingBetweenSlices", path),
        slope=1.0 if slope is None else slope,
        intercept=_optional(get, "RescaleIntercept", path) or 0.0,
        labels=private | labels | {_KIND: "\\".join(kind)},
    )


def _private(header: Dataset) -> dict[str, str]:
    """Attributes that a file may state in its vendor's own elements only."""
    found = {}
    groups = {tag.group for tag in header.keys()}  # noqa: SIM118 (iterating decodes elements)
    for group, creator, element, key in (told for told in _PRIVATE if told[0] in groups):
        with suppress(KeyError, TypeError, ValueError):  # there is none, or it is no number
            value = header.get_private_item(group, element, creator).value
            text = value.decode() if isinstance(value, bytes) else _label(value)
            number = float(text.split("\\")[0]) % 1e6  # GE adds 1e9 to b-values
            found[key] = f"{number:g}"
    return found


def _numbers(get: Callable[[str], Any], key: str, count: int, path: Path) -> NDArray[np.float64]:
    value = get(key)
    try:
        numbers = np.array([float(v) for v in value], dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if len(numbers) != count or not np.all(np.isfinite(numbers)):
        found = "none" if value in (None, "") else repr(printable(value))
        raise InputError(path, expected=f"{key} of {count} numbers", found=found)
    return numbers


def _optional(get: Callable[[str], Any], key: str, path: Path) -> float | None:
    value = get(key)
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise InputError(path, expected=f"a number in {key}", found=repr(printable(value)))
    return number


def _label(value: Any) -> str:
    return printable(value if isinstance(value, (str, int, float)) else "\\".join(map(str, value)))
