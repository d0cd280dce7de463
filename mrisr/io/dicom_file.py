"""DICOM files as pydicom reads them, at a cost that their size bounds."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

_CHUNK = 1 << 20
#: Shorter reads are not worth a look at how much of the file is left.
_SHORT = 1 << 16
#: Compressed data may turn into this many bytes, or grow by this factor if that is more.
BOMB_BYTES, BOMB_RATIO = 1 << 28, 200


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
    """One DICOM image file: its header, without pixels, what tells its series, and the values of
    ``dicom_scan.SHARED``, which are compared and never printed."""

    path: Path
    header: Dataset
    series_uid: str
    sop_uid: str
    description: str
    number: str
    shared: tuple[str, ...]
