"""Studies for a manifest: in folders of patients, in BIDS trees, and in folders of DICOM studies.

A subject is called after its folder, never after what DICOM says of the patient.
"""

import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mrisr.batch.manifest import StackSource, Study
from mrisr.batch.names import LABELS, read_json
from mrisr.core.errors import InputError
from mrisr.io import patients
from mrisr.io.paths import NOWHERE, as_text, ending, leads_nowhere, stem, subject_folders

if TYPE_CHECKING:
    from mrisr.io.dicom_scan import Series

Report = Callable[[str], None]
#: Files of a patient's folder, by their name without ending.
PATIENT_FILES = {"t2w_ax": "axial", "t2w_cor": "coronal", "t2w_sag": "sagittal", "zones": LABELS}
#: The share by which the edges of a cube may differ.
_CUBE = 0.1
#: Planes whose normal lies along each axis of the patient.
_AXES = ("sagittal", "coronal", "axial")
#: Endings of files that belong into a subject's folder, besides those of volumes.
_LOOSE = (".dcm", ".ima", *patients.PACKED)
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
        elif path.is_file() and (ending(path) or path.suffix.lower() in _LOOSE):
            say(f"left out: {path.name}, which lies in no subject's folder")
        elif path in others and not every_stack:
            say(f"left out: {path.name}, which is no subject's folder (sub-*) of this BIDS tree")
    for folder in (f for f in folders if not only or f.name in only):
        single = len(folders) == 1
        for subject, session, sources in _sessions(folder, say, every_stack, single):
            where = f"{folder.name}{f' {session}' if session else ''}"
            if "axial" not in sources:
                say(f"left out: {where}, of which no axial T2w stack can be read")
            elif any(
                as_text(p) != p for p in (str(s.path.relative_to(data)) for s in sources.values())
            ):
                say(f"left out: {where}, in whose path a name is no UTF-8")
            else:
                name = _safe(subject.removeprefix("sub-"), given, say)
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
    folder: Path, report: Report, every_stack: bool, single: bool
) -> Iterator[tuple[str, str, dict[str, StackSource]]]:
    """Subject, session and sources of each study in a folder, the ``single`` one of all subjects or not."""
    anatomies = [folder / "anat", *sorted(folder.glob("ses-*/anat"))]
    anatomies = [a for a in anatomies if a.is_dir()] if folder.name.startswith("sub-") else []
    volumes = [] if anatomies else _volumes(folder, "*", report)
    stems = [stem(path).lower() for path in volumes]
    begun = {stem(p)[: -len("_t2w")] for p in volumes if stem(p).lower().endswith("_t2w")}
    if not anatomies and "t2w_ax" not in stems and not begun:
        yield from _dicom_studies(folder, report, single and not folder.name.startswith("sub-"))
        return
    if dead := patients.dead_links(folder):
        report(f"left out: {folder.name}/{patients.counted(dead)}, {NOWHERE}")
    for anat in anatomies:
        session = anat.parent.name.removeprefix("ses-") if anat.parent != folder else ""
        for name, sources in _bids(anat, folder, report, every_stack):
            yield folder.name, "_".join(filter(None, (session, name)))[:64], sources
    if "t2w_ax" in stems:
        yield folder.name, "", _patient(volumes, PATIENT_FILES, folder, report)
    elif begun:
        yield from _named_studies(sorted(begun), volumes, folder, report)


def _named_studies(
    begun: list[str], volumes: list[Path], folder: Path, report: Report
) -> Iterator[tuple[str, str, dict[str, StackSource]]]:
    """Subject, session and sources of the studies that names of volumes begin with; the subject is that of
    the folder, unless the names tell several."""
    for path in volumes:
        if not stem(path).startswith(tuple(f"{study}_" for study in begun)):
            report(f"left out: {folder.name}/{path.name}")
    several = len(patients.named_patients(begun)) > 1
    for study in begun:
        subject = (several and patients.patient_of(study)) or folder.name
        session = re.sub(r"[^A-Za-z0-9._-]+", "-", study.removeprefix(f"{subject}_"))
        own = [p for p in volumes if stem(p).rpartition("_")[0] == study]
        roles = {f"{study}_{end}".lower(): role for end, role in _STUDY_FILES.items()}
        sources = _patient(own, roles, folder, report)
        yield subject, session.strip("-._")[:64] if len(begun) > 1 else "", sources


def _patient(
    volumes: list[Path], roles: dict[str, str], folder: Path, report: Report
) -> dict[str, StackSource]:
    """The files of a study in a patient's folder, by their names without ending."""
    sources: dict[str, StackSource] = {}
    for path in volumes:
        role = roles.get(stem(path).lower())
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
    planes = [(path, *_plane(path)) for path in _volumes(anat, "*_T2w.*", report)]
    for path, plane, why in sorted(planes, key=lambda p: bool(p[2]) and not every_stack):
        if why and plane:
            report(f"note: {path.name} counts as {plane} by its name; it cannot be read ({why})")
        elif why:
            report(f"left out: {path.name}, which cannot be read ({why})")
        first = sources.get(plane or "")
        label = re.sub(r"^sub-[^_]+_(ses-[^_]+_)?|_?T2w$", "", stem(path))
        if first and every_stack and plane == "axial" and label:
            further[label] = StackSource(path)
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
    others = {plane: sources[plane] for plane in ("coronal", "sagittal") if plane in sources}
    yield from ((name, {"axial": source, **others}) for name, source in further.items())


def _volumes(folder: Path, pattern: str, report: Report) -> list[Path]:
    """Volume files of a folder; a line is said of each that is a dead link."""
    found = [p for p in sorted(folder.glob(pattern)) if ending(p) and not p.name.startswith(".")]
    for path in found:
        if leads_nowhere(path):
            report(f"left out: {folder.name}/{path.name}, {NOWHERE}")
    return [path for path in found if path.is_file()]


def _plane(path: Path) -> tuple[str | None, str]:
    """The plane of a stack, and why it cannot be read where it cannot. A name counts only there, or where the
    voxels are cubes."""
    from mrisr.io import read_volume

    label = re.search(r"_acq-([A-Za-z0-9]+)", path.name)
    plane = _PLANES.get(label[1].lower()) if label else None
    try:
        volume = read_volume(path)
    except InputError as error:
        return plane, f"expected {error.expected}, found {error.found}"
    cubes = np.ptp(volume.spacing) <= _CUBE * volume.spacing.min()
    return (plane if plane and cubes else volume.plane), ""


def _dicom_studies(
    folder: Path, report: Report, single: bool
) -> Iterator[tuple[str, str, dict[str, StackSource]]]:
    """Subject, session and sources of each DICOM study (StudyInstanceUID); several are numbered by their
    dates. The subject is that of the folder, unless that is the ``single`` one and no image has a patient."""
    from mrisr.io.dicom_scan import find_series, quiet

    try:
        found = find_series(folder)
    except InputError as error:
        report(f"left out: {folder.name}, {_why_none(folder, error)}")
        return
    files = patients.files_of(found)
    if len(known := patients.identified(found)) > 1:
        why = f"studies of {len(known)} patients; {patients.advice(files)}"
        report(f"left out: {folder.name}, which holds {why}")
        return
    if dead := patients.dead_links(folder, {path.parent for path in files}):
        report(f"left out: {folder.name}/{patients.counted(dead)}, {NOWHERE}")
    with quiet():
        groups = patients.studies(found)
        names = [folder.name] * len(groups)
        if not known and len(groups) > 1:
            names = (single and patients.folders_of(groups)) or names
            count = f"{len(groups)} studies count as those of {len(set(names))} subjects"
            report(f"note: {folder.name}: no image has a PatientID; {count}")
        for subject in sorted(set(names)):
            own = [members for members, name in zip(groups, names, strict=True) if name == subject]
            for number, members in enumerate(own, start=1):
                session = str(number) if len(own) > 1 else ""
                yield subject, session, _stacks(members, found, folder, report)


def _why_none(folder: Path, error: InputError) -> str:
    """The reason why a folder has no study, from that why it has no DICOM image."""
    if "no DICOM image" not in error.found and "leads nowhere" not in error.found:
        return "which is damaged"
    below = sorted(folder.rglob("*"))
    if dead := [p for p in below if leads_nowhere(p) and not p.name.startswith(".")]:
        return f"of which no axial T2w stack can be read: {patients.counted(dead)}, {NOWHERE}"
    volumes = [path for path in below if ending(path)]
    held = patients.in_subjects(volumes, folder)
    if held or len(patients.named_patients(path.name for path in volumes)) > 1:
        return f"which holds volumes of several patients; {patients.advice(held or volumes)}"
    why = f"which holds no {'t2w_ax' if volumes else 'volume'} and no DICOM"
    packed = [path for path in below if path.suffix.lower() in patients.PACKED and not ending(path)]
    return f"{why}; {patients.counted(packed)}: unpack it first" if packed else why


def _stacks(
    members: list["Series"], found: list["Series"], folder: Path, report: Report
) -> dict[str, StackSource]:
    """The T2w stack of each plane; of several, that of the smallest pixels, then of the most slices."""
    chosen: dict[str, Series] = {}
    for series in sorted(members, key=lambda s: (_pixel_mm(s.files[0].header), -len(s.files))):
        plane = _plane_of_series(series.files[0].header)
        if not patients.is_t2w(series) or plane is None:
            report(
                f"left out: {folder.name}, {patients.in_words(series)}, no T2w stack of one plane"
            )
        elif plane in chosen:
            report(
                f"left out: {folder.name}, {patients.in_words(series)}, a second {plane} T2w stack"
            )
        else:
            chosen[plane] = series
    return {plane: StackSource(*patients.lying(series, found)) for plane, series in chosen.items()}


def _plane_of_series(header: Any) -> str | None:
    """The plane of a series by the orientation of its first image."""
    orientation = patients.numbers(_attribute(header, "ImageOrientationPatient"))
    if len(orientation) != 6:
        return None
    normal = np.cross(orientation[:3], orientation[3:])
    return _AXES[int(np.argmax(np.abs(normal)))]


def _pixel_mm(header: Any) -> float:
    return round(patients.numbers(_attribute(header, "PixelSpacing"))[0], 2) or np.inf


def _attribute(header: Any, keyword: str) -> Any:
    """An attribute of a classic image, or of the first frame of a multi-frame one."""
    if header.get(keyword) is None and header.get("PerFrameFunctionalGroupsSequence"):
        from mrisr.io.dicom_frames import frame_attributes

        return frame_attributes(header, 0).get(keyword)
    return header.get(keyword)
