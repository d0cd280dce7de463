"""DICOM files read at a cost that their size bounds; the images below a folder, and one series of them."""

import io
import os
import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import BinaryIO, TypeVar

import pydicom
from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage

from mrisr.core.errors import InputError
from mrisr.io.checks import BOMB_BYTES, BOMB_RATIO, readable

_ENDINGS = (".dcm", ".ima", ".dicom")

#: Attributes that all images of a series share; else two scans carry one SeriesInstanceUID.
SHARED = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID")

_CHUNK = 1 << 20
#: Shorter reads are not worth a look at how much of the file is left.
_SHORT = 1 << 16


class BoundedFile(io.BufferedReader):
    """A file that makes room for no more bytes than it has, whatever length a damaged element states."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does."""
        if size is not None and size > _SHORT:
            size = min(size, max(self.size - self.tell(), 0))
        return super().read(size)


def read_file(source: BinaryIO, *, header: bool = False) -> Dataset:
    """The dataset of a file, with or without the elements from the pixels on.

    Raises whatever pydicom does for a damaged file, and ValueError for a deflated one that inflates
    out of all proportion.
    """
    source.seek(0)
    magic = source.read(132)[128:] == b"DICM"
    if magic:
        _check_deflated(source)
    source.seek(0)
    return pydicom.dcmread(source, stop_before_pixels=header, force=not magic)


def _check_deflated(source: BinaryIO) -> None:
    meta = read_dataset(source, False, True, stop_when=lambda tag, *_: tag.group != 2)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    held = total = 0
    pending = b""
    while not inflate.eof and (pending := inflate.unconsumed_tail or source.read(_CHUNK)):
        held += 0 if inflate.unconsumed_tail else len(pending)
        total += len(inflate.decompress(pending, _CHUNK))
        if total > max(BOMB_BYTES, BOMB_RATIO * held):
            raise ValueError(f"{held} deflated bytes that inflate to more than {total}")


@dataclass(frozen=True, eq=False)
class File:
    """One DICOM image file, and what tells its series."""

    path: Path
    header: Dataset  #: without pixels
    series_uid: str
    sop_uid: str
    description: str
    number: str
    shared: tuple[str, ...]  #: values of ``SHARED``, which are compared and never printed


@dataclass(frozen=True)
class Named:
    """Names that tell one series from another; number and description on one line, empty where not stated."""

    uid: str
    number: str
    description: str


@dataclass(frozen=True, eq=False)
class Series(Named):
    """The files of one SeriesInstanceUID, and errors of files that may belong to it."""

    files: tuple[File, ...]
    broken: tuple[InputError, ...] = ()

    def __str__(self) -> str:
        return f"{self.uid} (number {self.number}, {self.description!r}, {len(self.files)} files)"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom's warnings about odd but readable files; what matters is checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def undamaged(path: Path, expected: str, found: str = "damage ({})") -> Iterator[None]:
    """Turn what pydicom and decoders raise for a damaged file, almost anything, into an InputError."""
    try:
        with quiet():
            yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(path, expected=expected, found=found.format(reason(error))) from error


@quiet()
def find_series(
    path: Path, keep: Callable[[File, BoundedFile], None] = lambda *_: None
) -> list[Series]:
    """Series of a DICOM file or of everything below a folder, in the order of their numbers.

    Files that are no DICOM images (text, DICOMDIR, reports, hidden files) are passed over. Files
    that claim to be and cannot be read are kept as ``broken``. ``keep`` is called with each image
    and the open file, so that what is wanted next need not be opened again.

    Raises:
        InputError: there is no DICOM image at all.
    """
    files, broken = _scan(path, keep)
    if not files:
        if broken:
            raise broken[0]
        raise InputError(path, expected="a DICOM series", found="no DICOM image file")
    groups: dict[str, list[File]] = {}
    for file in files:
        groups.setdefault(file.series_uid, []).append(file)
    found = [
        Series(uid, group[0].number, group[0].description, tuple(group), tuple(broken))
        for uid, group in groups.items()
    ]
    return sorted(found, key=lambda s: (int(s.number) if s.number.isdecimal() else -1, s.uid))


AnySeries = TypeVar("AnySeries", bound=Named)


def pick_series(
    found: Sequence[AnySeries], wanted: str | None, source: str | PathLike[str]
) -> AnySeries:
    """The only series in ``source``, or the one whose UID, number or description is ``wanted``.

    Raises InputError where none or several match; the message lists them.
    """
    matches = list(found)
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
        raise InputError(source, expected=expected, found=f"{count}: {listing}")
    return matches[0]


def printable(value: object, longest: int = 64) -> str:
    """An attribute, or a library's message, as one line of printable characters."""
    text = "".join(c if c.isprintable() else " " for c in str("" if value is None else value))
    return " ".join(text.split())[:longest]


def reason(error: Exception) -> str:
    """The message of pydicom or a decoder about a damaged file, on one line."""
    return printable(error, 160) or type(error).__name__


def _scan(
    path: Path, keep: Callable[[File, BoundedFile], None]
) -> tuple[list[File], list[InputError]]:
    files: list[File] = []
    broken: list[InputError] = []
    empty: list[tuple[Path, str]] = []
    others: list[Path] = []
    for candidate in candidates(path):
        if not candidate.exists() or candidate.stat().st_size == 0:
            what = "an empty file" if candidate.exists() else "a link that leads nowhere"
            empty.append((candidate, what))
            continue
        try:
            with readable(candidate), BoundedFile(candidate) as handle:
                head = handle.read(132)
                magic = head[128:] == b"DICM"
                file = None
                if magic or candidate.suffix.lower() in _ENDINGS or _is_bare(head):
                    file = _image_file(candidate, handle)
                if file is not None:
                    files.append(file)
                    keep(file, handle)
                elif not magic:
                    others.append(candidate)
        except InputError as error:
            broken.append(error)
    kinds = {(f.path.parent, f.path.suffix.lower()) for f in files}
    for candidate, found in empty:
        suffix = candidate.suffix.lower()
        if suffix in _ENDINGS or (candidate.parent, suffix) in kinds:
            broken.append(InputError(candidate, expected="a DICOM image", found=found))
    names = {_pattern(f.path) for f in files}
    for candidate in others:
        if "#" in _pattern(candidate)[1] and _pattern(candidate) in names:
            found = f"a file of {candidate.stat().st_size} bytes, named like the images beside it"
            broken.append(InputError(candidate, expected="a DICOM image", found=found))
    return files, broken


def _pattern(path: Path) -> tuple[Path, str]:
    """Folder and name without its numbers, which ``IM0001`` and ``IM0002`` have in common."""
    return path.parent, re.sub(r"\d+", "#", path.name.lower())


def candidates(path: Path) -> Iterator[Path]:
    """Regular files and dead links at or below ``path``, sorted; no hidden ones, no linked folders.

    Raises InputError for a folder that cannot be listed.
    """
    if path.is_file():
        yield path
        return

    def fail(error: OSError) -> None:
        with readable(error.filename, "a readable folder"):
            raise error

    for folder, folders, names in os.walk(path, onerror=fail):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(n for n in names if not n.startswith(".")):
            candidate = Path(folder) / name
            if candidate.is_file() or (candidate.is_symlink() and not candidate.exists()):
                yield candidate


def _is_bare(head: bytes) -> bool:
    """Tell whether a file without preamble starts with the first element of a dataset or of file meta."""
    little, big = head[:2] in (b"\2\0", b"\x08\0"), head[:2] in (b"\0\2", b"\0\x08")
    element = int.from_bytes(head[2:4], "little" if little else "big")
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    # The value's length, where the VR is implicit.
    short = int.from_bytes(head[4:8], "little") <= 64
    return len(head) > 8 and (little or big) and element <= 0x18 and (explicit or short)


def _image_file(path: Path, handle: BoundedFile) -> File | None:
    """A DICOM image, `None` for another kind of object. Raises InputError for one that is damaged."""
    with undamaged(path, "a DICOM image"):
        header = read_file(handle, header=True)
        meta = str(header.file_meta.get("MediaStorageSOPClassUID", ""))
        own = str(header.get("SOPClassUID", ""))
        kind = own or meta
        rows = header.get("Rows")
        uid, sop = (str(header.get(k, "")) for k in ("SeriesInstanceUID", "SOPInstanceUID"))
        texts = [printable(header.get(k)) for k in ("SeriesDescription", "SeriesNumber")]
        shared = tuple(str(header.get(k, "")) for k in SHARED)
    if MediaStorageDirectoryStorage in (kind, meta):
        return None
    name = UID(kind).name
    if kind and rows is None and not name.endswith("Image Storage"):
        if own and meta in ("", own):
            return None
        # A whole file says twice what it is; of half a file nobody knows what it was.
        raise InputError(path, expected="one SOPClassUID", found="none, or two (truncated?)")
    if "Segmentation" in name or "Parametric Map" in name:  # made from images, and none themselves
        return None
    missing = [
        n for n, v in (("SOPClassUID", kind), ("Rows", rows), ("SeriesInstanceUID", uid)) if not v
    ]
    if missing:
        found = f"no {', '.join(missing)} (not DICOM, or truncated)"
        raise InputError(path, expected="a DICOM image", found=found)
    return File(path, header, uid, sop, texts[0], texts[1], shared)
