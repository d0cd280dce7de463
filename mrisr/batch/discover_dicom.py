"""The T2w stacks of DICOM studies, by what their headers say of planes and sequences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mrisr.batch.manifest import StackSource
from mrisr.core.errors import InputError

Report = Callable[[str], None]
#: Words of a SeriesDescription, in lower case, by which other series are told, and T2w ones.
_OTHER = re.compile(
    r"dwi|diff|adc|dce|dyn|perf|t1|loc|scout|survey|t2\*|map|super-resolved",
)
_T2W = re.compile(r"t2|tse|fse")
#: Echo and repetition times in ms from which a series without a telling description counts as T2w.
_LEAST_TE, _LEAST_TR = 60.0, 1500.0
_PLANES = ("sagittal", "coronal", "axial")


def dicom_studies(folder: Path, report: Report) -> Iterator[tuple[str, dict[str, StackSource]]]:
    """Session and sources of each DICOM study below a subject's folder.

    Studies are told apart by StudyInstanceUID. A subject with one has no session; several are numbered in the
    order of their dates.
    """
    from mrisr.io.dicom_scan import Series, find_series, quiet

    try:
        found = find_series(folder)
    except InputError as error:
        why = "holds no volume and no DICOM" if "no DICOM image" in error.found else "is damaged"
        report(f"left out: {folder.name}, which {why}")
        return
    studies: dict[str, list[Series]] = {}
    with quiet():
        for series in found:
            header = series.files[0].header
            studies.setdefault(str(header.get("StudyInstanceUID", "")), []).append(series)
        ordered = sorted(
            studies.values(),
            key=lambda s: [
                str(s[0].files[0].header.get(k, "")) for k in ("StudyDate", "StudyTime")
            ],
        )
        for number, members in enumerate(ordered, start=1):
            session = str(number) if len(ordered) > 1 else ""
            yield session, _stacks(members, folder, report)


def _stacks(members: list[Any], folder: Path, report: Report) -> dict[str, StackSource]:
    """The T2w stack of each plane; of several, that of the smallest pixels, then of the most slices."""
    chosen: dict[str, Any] = {}
    for series in sorted(members, key=lambda s: (_pixel_mm(s.files[0].header), -len(s.files))):
        plane = _plane(series.files[0].header)
        if not _is_t2w(series) or plane is None:
            report(f"left out: {folder.name}, {_told(series)}, no T2w stack of one plane")
        elif plane in chosen:
            report(f"left out: {folder.name}, {_told(series)}, a second {plane} T2w stack")
        else:
            chosen[plane] = series
    return {plane: _source(series, members, folder) for plane, series in chosen.items()}


def _source(series: Any, members: list[Any], folder: Path) -> StackSource:
    """The series' own folder where it is alone there, else the folder that holds it, and its UID."""
    places = {file.path.parent for file in series.files}
    if len(places) == 1:
        place = places.pop()
        others = (f.path for s in members if s is not series for f in s.files)
        if not any(place == path.parent or place in path.parents for path in others):
            return StackSource(place)
        return StackSource(place, series.uid)
    return StackSource(folder, series.uid)


def _is_t2w(series: Any) -> bool:
    words = series.description.lower()
    if _OTHER.search(words):
        return False
    if _T2W.search(words):
        return True
    header = series.files[0].header
    te, tr = (_number(header.get(key)) for key in ("EchoTime", "RepetitionTime"))
    return (
        te >= _LEAST_TE and tr >= _LEAST_TR and "EP" not in _texts(header.get("ScanningSequence"))
    )


def _plane(header: Any) -> str | None:
    """The plane of a series by the orientation of its first image."""
    orientation = _attribute(header, "ImageOrientationPatient", "PlaneOrientationSequence")
    try:
        row, column = np.asarray(orientation, dtype=np.float64).reshape(2, 3)
    except (TypeError, ValueError):
        return None
    return _PLANES[int(np.argmax(np.abs(np.cross(row, column))))]


def _pixel_mm(header: Any) -> float:
    spacing = _attribute(header, "PixelSpacing", "PixelMeasuresSequence")
    try:
        return round(float(spacing[0]), 2)
    except (TypeError, ValueError, IndexError):
        return np.inf


def _attribute(header: Any, keyword: str, sequence: str) -> Any:
    """An attribute of a classic image, or of the first frame of a multi-frame one."""
    value = header.get(keyword)
    for group in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        if value is None and header.get(group):
            inner = header[group][0].get(sequence)
            value = inner[0].get(keyword) if inner else None
    return value


def _told(series: Any) -> str:
    return (
        f"series {series.number or 'without a number'} ({series.description or 'no description'})"
    )


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(v) for v in value or ()]
