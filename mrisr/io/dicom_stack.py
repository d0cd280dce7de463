"""Frames of DICOM files, classic and enhanced, and their stack: positions decide, never numbers."""

import math
from collections import ChainMap
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.io.checks import MAX_SHEAR, Source
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
_COUNTING = {"SequenceName", "EchoNumbers", "TemporalPositionIdentifier", "TemporalPositionIndex"}
#: Vendors' own elements, by group, creator and element, and the attribute that says the same.
_PRIVATE = (
    (0x0019, "SIEMENS MR HEADER", 0x100C, "DiffusionBValue"),
    (0x2001, "Philips Imaging DD 001", 0x1003, "DiffusionBValue"),
    (0x0043, "GEMS_PARM_01", 0x1039, "DiffusionBValue"),
    (0x0043, "GEMS_PARM_01", 0x102F, "ComplexImageComponent"),
)
#: The first items of ImageType tell what an image shows, but for those of filters and corrections; further
#: ones where they are parts of the complex signal, or of fat and water, or maps.
_KIND_ITEMS = 4
_CORRECTIONS = {"ND", "NORM", "DIS2D", "DIS3D", "FIL", "MFSPLIT", "NONE"}
_KINDS = {"M", "P", "R", "I", "W", "F", "IP", "OP", "WATER", "FAT", "IN", "OPP", "IN_PHASE"}
_KINDS |= {"OUT_PHASE", "OPP_PHASE", "PHASE MAP", "MAGNITUDE", "PHASE", "REAL", "IMAGINARY"}
_KINDS |= {"ADC", "TRACEW", "FA", "CALC_BVALUE", "T1 MAP", "T2 MAP", "T2_STAR MAP"}

#: Slice gaps may differ from their median by this fraction (the rule of highdicom).
GAP_TOLERANCE = 0.01
_ANGLE_TOLERANCE = 1e-3
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
            return [_frame(file, 0, header.get)]
        top = {key: header[key].value for key in (*_TOLD, *_GEOMETRY) if key in header}
        count = len(header.PerFrameFunctionalGroupsSequence)
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
        labels=_private(file.header) | labels | {_KIND: "\\".join(kind)},
    )


def _private(header: Dataset) -> dict[str, str]:
    """Attributes that a file may state in its vendor's own elements only."""
    found = {}
    for group, creator, element, key in _PRIVATE:
        with suppress(Exception):  # there is none, or pydicom cannot make a number of it
            if header[group, 0x10].value == creator:
                value = header[group, element].value
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


@dataclass(frozen=True, eq=False)
class Stack:
    """A regular stack of frames."""

    frames: tuple[Frame, ...]  #: in the order of the array's last axis
    affine: geometry.Affine  #: in mm RAS
    notes: tuple[str, ...]


def stack_frames(frames: Sequence[Frame], source: Source, frame: int | None = None) -> Stack:
    """Sort one volume's frames along their normal and check that they form a regular grid.

    Array axes are (column index, row index, slice); slices run along the cross product of the row
    and column directions, so an axial stack reads L, P, S.

    Args:
        frames: of one series, in any order.
        frame: which volume, from 1, where the series holds several.

    Raises:
        InputError: mixed orientation, matrix, spacing or contrast, several volumes, a position twice, a
            missing slice, gaps that differ by more than 1%, a tilted gantry, or a single slice of
            unknown thickness.
    """
    _check_uniform(frames, source)
    normal = np.cross(frames[0].along_row, frames[0].along_column)
    frames = _one_volume(frames, normal, source, frame)
    ordered = sorted(frames, key=lambda f: float(f.position @ normal))
    step, notes = _step(ordered, normal, source)
    first = ordered[0]
    lps = np.eye(4)
    lps[:3, 0] = first.along_row * first.pixel_spacing[1]
    lps[:3, 1] = first.along_column * first.pixel_spacing[0]
    lps[:3, 2] = step
    lps[:3, 3] = first.position
    return Stack(tuple(ordered), geometry.LPS_TO_RAS @ lps, notes)


def _check_uniform(frames: Sequence[Frame], source: Source) -> None:
    first = frames[0]
    for f in frames:
        turned = np.abs([f.along_row - first.along_row, f.along_column - first.along_column])
        if turned.max() > _ANGLE_TOLERANCE:
            normals = [np.abs(np.cross(g.along_row, g.along_column)) for g in frames]
            planes = sorted({geometry.PLANES[int(n.argmax())] for n in normals})
            found = f"slices at an angle to each other ({', '.join(planes)})"
            raise InputError(source, expected="one orientation in the series", found=found)
        if f.size != first.size:
            found = f"{first.size[0]}x{first.size[1]} and {f.size[0]}x{f.size[1]} ({f.path.name})"
            raise InputError(source, expected="one matrix in the series", found=found)
        if not np.allclose(f.pixel_spacing, first.pixel_spacing, rtol=1e-4, atol=0):
            found = f"{first.pixel_spacing} and {f.pixel_spacing} mm ({f.path.name})"
            raise InputError(source, expected="one PixelSpacing in the series", found=found)


def _one_volume(
    frames: Sequence[Frame], normal: NDArray[np.float64], source: Source, frame: int | None
) -> list[Frame]:
    """The frames of the volume asked for; a series of one contrast with each position once is one volume."""
    mixed = _contrasts(frames)
    if not mixed and not _repeats(frames, normal):
        if frame not in (None, 1):
            found = f"frame {frame} asked for"
            raise InputError(source, expected="frame 1, as there is one volume", found=found)
        return list(frames)
    key, volumes = _split(frames, normal, source)
    if not volumes and mixed:
        key, values = next(iter(mixed.items()))
        expected = f"one {key} in the slices of a volume, or a regular stack of each"
        raise InputError(source, expected=expected, found=_listed(values))
    if not volumes:
        ordered = sorted(frames, key=lambda f: float(f.position @ normal))
        pair = min(pairwise(ordered), key=lambda p: float((p[1].position - p[0].position) @ normal))
        names = " and ".join(f"{f.path.name} frame {f.number + 1}" for f in pair)
        found = f"{names} both at {pair[0].position @ normal:.2f} mm"
        raise InputError(source, expected="each slice position once", found=found)
    if frame is None or not 1 <= frame <= len(volumes):
        expected = f"one volume (--frame 1 to {len(volumes)} picks)"
        found = f"{len(volumes)} volumes in the series, by {key}: {_listed(volumes)}"
        raise InputError(source, expected=expected, found=found)
    return list(volumes.values())[frame - 1]


def _listed(values: Sequence[str] | dict[str, list[Frame]]) -> str:
    told = [value or "none" for value in values]
    return ", ".join(told[:8]) + (f" and {len(told) - 8} more" if len(told) > 8 else "")


def _contrasts(frames: Sequence[Frame]) -> dict[str, list[str]]:
    """Attributes by which the frames show more than one contrast, with their values."""
    found = {}
    for key in CONTRASTS:
        values = set(_values(frames, key))
        if key in _COUNTING:
            values.discard("")
            if len(values) > 2 and 2 * len(values) >= len(frames):
                continue
        if len(values) > 1:
            found[key] = sorted(values, key=_natural)
    return found


def _values(frames: Sequence[Frame], key: str) -> list[str]:
    """Each frame's value of an attribute, empty where it has none; numbers that hardly differ are one."""
    texts = [f.labels.get(key, "") for f in frames]
    first: dict[str, str] = {}
    last = ""
    for text in sorted(set(texts), key=_natural):
        numbers = _natural(last)[0], _natural(text)[0]
        near = math.isfinite(numbers[1]) and math.isclose(*numbers, rel_tol=CONTRASTS.get(key, 0))
        last = first[text] = last if near else text
    return [first[text] for text in texts]


def _split(
    frames: Sequence[Frame], normal: NDArray[np.float64], source: Source
) -> tuple[str, dict[str, list[Frame]]]:
    """Volumes by the first attribute, or by several, with which each is one stack of one contrast.

    Where contrasts differ they may lie anywhere; what differs otherwise has the same positions each time.
    """
    gaps = np.diff(_heights(frames, normal))
    positions = 1 + int(np.count_nonzero(gaps >= GAP_TOLERANCE * _usual(gaps)))
    mixed = tuple(_contrasts(frames))
    for keys in (*((k,) for k in mixed), mixed, *((k,) for k in LABELS), LABELS[:9]):
        values = zip(*(_values(frames, k) for k in keys), strict=True)
        told = [" ".join(filter(None, v)) for v in values] or [""] * len(frames)
        names = sorted(set(told), key=_natural)
        volumes = {n: [f for f, t in zip(frames, told, strict=True) if t == n] for n in names}
        if len(volumes) > 1 and all(
            not _repeats(v, normal)
            and not _contrasts(v)
            and (len(v) == positions or (set(keys) <= set(mixed) and _regular(v, normal, source)))
            for v in volumes.values()
        ):
            return keys[0] if len(keys) == 1 else "several attributes", volumes
    return "", {}


def _regular(frames: Sequence[Frame], normal: NDArray[np.float64], source: Source) -> bool:
    """True if frames by themselves form a stack without a gap."""
    try:
        _step(sorted(frames, key=lambda f: float(f.position @ normal)), normal, source)
    except InputError:
        return False
    return True


def _natural(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text


def _heights(frames: Sequence[Frame], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sort([float(f.position @ normal) for f in frames])


def _repeats(frames: Sequence[Frame], normal: NDArray[np.float64]) -> bool:
    """True if two slices are closer than 1% of the stack's usual gap."""
    gaps = np.diff(_heights(frames, normal))
    return bool(len(gaps) and gaps.min() < GAP_TOLERANCE * _usual(gaps))


def _usual(gaps: NDArray[np.float64]) -> float:
    """Median of the gaps that are no rounding, mm; 1 where there is none."""
    apart = gaps[gaps > 1e-3]
    return float(np.median(apart)) if len(apart) else 1.0


def _step(
    ordered: Sequence[Frame], normal: NDArray[np.float64], source: Source
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Vector from one slice to the next, LPS mm, and notes."""
    first = ordered[0]
    if len(ordered) == 1:
        gap = next((g for g in (first.between, first.thickness) if g is not None and g > 0), None)
        if gap is None:
            found = "neither SpacingBetweenSlices nor SliceThickness"
            raise InputError(source, expected="the thickness of a single slice", found=found)
        return normal * gap, ("a single slice",)
    gaps = np.diff(_heights(ordered, normal))
    usual = float(np.median(gaps))
    worst = int(np.abs(gaps - usual).argmax())
    if abs(gaps[worst] - usual) > GAP_TOLERANCE * usual:
        missing = round(float(gaps[worst]) / usual) - 1
        kind = f"{missing} missing slice{'s' * (missing > 1)}" if missing > 0 else "an uneven gap"
        names = " and ".join(f.path.name for f in ordered[worst : worst + 2])
        expected = f"a slice every {usual:.4g} mm within {GAP_TOLERANCE:.0%}"
        found = f"{kind}: {gaps[worst]:.4g} mm between {names}"
        raise InputError(source, expected=expected, found=found)
    positions = np.array([f.position for f in ordered])
    step = (positions[-1] - positions[0]) / (len(ordered) - 1)
    sideways = step - (step @ normal) * normal
    tilt = float(np.linalg.norm(sideways) / np.linalg.norm(step))
    if tilt > MAX_SHEAR:
        found = f"a stack sheared by {np.degrees(np.arcsin(tilt)):.2f} degrees (gantry tilt)"
        raise InputError(source, expected="slices stacked along their normal", found=found)
    off = positions - (positions[0] + np.arange(len(ordered))[:, None] * step)
    off -= (off @ normal)[:, None] * normal
    furthest = float(np.linalg.norm(off, axis=1).max())
    if furthest > 0.1 * min(first.pixel_spacing):
        found = f"slices shifted sideways by {furthest:.2f} mm"
        raise InputError(source, expected="slices stacked along their normal", found=found)
    gap, between = float(np.linalg.norm(step)), first.between
    if between is None or abs(between - gap) <= GAP_TOLERANCE * gap:
        return step, ()
    note = f"SpacingBetweenSlices {between:g} ignored: positions are {gap:.4g} mm apart"
    return step, (note,)
