"""Volumes of patients that lie in folders, or stand in a manifest, with the labels beside them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mrisr.core.errors import InputError
from mrisr.io import patients, stem
from mrisr.io.paths import NOWHERE, as_text, ending, leads_nowhere, subject_folders
from mrisr.io.tables import ManifestError, read_rows

if TYPE_CHECKING:
    from mrisr.io.dicom_scan import Series

#: What the name of an image holds, and how that of the labels of its zones begins, in lower case: of one
#: reader or, numbered or named further, of several.
IMAGE, LABELS = "t2", "zones"
_EXPECTED = "a folder per patient with T2w volumes, or a manifest"
#: Receives a line for each volume.
Report = Callable[[str], None]


class Entry(NamedTuple):
    """A volume: its patient and series, its path, the volumes of labels that may belong to it, and the UID of
    a DICOM series that is not all that lies there."""

    case: str
    series: str
    path: Path
    labels: tuple[Path, ...] = ()
    uid: str | None = None


def find_sources(data: Path, report: Report = lambda line: None) -> list[Entry]:
    """Find the volumes of a manifest or of a folder.

    A manifest is a CSV with the columns ``case`` and ``path`` (relative to the manifest) and
    optionally ``series`` and ``labels`` (paths parted by ``;``). A folder holds one folder per patient with
    image files (``t2`` in the name, and PI-CAI's ``_cor`` and ``_sag`` beside a ``_t2w``) or DICOM series
    inside, or such files directly; of a BIDS tree only ``sub-*`` are patients. Where the names of files in a
    folder tell several patients, these are the cases. Files ``zones*`` beside an image are its labels if
    they lie on its grid. What is left out is reported.

    Raises:
        ManifestError: a manifest's column or cell is missing, or a volume stands there twice.
        InputError: nothing is found, or folders of several patients only.
    """
    said = set[str]()

    def say(line: str) -> None:
        if line not in said:
            said.add(line)
            report(as_text(line))

    found = _from_manifest(data) if data.is_file() else _from_folder(data, say)
    sources = [e._replace(case=as_text(e.case), series=as_text(e.series)) for e in found]
    if not sources:
        raise InputError(data, expected=_EXPECTED, found="none")
    return sources


def _from_manifest(path: Path) -> list[Entry]:
    def check(names: Sequence[str]) -> list[str]:
        if {"case", "path"} <= set(names):
            return []
        found = ", ".join(map(repr, names)) or "none"
        return [f"expected the columns case, path, found {found}"]

    entries: list[Entry] = []
    faults: list[str] = []
    lines: dict[tuple[str, str], int] = {}
    for line, row in read_rows(path, check, "volumes"):
        if None in row or None in row.values():
            faults.append(f"line {line}: expected as many cells as columns")
            continue
        faults += [
            f"line {line}: {n}: expected one, found none" for n in ("case", "path") if not row[n]
        ]
        volume = path.parent / row["path"]
        named = [p for p in row.get("labels", "").split(";") if p.strip()]
        labels = tuple(path.parent / p.strip() for p in named)
        series = row.get("series") or stem(volume)
        first = lines.setdefault((row["case"], series), line)
        if first != line:
            told = f"{row['case']} {series} stands in line {first} already"
            faults.append(f"line {line}: {told}; a column series tells volumes apart")
        entries.append(Entry(row["case"], series, volume, labels))
    if faults:
        raise ManifestError(path, faults, "volumes")
    return entries


def _from_folder(folder: Path, report: Report) -> list[Entry]:
    """Entries of a folder per patient; volumes that lie in ``folder`` itself are a patient each, unless their
    names tell of one."""
    from mrisr.io.dicom_scan import quiet

    if not folder.is_dir():
        return []
    loose = sorted(p for p in folder.iterdir() if not p.is_dir() and not p.name.startswith("."))
    images = _images(loose, report)
    found = [Entry(patients.patient_of(p.name) or stem(p), stem(p), p) for p in images]
    kinds = (".dcm", ".ima", *patients.PACKED)
    left = [p for p in loose if p not in images and p.is_file()]
    if left := [p for p in left if ending(p) or p.suffix.lower() in kinds]:
        report(f"left out: {folder}/{patients.counted(left)}, in no patient's folder")
    cases, others = subject_folders(folder)
    for path in (*others, *(p for p in loose if leads_nowhere(p) and not ending(p))):
        why = NOWHERE if leads_nowhere(path) else "which is no subject's folder of this BIDS tree"
        report(f"left out: {path}, {why}")
    crowds: dict[Path, str] = {}
    with quiet():
        for case in cases:
            found += _from_case(case, report, crowds, single=len(cases) == 1 and not images)
    if crowds and not found:
        advised = " or ".join(crowds.values())
        raise InputError(folder, expected=_EXPECTED, found=f"several patients; {advised}")
    for case, advised in crowds.items():
        report(f"left out: {case}, which holds several patients; {advised}")
    return found


def _from_case(
    case: Path, report: Report, crowds: dict[Path, str], *, single: bool
) -> Iterator[Entry]:
    """Entries of a patient's folder, the ``single`` one or not; where it holds several patients, ``crowds``
    gets what to do."""
    files = [p for p in sorted(case.rglob("*")) if not p.is_dir() and not _hidden(p, case)]
    images, (series, damaged) = _images(files, report), _series(case)
    slices, known = patients.files_of(series), patients.identified(series)
    bids = case.name.startswith("sub-")
    held = patients.in_subjects([*images, *slices], case)
    if not bids and (held or len(known) > 1):
        crowds[case] = patients.advice(held or slices)
        return
    if dead := patients.dead_links(case, {path.parent for path in slices} | damaged):
        report(f"left out: {dead[0].parent}/{patients.counted(dead)}, {NOWHERE}")
    found = [Entry(case.name, "", path) for path in (*images, *damaged)]
    found += _stacks(case, series, report)
    if not found and not (files and all(map(leads_nowhere, files))):
        why = f"which holds no volume *{IMAGE}* and no DICOM image"
        report(f"left out: {case}, {why}{f': {patients.counted(files)}' if files else ''}")
    if len(patients.named_patients(path.name for path in images)) > 1:
        found = [
            entry._replace(case=patients.patient_of(entry.path.name) or case.name)
            for entry in found
        ]
    elif single and not bids:
        found = _of_one(found, case, [] if known else patients.studies(series), images, report)
    taken: Counter[tuple[str, str]] = Counter()
    for entry in sorted(found, key=lambda entry: entry.path):
        name = stem(entry.path)
        taken[entry.case, name] += 1
        number = taken[entry.case, name]
        beside = (case if entry.path == case else entry.path.parent).iterdir()
        labels = _there(
            [p for p in beside if ending(p) and p.name.lower().startswith(LABELS)], report
        )
        plainest_first = sorted(labels, key=lambda p: (len(p.name), p.name))
        series_name = name if number == 1 else f"{name}-{number}"
        yield entry._replace(series=series_name, labels=tuple(plainest_first))


def _of_one(
    found: list[Entry],
    case: Path,
    unknown: list[list["Series"]],
    images: list[Path],
    report: Report,
) -> list[Entry]:
    """Entries of the only folder that there is, which may be one patient's or hold one folder for each: DICOM
    studies of unknown patients are told by their folders, other images are taken for one patient's."""
    slices = [path for group in unknown for path in patients.files_of(group)]
    if patients.folders_of(unknown):
        place = patients.common_folder(slices)
        report(
            f"note: no image in {case} has a PatientID; each folder in {place} counts as a patient"
        )
        return [
            e._replace(case=e.path.relative_to(place).parts[0]) if place in e.path.parents else e
            for e in found
        ]
    if len(unknown) > 1 or len({path.parent for path in images}) > 1:
        what = patients.advice([*images, *slices])
        report(f"note: all of {case} counts as one patient; if it is several, {what}")
    return found


def _stacks(case: Path, series: list["Series"], report: Report) -> Iterator[Entry]:
    """Entries of DICOM series: any that has a folder of its own, and those among others that are T2w."""
    for one in series:
        place, uid = patients.lying(one, series)
        if patients.alone(one, series) or patients.is_t2w(one):
            yield Entry(case.name, "", place, uid=uid)
        else:
            report(f"left out: {place}, {patients.in_words(one)}, no T2w stack")


def _series(case: Path) -> tuple[list["Series"], set[Path]]:
    """DICOM series, whatever their files are called, and other folders with damaged or missing images."""
    from mrisr.io.dicom_scan import find_series

    try:
        found = find_series(case)
    except InputError as error:
        return [], set() if "no DICOM image" in error.found else {Path(error.source).parent}
    damaged = {Path(error.source).parent for error in found[0].broken}
    return found, damaged - {path.parent for path in patients.files_of(found)}


def _images(files: Iterable[Path], report: Report) -> list[Path]:
    """The volumes among files that are images by their names."""
    stems = {path: stem(path).lower() for path in files if ending(path)}
    found = {path for path in stems if IMAGE in path.name.lower()}
    begun = {(p.parent, stems[p][:-3]) for p in found if stems[p].endswith("_t2w")}
    for path, name in stems.items():
        if name.endswith(("cor", "sag")) and (path.parent, name[:-3]) in begun:
            found.add(path)
    return _there(found, report)


def _there(paths: Iterable[Path], report: Report) -> list[Path]:
    """Those of the paths that are files; dead links are reported."""
    paths = sorted(paths)
    for path in paths:
        if leads_nowhere(path):
            report(f"left out: {path}, {NOWHERE}")
    return [path for path in paths if path.is_file()]


def _hidden(path: Path, root: Path) -> bool:
    """True where a name below ``root`` starts with a dot, as those of unfinished outputs do."""
    return any(part.startswith(".") for part in path.relative_to(root).parts)
