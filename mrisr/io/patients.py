"""Patients and their T2w series below a folder, as far as names and DICOM tell of them."""

import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mrisr.io.paths import leads_nowhere

if TYPE_CHECKING:
    from mrisr.io.dicom_scan import Series

#: Endings of packed files, of which nothing is read.
PACKED = (".zip", ".gz", ".tar", ".tgz", ".bz2", ".xz", ".7z", ".rar")
#: How the name of a volume begins that tells its patient: in BIDS, and the two numbers of PI-CAI.
_PATIENT = re.compile(r"(sub-[A-Za-z0-9]+|\d{5}(?=_\d{7}))(?=_|$)")
#: What stands for a PatientID that was taken away.
_NOBODY = re.compile(r"|anon|anonymous|anonymi[sz]ed|unknown|none|removed")
#: Words of a SeriesDescription, in lower case, by which other series are told, and T2w ones.
_OTHER = re.compile(r"dwi|diff|adc|dce|dyn|perf|t1|loc|scout|survey|t2\*|map|super-resolved")
_T2W = re.compile(r"t2|tse|fse")
#: Echo and repetition times in ms from which a series without a telling description counts as T2w.
_LEAST_TE, _LEAST_TR = 60.0, 1500.0


def patient_of(name: str) -> str | None:
    """The patient that the name of a volume tells, or None.

    >>> patient_of("10000_1000000_t2w.mha"), patient_of("sub-01_acq-ax_T2w.nii"), patient_of("t2w_ax.nii")
    ('10000', 'sub-01', None)
    """
    found = _PATIENT.match(name)
    return found[1] if found else None


def named_patients(names: Iterable[str]) -> set[str]:
    """The patients that names of volumes tell."""
    return {patient for patient in map(patient_of, names) if patient}


def in_subjects(paths: Iterable[Path], root: Path) -> list[Path]:
    """Those of the files below ``root`` that lie in folders ``sub-*`` of BIDS, if there are several such."""
    held = {p: [n for n in p.relative_to(root).parts[:-1] if n.startswith("sub-")] for p in paths}
    several = len({name for names in held.values() for name in names[:1]}) > 1
    return [path for path, names in held.items() if names] if several else []


def identified(found: Sequence["Series"]) -> set[str]:
    """Every PatientID that says something, spelt alike; never to be printed."""
    ids = {file.shared[0].strip().casefold() for series in found for file in series.files}
    return {name for name in ids if not _NOBODY.fullmatch(name)}


def studies(found: Iterable["Series"]) -> list[list["Series"]]:
    """The series of each study (StudyInstanceUID), by its date."""
    groups: dict[str, list[Series]] = {}
    for series in found:
        header = series.files[0].header
        groups.setdefault(str(header.get("StudyInstanceUID", "")), []).append(series)

    def when(members: list["Series"]) -> list[str]:
        header = members[0].files[0].header
        return [str(header.get(key, "")) for key in ("StudyDate", "StudyTime")]

    return sorted(groups.values(), key=when)


def folders_of(groups: Iterable[Iterable["Series"]]) -> list[str]:
    """The folder in which each group of series lies, of those in the one that holds all; empty where one lies
    in none of them or in several, or all in the same."""
    paths = [files_of(group) for group in groups]
    if len(paths) < 2:
        return []
    place = common_folder(path for group in paths for path in group)
    found = [{path.parent.relative_to(place).parts[:1] for path in group} for group in paths]
    names = ["/".join(*folders) if len(folders) == 1 else "" for folders in found]
    return names if all(names) and len(set(names)) > 1 else []


def files_of(found: Iterable["Series"]) -> list[Path]:
    """The files of all series."""
    return [file.path for series in found for file in series.files]


def common_folder(paths: Iterable[Path]) -> Path:
    """The folder that holds all of these files, at whatever depth."""
    return Path(os.path.commonpath([path.parent for path in paths]))


def advice(paths: Collection[Path]) -> str:
    """What to do where these files are of several patients."""
    place = common_folder(paths)
    if any(path.parent == place for path in paths):
        return "put those of each into a folder"
    return f"give the folder {place}"


def alone(series: "Series", found: Iterable["Series"]) -> bool:
    """Tell whether no other series lies in or below the folders of this one."""
    places = {path.parent for path in files_of([series])}
    others = {p.parent for p in files_of(other for other in found if other is not series)}
    return not any(place in (folder, *folder.parents) for folder in others for place in places)


def lying(series: "Series", found: Iterable["Series"]) -> tuple[Path, str | None]:
    """The folder that holds a series, and the UID by which to pick it where it is not all that lies there."""
    paths = files_of([series])
    whole = len({path.parent for path in paths}) == 1 and alone(series, found)
    return common_folder(paths), None if whole else series.uid


def is_t2w(series: "Series") -> bool:
    """Tell a T2w series by its description, or else by its echo and repetition times."""
    words, header = series.description.lower(), series.files[0].header
    if _OTHER.search(words) or _T2W.search(words):
        return not _OTHER.search(words)
    te, tr = (numbers(header.get(key))[0] for key in ("EchoTime", "RepetitionTime"))
    sequence = header.get("ScanningSequence") or ()
    return te >= _LEAST_TE and tr >= _LEAST_TR and "EP" not in sequence


def numbers(value: Any) -> list[float]:
    """The numbers of an attribute; a zero where it has none."""
    try:
        return [float(v) for v in np.atleast_1d(value)] or [0.0]
    except (TypeError, ValueError):
        return [0.0]


def in_words(series: "Series") -> str:
    """A series in words."""
    number, description = series.number or "without a number", series.description
    return f"series {number} ({description or 'no description'})"


def dead_links(folder: Path, besides: Collection[Path] = ()) -> list[Path]:
    """Links below a folder to images or folders that are not there.

    Left out are files with the ending of something else, volumes, which are looked for by name, and what
    lies in the folders ``besides``.
    """
    found = sorted(p for p in folder.rglob("*") if leads_nowhere(p) and p.parent not in besides)
    shown = [p for p in found if not any(n.startswith(".") for n in p.relative_to(folder).parts)]
    return [p for p in shown if not p.suffix[1:].isalpha() or p.suffix.lower() in (".dcm", ".ima")]


def counted(paths: Sequence[Path]) -> str:
    """The name of the first file and the number of the others.

    >>> counted([Path("p/1.dcm"), Path("p/2.dcm"), Path("p/3.dcm")])
    '1.dcm and 2 more'
    """
    return paths[0].name + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
