"""The place of each frame of a DICOM file: one record for classic and for enhanced multi-frame MR."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable
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

_GEOMETRY = ("SliceThickness", "SpacingBetweenSlices", "ImageOrientationPatient", "PixelSpacing")


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a stack. Positions and directions are DICOM's LPS, lengths in mm.

    Attributes:
        path: its file.
        header: of its file, without pixels.
        number: index of the frame in the file, from 0.
        uid: SOPInstanceUID.
        size: rows and columns.
        position: centre of the first pixel, ``(3,)``.
        along_row: unit vector in which the column index grows, ``(3,)``.
        along_column: unit vector in which the row index grows, ``(3,)``.
        pixel_spacing: between rows, between columns.
        thickness: SliceThickness, if stated.
        between: SpacingBetweenSlices, if stated; informative only.
        slope: RescaleSlope.
        intercept: RescaleIntercept.
        labels: attributes of ``LABELS`` that the frame has, as text.
    """

    path: Path
    header: Dataset
    number: int
    uid: str
    size: tuple[int, int]
    position: NDArray[np.float64]
    along_row: NDArray[np.float64]
    along_column: NDArray[np.float64]
    pixel_spacing: tuple[float, float]
    thickness: float | None
    between: float | None
    slope: float
    intercept: float
    labels: dict[str, str]


def frames_of(file: File) -> list[Frame]:
    """Frames of one file. Raises InputError naming the attribute that is missing or wrong."""
    with undamaged(file.path, "readable attributes", "{}"):
        if "PerFrameFunctionalGroupsSequence" in file.header:
            return _enhanced(file)
        count = int(file.header.get("NumberOfFrames", 1) or 1)
        if count > 1:
            expected = "a geometry for each frame (PerFrameFunctionalGroupsSequence)"
            raise InputError(file.path, expected=expected, found=f"{count} frames without")
        return [_frame(file, 0, file.header.get)]


def _enhanced(file: File) -> list[Frame]:
    header = file.header
    top = {key: header[key].value for key in (*LABELS, *_GEOMETRY) if key in header}
    count = len(header.PerFrameFunctionalGroupsSequence)
    stated = int(header.get("NumberOfFrames", 0) or 0)
    if not count or stated != count:
        found = f"{count} functional groups"
        raise InputError(file.path, expected=f"NumberOfFrames {stated}", found=found)
    return [
        _frame(file, number, ChainMap(frame_attributes(header, number), top).get)
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
    """Elements of a macro and of its directly nested single items (the diffusion direction)."""
    nested = [
        inner
        for element in item
        if element.keyword == "DiffusionGradientDirectionSequence" and len(element.value) == 1
        for inner in element.value[0]
    ]
    return [*(element for element in item if element.VR != "SQ"), *nested]


def _frame(file: File, number: int, get: Callable[[str], Any]) -> Frame:
    path = file.path
    rows, columns = (int(file.header.get(k) or 0) for k in ("Rows", "Columns"))
    if min(rows, columns) < 1:
        found = f"{rows} and {columns}"
        raise InputError(path, expected="Rows and Columns above zero", found=found)
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
        labels={key: _label(get(key)) for key in LABELS if get(key) not in (None, "")},
    )


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
