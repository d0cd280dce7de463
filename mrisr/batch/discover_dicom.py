"""The T2w stacks of DICOM studies, by what their headers say of planes and sequences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mrisr.batch.manifest import StackSource
from mrisr.core.errors import InputError
from mrisr.io.dicom_frames import frame_attributes

Report = Callable[[str], None]
#: Words of a SeriesDescription, in lower case, by which other series are told, and T2w ones.
_OTHER = re.compile(r"dwi|diff|adc|dce|dyn|perf|t1|loc|scout|survey|t2\*|map|super-resolved")
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

        def when(members: list[Series]) -> list[str]:
            header = members[0].files[0].header
            return [str(header.get(key, "")) for key in ("StudyDate", "StudyTime")]

        for number, members in enumerate(sorted(studies.values(), key=when), start=1):
            session = str(number) if len(studies) > 1 else ""
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
    if len(places) > 1:
        return StackSource(folder, series.uid)
    place = places.pop()
    others = (f.path for s in members if s is not series for f in s.files)
    alone = not any(place in path.parents for path in others)
    return StackSource(place, None if alone else series.uid)


def _is_t2w(series: Any) -> bool:
    words, header = series.description.lower(), series.files[0].header
    if _OTHER.search(words) or _T2W.search(words):
        return not _OTHER.search(words)
    te, tr = (_numbers(header.get(key))[0] for key in ("EchoTime", "RepetitionTime"))
    sequence = header.get("ScanningSequence") or ()
    return te >= _LEAST_TE and tr >= _LEAST_TR and "EP" not in sequence


def _plane(header: Any) -> str | None:
    """The plane of a series by the orientation of its first image."""
    orientation = _numbers(_attribute(header, "ImageOrientationPatient"))
    if len(orientation) != 6:
        return None
    normal = np.cross(orientation[:3], orientation[3:])
    return _PLANES[int(np.argmax(np.abs(normal)))]


def _pixel_mm(header: Any) -> float:
    return round(_numbers(_attribute(header, "PixelSpacing"))[0], 2) or np.inf


def _attribute(header: Any, keyword: str) -> Any:
    """An attribute of a classic image, or of the first frame of a multi-frame one."""
    if header.get(keyword) is None and "PerFrameFunctionalGroupsSequence" in header:
        return frame_attributes(header, 0).get(keyword)
    return header.get(keyword)


def _numbers(value: Any) -> list[float]:
    """The numbers of an attribute; a zero where it has none."""
    try:
        return [float(v) for v in np.atleast_1d(value)] or [0.0]
    except (TypeError, ValueError):
        return [0.0]


def _told(series: Any) -> str:
    number, description = series.number or "without a number", series.description
    return f"series {number} ({description or 'no description'})"
