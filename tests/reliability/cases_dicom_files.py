"""DICOM: what else lies in the folder, and what the files look like."""

import gzip
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pydicom
from pydicom import uid as uids
from pydicom.dataset import Dataset, FileDataset

from tests.reliability import dicom_files
from tests.reliability.dicom_files import blank, every, series, third, uid
from tests.reliability.expect import Cases
from tests.reliability.volume_files import SLICES, late, repack

CASES = Cases("DICOM files and folders")
refuse, handle = CASES.refuse, CASES.handle


@late
def beside(folder: Path, add: Callable[[Path], object], naming: str = "{:02d}.dcm") -> Path:
    target = series(folder, naming=naming)
    add(target)
    return target


@late
def rewritten(
    folder: Path, change: Callable[[Path], object], naming: str = "{:02d}.dcm", whole: int = 0
) -> Path:
    """Makes a series whose files are changed, but for the first of them, which stay ``whole``."""
    target = series(folder, naming=naming)
    for path in sorted(target.iterdir())[whole:]:
        change(path)
    return target


def bare(path: Path, *, implicit: bool = True) -> None:
    """Neither preamble nor file meta information."""
    d = pydicom.dcmread(path)
    del d.file_meta, d.preamble
    pydicom.dcmwrite(path, d, implicit_vr=implicit, little_endian=True, force_encoding=True)


def no_syntax(path: Path) -> None:
    """File meta information that does not name the transfer syntax."""
    d = pydicom.dcmread(path)
    del d.file_meta.TransferSyntaxUID
    pydicom.dcmwrite(path, d, implicit_vr=False, little_endian=True, force_encoding=True)


def deeper(path: Path) -> None:
    inside = path.parent / "PA000001" / f"ST 00000{int(path.stem) % 2}" / "SE000001" / path.stem
    inside.mkdir(parents=True)
    path.rename(inside / "IM000001")


def stored(path: Path) -> None:
    """A link into a data store, as version control of large data makes them."""
    store = path.parents[1] / "store"
    store.mkdir(exist_ok=True)
    path.symlink_to(path.rename(store / path.name))


def packed(path: Path) -> None:
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def junk(target: Path) -> None:
    (target / "notes.txt").write_text("slice 3 looks odd\n")
    (target / "report.pdf").write_bytes(b"%PDF-1.7\n" + bytes(500))
    (target / "preview.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(500))
    (target / "Thumbs.db").write_bytes(bytes(range(256)))
    (target / "empty.log").touch()
    (target / "t2w.nii.gz").write_bytes(b"\x1f\x8b rubbish")
    for name in (".DS_Store", "._00.dcm", ".hidden.dcm"):
        (target / name).write_bytes(b"\0\5\x16\7" + bytes(100))


@late
def other(target: Path, kind: uids.UID, edit: Callable[[FileDataset], None]) -> None:
    """Adds an object of another SOP class, and another series, to a folder."""
    d = blank(kind, uid("other", kind))
    d.SeriesInstanceUID, d.StudyInstanceUID = uid("other series", kind), uid("study")
    d.SeriesNumber = 900
    dicom_files.add_patient(d)
    edit(d)
    d.save_as(target / "other.dcm", enforce_file_format=True)


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
    d = blank(uids.MediaStorageDirectoryStorage, uid("directory"))
    d.FileSetID, d.DirectoryRecordSequence = "STUDY", []
    d.save_as(target / "DICOMDIR", enforce_file_format=True)


def copy(target: Path, **attributes: object) -> None:
    shutil.copy(target / "02.dcm", target / "copy.dcm")
    if attributes:
        dicom_files.change(target / "copy.dcm", **attributes)


def loops(target: Path) -> None:
    (target / "again").symlink_to(target)
    (target / "up").symlink_to(target.parent)
    (target / "itself").symlink_to(target / "itself")


def special(target: Path) -> None:
    os.mkfifo(target / "05.dcm")
    (target / "06.dcm").symlink_to("/dev/zero")


def unreadable_folder(target: Path) -> None:
    inside = target / "more"
    inside.mkdir()
    (target / "04.dcm").rename(inside / "04.dcm")
    inside.chmod(0)


DESCRIPTIONS = {
    "a newline": "t2\ntra",
    "control characters": "t2\x1b[31m\x07tra",
    "../": "../../../../tmp/t2",
    "non-ASCII letters": "t2_größe_前列腺",
}


@late
def described(folder: Path, text: str) -> Path:
    """Makes two series, whose descriptions are listed therefore."""

    def edit(d: FileDataset, k: int) -> None:
        d.SpecificCharacterSet = "ISO_IR 192"

    series(folder, "study", description=text, edit=edit, naming="a{:02d}.dcm")
    return series(folder, "study", number=2, edit=edit, naming="b{:02d}.dcm")


def empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


handle("text, PDF, pictures, hidden and empty files beside the slices", beside(junk))
handle("a DICOMDIR beside the slices", beside(dicomdir))
handle("an encapsulated PDF beside the slices", beside(other(uids.EncapsulatedPDFStorage, pdf)))
handle("a structured report beside the slices", beside(other(uids.BasicTextSRStorage, report)))
state = other(uids.GrayscaleSoftcopyPresentationStateStorage, lambda d: None)
handle("a presentation state beside the slices", beside(state))
handle("a segmentation beside the slices", beside(other(uids.SegmentationStorage, segmentation)))
handle("file names without an ending", partial(series, naming="IM{:06d}"))
handle("the ending .IMA", partial(series, naming="t2.MR.{:04d}.IMA"))
handle("slices spread over nested folders", rewritten(deeper))
handle("no preamble", rewritten(lambda p: repack(p, lambda data: data[132:])))
handle("no preamble and no file meta, implicit", rewritten(bare))
handle("no preamble and no file meta, explicit", rewritten(partial(bare, implicit=False)))
handle("neither preamble, file meta nor ending", rewritten(bare, "IM{:06d}"))
handle("neither, in the last slice only", rewritten(bare, "IM{:06d}", SLICES - 1))
handle("file meta without a transfer syntax", rewritten(no_syntax))
one, dropped = "1 identical copies", "the copy is dropped"
handle("a slice copied under another name", beside(copy), one, should=dropped)
backup = beside(lambda t: shutil.copytree(t, t / "backup"))
name, five = "the whole series copied into a folder inside it", "5 identical copies"
handle(name, backup, five, should="the copies are dropped")
other_pixels = beside(lambda t: copy(t, PixelData=dicom_files.image(3).PixelData))
name = "a copy with other pixels under the same SOPInstanceUID"
refuse(name, other_pixels, "copy.dcm", "02.dcm", "SOPInstanceUID")
renamed = beside(lambda t: copy(t, SOPInstanceUID=uid("new")))
name = "the same pixels at the same place under another SOPInstanceUID"
refuse(name, renamed, "copy.dcm", "02.dcm")
nothing = beside(lambda t: (t / "05.dcm").touch())
refuse("an empty file among the slices", nothing, "05.dcm", "empty")
nothing = beside(lambda t: (t / "IM000005").touch(), "IM{:06d}")
refuse("an empty file among slices without endings", nothing, "IM000005", "empty")
text = beside(lambda t: (t / "readme.dcm").write_text("no image\n" * 40))
refuse("a text that is called .dcm", text, "readme.dcm")
magic = beside(lambda t: (t / "99.dcm").write_bytes(bytes(128) + b"DICM" + os.urandom(16)))
refuse("a file that is damaged after its magic", magic, "99.dcm")
for what, keyword, value in [
    ("two patients under one SeriesInstanceUID", "PatientID", "SECRET-9999"),
    ("two studies under one SeriesInstanceUID", "StudyInstanceUID", uid("another")),
    ("two frames of reference", "FrameOfReferenceUID", uid("another frame")),
]:
    refuse(f"slices of {what}", third(**{keyword: value}), keyword)
refuse("no SeriesInstanceUID", third(SeriesInstanceUID=None), "02.dcm")
handle("no SOPInstanceUID", every(SOPInstanceUID=None))
handle("slices that are links into a data store", rewritten(stored))
nowhere = beside(lambda t: (t / "05.dcm").symlink_to("nowhere.dcm"))
refuse("a link that leads nowhere among the slices", nowhere, "05.dcm")
handle("links that run in a circle", beside(loops))
handle("a FIFO and a link to /dev/zero among the slices", beside(special))
DENIED = "Permission denied"
closed = beside(lambda t: (t / "04.dcm").chmod(0))
refuse("a slice that may not be read", closed, "04.dcm", DENIED, unprivileged=True)
closed = beside(unreadable_folder)
refuse("a folder inside that may not be read", closed, "more", DENIED, unprivileged=True)
refuse("slices packed with gzip", rewritten(packed), "no DICOM image")
refuse("an empty folder", empty, "no DICOM image")
for what, text in DESCRIPTIONS.items():
    refuse(f"two series, {what} in a SeriesDescription", described(text), "2 series")
for what, text in DESCRIPTIONS.items():
    if what != "non-ASCII letters":
        handle(f"{what} in the SeriesDescription", partial(series, description=text))
