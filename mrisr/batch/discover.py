"""Studies for a manifest: in folders of patients, in BIDS trees, and in folders of DICOM studies.

A subject is called after its folder, never after what DICOM says of the patient.
"""

import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mrisr.batch.manifest import StackSource, Study
from mrisr.batch.names import LABELS, read_json
from mrisr.core import geometry
from mrisr.core.errors import InputError, MrisrError
from mrisr.io.paths import NOWHERE, as_text, ending, leads_nowhere, stem, subject_folders

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
#: Names of the planes, as an ``acq`` entity of BIDS has them.
_PLANES = {
    **dict.fromkeys(("ax", "axial", "tra", "trans", "transverse", "transversal"), "axial"),
    **dict.fromkeys(("cor", "coronal"), "coronal"),
    **dict.fromkeys(("sag", "sagittal"), "sagittal"),
}
#: How the names of PI-CAI's files end, after those of patient and study.
_STUDY_FILES = {"t2w": "axial", "cor": "coronal", "sag": "sagittal", "zones": LABELS}


def find_studies(
    data: Path,
    report: Report = lambda line: None,
    *,
    every_stack: bool = False,
    only: Collection[str] = (),
) -> list[Study]:
    """The studies in a folder, by subject and session. What is left out is reported, a line each.

    Args:
        data: a BIDS tree (``sub-X/[ses-Y/]anat``); or a folder with a folder for each subject that holds
            ``t2w_ax``, ``t2w_cor``, ``t2w_sag`` and ``zones`` as volumes, or PI-CAI's ``PATIENT_STUDY_t2w``,
            ``_cor`` and ``_sag``, or DICOM studies.
        every_stack: in a BIDS tree, every further axial stack of a session (run, acquisition) is a study too,
            and other folders than those of subjects are no news.
        only: folders of subjects to look into; empty for all.

    Raises:
        InputError: the folder holds no study with an axial stack.
    """
    if not data.is_dir():
        raise InputError(data, expected="a folder with studies", found="none")

    def say(line: str) -> None:
        report(as_text(line))

    given: dict[str, str] = {}
    found: list[Study] = []
    folders, others = subject_folders(data)
    for path in sorted(p for p in data.iterdir() if not p.name.startswith(".")):
        if leads_nowhere(path):
            say(f"left out: {path.name}, {NOWHERE}")
        elif path.is_file() and (ending(path) or path.suffix.lower() in (".dcm", ".ima")):
            say(f"left out: {path.name}, which lies in no subject's folder")
        elif path in others and not every_stack:
            say(f"left out: {path.name}, which is no subject's folder (sub-*) of this BIDS tree")
    for folder in (f for f in folders if not only or f.name in only):
        for session, sources in _sessions(folder, say, every_stack):
            where = f"{folder.name}{f' {session}' if session else ''}"
            if "axial" not in sources:
                say(f"left out: {where}, of which no axial T2w stack can be read")
            elif any(
                as_text(p) != p for p in (str(s.path.relative_to(data)) for s in sources.values())
            ):
                say(f"left out: {where}, in whose path a name is no UTF-8")
            else:
                name = _safe(folder.name.removeprefix("sub-"), given, say)
                found.append(Study(name, session, sources))
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


def made_by_mrisr(dataset: Path) -> bool:
    """Whether a BIDS data set is one that mrisr has made of others."""
    makers = read_json(dataset / "dataset_description.json").get("GeneratedBy")
    makers = makers if isinstance(makers, list) else []
    return any(isinstance(made, dict) and made.get("Name") == "mrisr" for made in makers)


def _sessions(
    folder: Path, report: Report, every_stack: bool
) -> Iterator[tuple[str, dict[str, StackSource]]]:
    """Session and sources of each study in a subject's folder."""
    anatomies = [folder / "anat", *sorted(folder.glob("ses-*/anat"))]
    anatomies = [a for a in anatomies if a.is_dir()] if folder.name.startswith("sub-") else []
    for anat in anatomies:
        session = anat.parent.name.removeprefix("ses-") if anat.parent != folder else ""
        for name, sources in _bids(anat, folder, report, every_stack):
            yield "_".join(filter(None, (session, name)))[:64], sources
    if anatomies:
        return
    volumes = _volumes(folder, "*", report)
    stems = [stem(path) for path in volumes]
    studies = sorted({name.removesuffix("_t2w") for name in stems if name.endswith("_t2w")})
    if "t2w_ax" in stems:
        yield "", _patient(volumes, PATIENT_FILES, folder, report)
    elif studies:
        for path, name in zip(volumes, stems, strict=True):
            if not name.startswith(tuple(f"{study}_" for study in studies)):
                report(f"left out: {folder.name}/{path.name}")
        for study in studies:
            session = re.sub(r"[^A-Za-z0-9._-]+", "-", study.removeprefix(f"{folder.name}_"))
            own = [p for p in volumes if stem(p).rpartition("_")[0] == study]
            roles = {f"{study}_{end}": role for end, role in _STUDY_FILES.items()}
            sources = _patient(own, roles, folder, report)
            yield session.strip("-._")[:64] if len(studies) > 1 else "", sources
    else:
        yield from _dicom_studies(folder, report)


def _patient(
    volumes: list[Path], roles: dict[str, str], folder: Path, report: Report
) -> dict[str, StackSource]:
    """The files of a study in a patient's folder, by their names without ending."""
    sources: dict[str, StackSource] = {}
    for path in volumes:
        role = roles.get(stem(path))
        if role is None or role in sources:
            report(f"left out: {folder.name}/{path.name}")
        else:
            sources[role] = StackSource(path)
    return sources


def _bids(
    anat: Path, subject: Path, report: Report, every_stack: bool
) -> Iterator[tuple[str, dict[str, StackSource]]]:
    """The T2w volumes of a session, by plane, and its labels where there is one set of them; then the further
    axial stacks, where they are asked for, by the entities that tell them apart."""
    sources: dict[str, StackSource] = {}
    further: dict[str, StackSource] = {}
    for path in _volumes(anat, "*_T2w.*", report):
        plane = _plane(path, report)
        first = sources.get(plane or "")
        named = re.sub(r"^sub-[^_]+_(ses-[^_]+_)?|_?T2w$", "", stem(path))
        if first and every_stack and plane == "axial" and named:
            further[named] = StackSource(path)
        elif first:
            report(f"left out: {path.name}, a second {plane} stack after {first.path.name}")
        elif plane is not None:
            sources[plane] = StackSource(path)
    inner = anat.relative_to(subject.parent).as_posix()
    derived = sorted((subject.parent / "derivatives").glob("*"))
    places = [anat, *(place / inner for place in derived if not made_by_mrisr(place))]
    labels = [path for place in places for path in _volumes(place, "*_dseg.*", report)]
    if len(labels) == 1:
        sources[LABELS] = StackSource(labels[0])
    for path in labels if len(labels) > 1 else ():
        report(f"left out: {path.name}, one of {len(labels)} sets of labels")
    yield "", sources
    planes = {plane: sources[plane] for plane in ("coronal", "sagittal") if plane in sources}
    yield from ((name, {"axial": source, **planes}) for name, source in further.items())


def _volumes(folder: Path, pattern: str, report: Report) -> list[Path]:
    """Volume files of a folder; a line is said of each that is a dead link."""
    found = [p for p in sorted(folder.glob(pattern)) if ending(p) and not p.name.startswith(".")]
    for path in found:
        if leads_nowhere(path):
            report(f"left out: {folder.name}/{path.name}, {NOWHERE}")
    return [path for path in found if path.is_file()]


def _plane(path: Path, report: Report) -> str | None:
    """The plane of a stack: what a word of its name says, or how its voxels lie."""
    named = re.search(r"_acq-([A-Za-z0-9]+)", path.name)
    if named and named[1].lower() in _PLANES:
        return _PLANES[named[1].lower()]
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
        why = "which is damaged"
        if "no DICOM image" in error.found or "leads nowhere" in error.found:
            below = sorted(folder.rglob("*"))
            volumes = any(ending(p) for p in below)
            why = f"which holds no {'t2w_ax' if volumes else 'volume'} and no DICOM"
            if dead := [p for p in below if leads_nowhere(p) and not p.name.startswith(".")]:
                names = f"{dead[0].name}{f' and {len(dead) - 1} more' if len(dead) > 1 else ''}"
                why = f"of which no axial T2w stack can be read: {names}, {NOWHERE}"
        report(f"left out: {folder.name}, {why}")
        return
    patients = len({file.shared[0] for series in found for file in series.files})
    if patients > 1:
        why = f"studies of {patients} patients; give the folder that holds a folder per subject"
        report(f"left out: {folder.name}, which holds {why}")
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
