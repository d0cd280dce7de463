"""Folders of DICOM files as they are found: nested, bare, linked, damaged, among other things."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    UID,
    MediaStorageDirectoryStorage,
)

from tests.reliability.dicom_files import (
    add_patient,
    blank,
    change,
    series,
    uid,
)
from tests.reliability.expect import Make
from tests.reliability.volume_files import repack


def beside(add: Callable[[Path], object]) -> Make:
    """Makes a clean series and something beside it."""

    def make(folder: Path) -> Path:
        target = series(folder)
        add(target)
        return target

    return make


def junk(target: Path) -> None:
    (target / "notes.txt").write_text("slice 3 looks odd\n")
    (target / "report.pdf").write_bytes(b"%PDF-1.7\n" + bytes(500))
    (target / "preview.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(500))
    (target / "Thumbs.db").write_bytes(bytes(range(256)))
    (target / "empty.log").touch()
    (target / "t2w.nii.gz").write_bytes(b"\x1f\x8b rubbish")
    for name in (".DS_Store", "._00.dcm", ".hidden.dcm"):
        (target / name).write_bytes(b"\0\5\x16\7" + bytes(100))


def other(kind: UID, edit: Callable[[FileDataset], None]) -> Callable[[Path], None]:
    """Adds an object of another SOP class, and another series, to a folder."""

    def add(target: Path) -> None:
        d = blank(kind, uid("other", kind))
        d.SeriesInstanceUID, d.StudyInstanceUID = uid("other series", kind), uid("study")
        d.SeriesNumber = 900
        add_patient(d)
        edit(d)
        d.save_as(target / "other.dcm", enforce_file_format=True)

    return add


def pdf(d: FileDataset) -> None:
    d.Modality, d.EncapsulatedDocument = "DOC", b"%PDF-1.7 secret"
    d.MIMETypeOfEncapsulatedDocument = "application/pdf"


def report(d: FileDataset) -> None:
    item = Dataset()
    item.ValueType, item.TextValue = "TEXT", "secret finding"
    d.Modality, d.ContentSequence = "SR", [item]


def segmentation(d: FileDataset) -> None:
    d.Modality, d.Rows, d.Columns, d.NumberOfFrames = "SEG", 12, 16, 2
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated = d.BitsStored = 1
    d.HighBit = d.PixelRepresentation = 0
    d.PixelData = b"\x0f" * 48


def dicomdir(target: Path) -> None:
    d = blank(MediaStorageDirectoryStorage, uid("directory"))
    d.FileSetID, d.DirectoryRecordSequence = "STUDY", []
    d.save_as(target / "DICOMDIR", enforce_file_format=True)


def raw(name: str, *, implicit: bool = True, skip: tuple[int, ...] = ()) -> Make:
    """Makes a series of bare datasets: neither preamble nor file meta information.

    Slices in ``skip`` stay whole files.
    """

    def make(folder: Path) -> Path:
        target = series(folder, naming=name)
        for k, path in enumerate(sorted(target.iterdir())):
            if k not in skip:
                d = pydicom.dcmread(path)
                buffer = BytesIO()
                del d.file_meta, d.preamble
                pydicom.dcmwrite(
                    buffer, d, implicit_vr=implicit, little_endian=True, force_encoding=True
                )
                path.write_bytes(buffer.getvalue())
        return target

    return make


def no_preamble(folder: Path) -> Path:
    """Files that start with their meta information, without the 128 bytes and the letters before it."""
    target = series(folder)
    for path in target.iterdir():
        repack(path, lambda data: data[132:])
    return target


def no_meta_syntax(folder: Path) -> Path:
    """File meta information that does not name the transfer syntax."""
    target = series(folder)
    for path in target.iterdir():
        d = pydicom.dcmread(path)
        del d.file_meta.TransferSyntaxUID
        pydicom.dcmwrite(path, d, implicit_vr=False, little_endian=True, force_encoding=True)
    return target


def nested(folder: Path) -> Path:
    target = series(folder)
    for k, path in enumerate(sorted(target.iterdir())):
        inside = target / "PA000001" / f"ST 00000{k % 2}" / "SE000001" / f"{k}"
        inside.mkdir(parents=True)
        path.rename(inside / "IM000001")
    return target


def store(folder: Path) -> Path:
    """Slices that are links into a data store, as version control of large data makes them."""
    store = series(folder, "store")
    target = folder / "series"
    target.mkdir()
    for path in store.iterdir():
        (target / path.name).symlink_to(path)
    return target


def copy(target: Path, **attributes: object) -> None:
    shutil.copy(target / "02.dcm", target / "copy.dcm")
    if attributes:
        change(target / "copy.dcm", **attributes)


def loops(target: Path) -> None:
    (target / "again").symlink_to(target)
    (target / "up").symlink_to(target.parent)
    (target / "itself").symlink_to(target / "itself")


def special(target: Path) -> None:
    os.mkfifo(target / "05.dcm")
    (target / "06.dcm").symlink_to("/dev/zero")


def unreadable(target: Path) -> None:
    (target / "04.dcm").chmod(0)


def unreadable_folder(target: Path) -> None:
    inside = target / "more"
    inside.mkdir()
    (target / "04.dcm").rename(inside / "04.dcm")
    inside.chmod(0)


def packed_slices(folder: Path) -> Path:
    import gzip

    target = series(folder)
    for path in list(target.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    return target


DESCRIPTIONS = {
    "a newline": "t2\ntra",
    "control characters": "t2\x1b[31m\x07tra",
    "../": "../../../../tmp/t2",
    "non-ASCII letters": "t2_größe_前列腺",
}


def described(text: str) -> Make:
    """Makes two series, whose descriptions are listed therefore."""

    def make(folder: Path) -> Path:
        def edit(d: FileDataset, k: int) -> None:
            d.SpecificCharacterSet = "ISO_IR 192"

        series(folder, "study", description=text, edit=edit, naming="a{:02d}.dcm")
        return series(folder, "study", number=2, edit=edit, naming="b{:02d}.dcm")

    return make


def dicom_magic_only(target: Path) -> None:
    (target / "99.dcm").write_bytes(bytes(128) + b"DICM" + os.urandom(16))


def touched(target: Path) -> Path:
    (target / "IM000005").touch()
    return target


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder
