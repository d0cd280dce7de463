"""Finding the DICOM images below a folder, and choosing one series among them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.uid import UID, MediaStorageDirectoryStorage

from mrisr.errors import InputError

_ENDINGS = (".dcm", ".ima", ".dicom")


@dataclass(frozen=True, eq=False)
class File:
    """One DICOM image file: its header, without pixels, and what tells its series."""

    path: Path
    header: Dataset
    series_uid: str
    sop_uid: str
    description: str
    number: str


@dataclass(frozen=True, eq=False)
class Broken:
    """A file that looks like DICOM and cannot be used; its series where it is known."""

    error: InputError
    series_uid: str | None = None


@dataclass(frozen=True, eq=False)
class Series:
    """The files of one SeriesInstanceUID, and the broken ones that may belong to it."""

    uid: str
    files: tuple[File, ...]
    broken: tuple[Broken, ...] = ()

    @property
    def description(self) -> str:
        """SeriesDescription on one line, printable characters only; empty where there is none."""
        return self.files[0].description

    @property
    def number(self) -> str:
        return self.files[0].number

    def __str__(self) -> str:
        return f"{self.uid} (number {self.number}, {self.description!r}, {len(self.files)} files)"


def find_series(path: Path) -> list[Series]:
    """Series of a DICOM file or of everything below a folder, in the order of their numbers.

    Files that are no DICOM images (text, DICOMDIR, reports, hidden files) are passed over. Files
    that claim to be and cannot be read are kept as ``broken``.

    Raises:
        InputError: there is no DICOM image at all.
    """
    files, broken = _scan(path)
    if not files:
        if broken:
            raise broken[0].error
        raise InputError(path, expected="a DICOM series", found="no DICOM image file")
    groups: dict[str, list[File]] = {}
    for file in files:
        groups.setdefault(file.series_uid, []).append(file)
    found = [
        Series(uid, tuple(group), tuple(b for b in broken if b.series_uid in (None, uid)))
        for uid, group in groups.items()
    ]
    return sorted(found, key=lambda s: (int(s.number) if s.number.isdecimal() else -1, s.uid))


def choose_series(path: Path, wanted: str | None) -> Series:
    """The one series at ``path``, or the one whose UID, number or description is ``wanted``.

    Raises:
        InputError: several series and no ``wanted`` (they are listed), none or several that match,
            or a broken file that may belong to the chosen one.
    """
    found = find_series(path)
    matches = found
    if wanted is not None:
        key = wanted.strip().lower()
        matches = [s for s in found if s.uid == key]
        matches = matches or [s for s in found if s.number == key]
        matches = matches or [s for s in found if s.description.lower() == key]
    if len(matches) != 1:
        listing = "; ".join(str(s) for s in (matches or found))
        if wanted is None:
            expected, count = "one series (--series picks)", f"{len(found)} series"
        else:
            expected, count = f"one series {wanted!r}", f"{len(matches)} of {len(found)}"
        raise InputError(path, expected=expected, found=f"{count}: {listing}")
    if matches[0].broken:
        raise matches[0].broken[0].error
    return matches[0]


def printable(value: object) -> str:
    """An attribute as one line of at most 64 printable characters."""
    text = "".join(c if c.isprintable() else " " for c in str("" if value is None else value))
    return " ".join(text.split())[:64]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom's warnings about odd but readable files; what matters is checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _scan(path: Path) -> tuple[list[File], list[Broken]]:
    files: list[File] = []
    broken: list[Broken] = []
    empty: list[Path] = []
    for candidate in _candidates(path):
        if candidate.stat().st_size == 0:
            empty.append(candidate)
            continue
        try:
            file = _image_file(candidate)
        except InputError as error:
            broken.append(Broken(error))
            continue
        if file is not None:
            files.append(file)
    kinds = {(f.path.parent, f.path.suffix.lower()) for f in files}
    for candidate in empty:
        suffix = candidate.suffix.lower()
        if suffix in _ENDINGS or (candidate.parent, suffix) in kinds:
            found = "an empty file"
            broken.append(Broken(InputError(candidate, expected="a DICOM image", found=found)))
    return files, broken


def _candidates(path: Path) -> Iterator[Path]:
    """Regular files at or below ``path``, sorted; no hidden ones, no linked folders."""
    if path.is_file():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and (Path(folder) / name).is_file():
                yield Path(folder) / name


def _image_file(path: Path) -> File | None:
    """A DICOM image, None for anything else. Raises InputError for one that is damaged."""
    try:
        with path.open("rb") as handle:
            magic = handle.read(132)[128:] == b"DICM"
    except OSError as error:
        found = error.strerror or str(error)
        raise InputError(path, expected="a readable file", found=found) from error
    if not magic and path.suffix.lower() not in _ENDINGS:
        return None
    try:
        with quiet():
            header = pydicom.dcmread(path, stop_before_pixels=True, force=not magic)
            meta = str(header.file_meta.get("MediaStorageSOPClassUID", ""))
            kind = str(header.get("SOPClassUID", meta))
            rows = header.get("Rows")
            uid, sop = (str(header.get(k, "")) for k in ("SeriesInstanceUID", "SOPInstanceUID"))
            texts = [printable(header.get(k)) for k in ("SeriesDescription", "SeriesNumber")]
    except Exception as error:  # pydicom raises almost anything on damaged files
        reason = printable(error) or type(error).__name__
        raise InputError(path, expected="a DICOM image", found=f"damage ({reason})") from error
    if MediaStorageDirectoryStorage in (kind, meta):
        return None
    if kind and rows is None and not UID(kind).name.endswith("Image Storage"):
        return None
    missing = [
        n for n, v in (("SOPClassUID", kind), ("Rows", rows), ("SeriesInstanceUID", uid)) if not v
    ]
    if missing:
        found = f"no {', '.join(missing)} (not DICOM, or truncated)"
        raise InputError(path, expected="a DICOM image", found=found)
    return File(path, header, uid, sop, *texts)
