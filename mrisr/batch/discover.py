"""Studies for a manifest: in folders of patients, in BIDS trees, and in folders of DICOM studies.

A subject is called after its folder, never after what DICOM says of the patient.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mrisr.batch.manifest import StackSource, Study
from mrisr.batch.names import LABELS
from mrisr.core import geometry
from mrisr.core.errors import InputError, MrisrError
from mrisr.io.paths import ending, stem

Report = Callable[[str], None]
#: Files of a patient's folder, by their name without ending.
PATIENT_FILES = {"t2w_ax": "axial", "t2w_cor": "coronal", "t2w_sag": "sagittal", "zones": LABELS}
#: Words of a SeriesDescription, in lower case, by which other series are told, and T2w ones.
_OTHER = re.compile(r"dwi|diff|adc|dce|dyn|perf|t1|loc|scout|survey|t2\*|map|super-resolved")
_T2W = re.compile(r"t2|tse|fse")
#: Echo and repetition times in ms from which a series without a telling description counts as T2w.
_LEAST_TE, _LEAST_TR = 60.0, 1500.0
#: Planes whose normal lies along each axis of the patient.
_AXES = ("sagittal", "coronal", "axial")
#: What an ``acq`` entity of BIDS begins with where it names the plane.
_PLANES = {"ax": "axial", "tra": "axial", "cor": "coronal", "sag": "sagittal"}


def find_studies(data: Path, report: Report = lambda line: None) -> list[Study]:
    """The studies in a folder, by subject and session. What is left out is reported, a line each.

    Args:
        data: a BIDS tree (``sub-X/[ses-Y/]anat``); or a folder with a folder for each subject that holds
            ``t2w_ax``, ``t2w_cor``, ``t2w_sag`` and ``zones`` as volumes, or DICOM studies.

    Raises:
        InputError: the folder holds no study with an axial stack.
    """
    if not data.is_dir():
        raise InputError(data, expected="a folder with studies", found="none")
    given: dict[str, str] = {}
    found: list[Study] = []
    for folder in sorted(p for p in data.iterdir() if not p.name.startswith(".")):
        if not folder.is_dir():
            if ending(folder) or folder.suffix.lower() in (".dcm", ".ima"):
                report(f"left out: {folder.name}, which lies in no subject's folder")
            continue
        for session, sources in _sessions(folder, report):
            where = f"{folder.name}{f' {session}' if session else ''}"
            if "axial" in sources:
                name = _safe(folder.name.removeprefix("sub-"), given, report)
                found.append(Study(name, session, sources))
            else:
                report(f"left out: {where}, which has no axial T2w stack")
    if not found:
        expected = "a folder per patient, a BIDS tree or DICOM studies, with axial T2w stacks"
        raise InputError(data, expected=expected, found="none")
    return found


def _safe(name: str, given: dict[str, str], report: Report) -> str:
    """The name that stands for a folder's and can be part of a path; each is given once."""
    if name not in given:
        taken = {other.casefold() for other in given.values()}
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:56] or "subject"
        chosen, number = plain, 2
        while chosen.casefold() in taken:
            chosen, number = f"{plain}-{number}", number + 1
        if chosen != name:
            report(f"note: {name!r} is called {chosen}")
        given[name] = chosen
    return given[name]


def _sessions(folder: Path, report: Report) -> Iterator[tuple[str, dict[str, StackSource]]]:
    """Session and sources of each study in a subject's folder."""
    anatomies = [folder / "anat", *sorted(folder.glob("ses-*/anat"))]
    anatomies = [a for a in anatomies if a.is_dir()] if folder.name.startswith("sub-") else []
    for anat in anatomies:
        session = anat.parent.name.removeprefix("ses-") if anat.parent != folder else ""
        yield session, _bids(anat, folder, report)
    if anatomies:
        return
    if named := _patient(folder, report):
        yield "", named
    else:
        yield from _dicom_studies(folder, report)


def _patient(folder: Path, report: Report) -> dict[str, StackSource]:
    """The files of a patient's folder; none where it has no axial one by its name."""
    volumes = [p for p in sorted(folder.iterdir()) if ending(p) and p.is_file()]
    if not any(stem(p) == "t2w_ax" for p in volumes):
        return {}
    sources: dict[str, StackSource] = {}
    for path in volumes:
        role = PATIENT_FILES.get(stem(path))
        if role is None or role in sources:
            report(f"left out: {folder.name}/{path.name}")
        else:
            sources[role] = StackSource(path)
    return sources


def _bids(anat: Path, subject: Path, report: Report) -> dict[str, StackSource]:
    """The T2w volumes of a session, by plane, and its labels where there is one set of them."""
    sources: dict[str, StackSource] = {}
    for path in _volumes(anat, "*_T2w.*"):
        plane = _plane(path, report)
        first = sources.get(plane or "")
        if first:
            report(f"left out: {path.name}, a second {plane} stack after {first.path.name}")
        elif plane is not None:
            sources[plane] = StackSource(path)
    inner = anat.relative_to(subject.parent)
    places = [anat, *sorted((subject.parent / "derivatives").glob(f"*/{inner.as_posix()}"))]
    labels = [path for place in places for path in _volumes(place, "*_dseg.*")]
    if len(labels) == 1:
        sources[LABELS] = StackSource(labels[0])
    for path in labels if len(labels) > 1 else ():
        report(f"left out: {path.name}, one of {len(labels)} sets of labels")
    return sources


def _volumes(folder: Path, pattern: str) -> list[Path]:
    return [p for p in sorted(folder.glob(pattern)) if ending(p) and p.is_file()]


def _plane(path: Path, report: Report) -> str | None:
    """The plane of a stack: what its name says, or how its voxels lie."""
    named = re.search(r"_acq-([A-Za-z0-9]+)", path.name)
    words = named[1].lower() if named else ""
    for word, plane in _PLANES.items():
        if words.startswith(word) or words.endswith(word):
            return plane
    from mrisr.io import read_volume

    try:
        volume = read_volume(path)
    except MrisrError as error:
        report(f"left out: {path.name}, which cannot be read ({error.__class__.__name__})")
        return None
    return geometry.plane(volume.affine, volume.slice_axis)


def _dicom_studies(folder: Path, report: Report) -> Iterator[tuple[str, dict[str, StackSource]]]:
    """Session and sources of each DICOM study (StudyInstanceUID); several are numbered by their dates."""
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
        plane = _plane_of_series(series.files[0].header)
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


def _plane_of_series(header: Any) -> str | None:
    """The plane of a series by the orientation of its first image."""
    orientation = _numbers(_attribute(header, "ImageOrientationPatient"))
    if len(orientation) != 6:
        return None
    normal = np.cross(orientation[:3], orientation[3:])
    return _AXES[int(np.argmax(np.abs(normal)))]


def _pixel_mm(header: Any) -> float:
    return round(_numbers(_attribute(header, "PixelSpacing"))[0], 2) or np.inf


def _attribute(header: Any, keyword: str) -> Any:
    """An attribute of a classic image, or of the first frame of a multi-frame one."""
    if header.get(keyword) is None and header.get("PerFrameFunctionalGroupsSequence"):
        from mrisr.io.dicom_stack import frame_attributes

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
