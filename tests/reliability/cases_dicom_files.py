"""DICOM: what else lies in the folder, and what the files look like."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    MediaStorageDirectoryStorage,
    SegmentationStorage,
)

from tests.reliability import expect
from tests.reliability.cases_dicom import every, third
from tests.reliability.dicom_files import (
    add_patient,
    blank,
    change,
    image,
    linked_from_a_store,
    nested,
    no_meta_syntax,
    no_preamble,
    raw,
    series,
    uid,
)
from tests.reliability.truth import SLICES
from tests.reliability.volume_files import Make

GROUP = "DICOM files and folders"
refuse = partial(expect.refuse, GROUP)
handle = partial(expect.handle, GROUP)


def beside(add: Callable[[Path], object], naming: str = "{:02d}.dcm") -> Make:
    """Makes a clean series and something beside it."""

    def make(folder: Path) -> Path:
        target = series(folder, naming=naming)
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


def _magic_only(target: Path) -> None:
    (target / "99.dcm").write_bytes(bytes(128) + b"DICM" + os.urandom(16))


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


CASES = [
    handle("text, PDF, pictures, hidden and empty files beside the slices", beside(junk)),
    handle("a DICOMDIR beside the slices", beside(dicomdir)),
    handle("an encapsulated PDF beside the slices", beside(other(EncapsulatedPDFStorage, pdf))),
    handle("a structured report beside the slices", beside(other(BasicTextSRStorage, report))),
    handle(
        "a presentation state beside the slices",
        beside(other(GrayscaleSoftcopyPresentationStateStorage, lambda d: None)),
    ),
    handle("a segmentation beside the slices", beside(other(SegmentationStorage, segmentation))),
    handle("file names without an ending", partial(series, naming="IM{:06d}")),
    handle("the ending .IMA", partial(series, naming="t2.MR.{:04d}.IMA")),
    handle("slices spread over nested folders", nested),
    handle("no preamble", no_preamble),
    handle("no preamble and no file meta, implicit", raw("{:02d}.dcm")),
    handle("no preamble and no file meta, explicit", raw("{:02d}.dcm", implicit=False)),
    handle("neither preamble, file meta nor ending", raw("IM{:06d}")),
    handle("neither, in the last slice only", raw("IM{:06d}", skip=tuple(range(SLICES - 1)))),
    handle("file meta without a transfer syntax", no_meta_syntax),
    handle(
        "a slice copied under another name",
        beside(copy),
        "1 identical copies",
        should="the copy is dropped",
    ),
    handle(
        "the whole series copied into a folder inside it",
        beside(lambda t: shutil.copytree(t, t / "backup")),
        "5 identical copies",
        should="the copies are dropped",
    ),
    refuse(
        "a copy with other pixels under the same SOPInstanceUID",
        beside(lambda t: copy(t, PixelData=image(3).PixelData)),
        "copy.dcm",
        "02.dcm",
        "SOPInstanceUID",
    ),
    refuse(
        "the same pixels at the same place under another SOPInstanceUID",
        beside(lambda t: copy(t, SOPInstanceUID=uid("new"))),
        "copy.dcm",
        "02.dcm",
    ),
    refuse(
        "an empty file among the slices",
        beside(lambda t: (t / "05.dcm").touch()),
        "05.dcm",
        "empty",
    ),
    refuse(
        "an empty file among slices without endings",
        beside(lambda t: (t / "IM000005").touch(), "IM{:06d}"),
        "IM000005",
        "empty",
    ),
    refuse(
        "a text that is called .dcm",
        beside(lambda t: (t / "readme.dcm").write_text("no image\n" * 40)),
        "readme.dcm",
    ),
    refuse("a file that is damaged after its magic", beside(_magic_only), "99.dcm"),
    *[
        refuse(f"slices of {what}", third(**{keyword: value}), keyword)
        for what, keyword, value in [
            ("two patients under one SeriesInstanceUID", "PatientID", "SECRET-9999"),
            ("two studies under one SeriesInstanceUID", "StudyInstanceUID", uid("another")),
            ("two frames of reference", "FrameOfReferenceUID", uid("another frame")),
        ]
    ],
    refuse("no SeriesInstanceUID", third(SeriesInstanceUID=None), "02.dcm"),
    handle("no SOPInstanceUID", every(SOPInstanceUID=None)),
    handle("slices that are links into a data store", linked_from_a_store),
    refuse(
        "a link that leads nowhere among the slices",
        beside(lambda t: (t / "05.dcm").symlink_to("nowhere.dcm")),
        "05.dcm",
    ),
    handle("links that run in a circle", beside(loops)),
    handle("a FIFO and a link to /dev/zero among the slices", beside(special)),
    refuse(
        "a slice that may not be read",
        beside(unreadable),
        "04.dcm",
        "Permission denied",
        unprivileged=True,
    ),
    refuse(
        "a folder inside that may not be read",
        beside(unreadable_folder),
        "more",
        "Permission denied",
        unprivileged=True,
    ),
    refuse("slices packed with gzip", packed_slices, "no DICOM image"),
    refuse("an empty folder", _empty, "no DICOM image"),
    *[
        refuse(f"two series, {what} in a SeriesDescription", described(text), "2 series")
        for what, text in DESCRIPTIONS.items()
    ],
    *[
        handle(f"{what} in the SeriesDescription", partial(series, description=text))
        for what, text in DESCRIPTIONS.items()
        if what != "non-ASCII letters"
    ],
]
