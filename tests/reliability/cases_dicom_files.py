"""DICOM: what else lies in the folder, and what the files look like."""

from __future__ import annotations

import shutil
from functools import partial

from pydicom.uid import (
    BasicTextSRStorage,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    SegmentationStorage,
)

from tests.reliability import expect
from tests.reliability.cases_dicom import edited
from tests.reliability.dicom_files import image, series, set_all, set_one, uid
from tests.reliability.dicom_folders import (
    DESCRIPTIONS,
    beside,
    copy,
    described,
    dicom_magic_only,
    dicomdir,
    junk,
    loops,
    made,
    nested,
    no_meta_syntax,
    no_preamble,
    other,
    packed_slices,
    pdf,
    raw,
    report,
    segmentation,
    special,
    store,
    touched,
    unreadable,
    unreadable_folder,
)
from tests.reliability.truth import SLICES

GROUP = "DICOM files and folders"
refuse = partial(expect.refuse, GROUP)
handle = partial(expect.handle, GROUP)

CASES = [
    handle("text, PDF, pictures, hidden and empty files beside the slices", beside(junk)),
    handle("a DICOMDIR beside the slices", beside(dicomdir)),
    handle(
        "an encapsulated PDF beside the slices",
        beside(other(EncapsulatedPDFStorage, pdf)),
    ),
    handle(
        "a structured report beside the slices",
        beside(other(BasicTextSRStorage, report)),
    ),
    handle(
        "a presentation state beside the slices",
        beside(other(GrayscaleSoftcopyPresentationStateStorage, lambda d: None)),
    ),
    handle(
        "a segmentation beside the slices",
        beside(other(SegmentationStorage, segmentation)),
    ),
    handle("file names without an ending", lambda f: series(f, naming="IM{:06d}")),
    handle("the ending .IMA", lambda f: series(f, naming="t2.MR.{:04d}.IMA")),
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
        should="the copy is dropped, with a note in the record",
    ),
    handle(
        "the whole series copied into a folder inside it",
        beside(lambda t: shutil.copytree(t, t / "backup")),
        "5 identical copies",
        should="the copies are dropped, with a note in the record",
    ),
    refuse(
        "a copy with other pixels under the same SOPInstanceUID",
        beside(lambda t: copy(t, PixelData=image(3).PixelData)),
        *("copy.dcm", "02.dcm", "SOPInstanceUID"),
        tells="both files",
    ),
    refuse(
        "the same pixels at the same place under another SOPInstanceUID",
        beside(lambda t: copy(t, SOPInstanceUID=uid("new"))),
        *("copy.dcm", "02.dcm"),
        tells="both files",
    ),
    refuse(
        "an empty file among the slices",
        beside(lambda t: (t / "05.dcm").touch()),
        *("05.dcm", "empty"),
        tells="the file",
    ),
    refuse(
        "an empty file among slices without endings",
        lambda f: touched(series(f, naming="IM{:06d}")),
        *("IM000005", "empty"),
        tells="the file",
    ),
    refuse(
        "a text that is called .dcm",
        beside(lambda t: (t / "readme.dcm").write_text("no image\n" * 40)),
        "readme.dcm",
        tells="the file",
    ),
    refuse("a file that is damaged after its magic", beside(dicom_magic_only), "99.dcm"),
    *[
        refuse(f"slices of {what}", edited(set_one(2, **{keyword: value})), keyword)
        for what, keyword, value in [
            ("two patients under one SeriesInstanceUID", "PatientID", "SECRET-9999"),
            ("two studies under one SeriesInstanceUID", "StudyInstanceUID", uid("another")),
            ("two frames of reference", "FrameOfReferenceUID", uid("another frame")),
        ]
    ],
    refuse("no SeriesInstanceUID", edited(set_one(2, SeriesInstanceUID=None)), "02.dcm"),
    handle("no SOPInstanceUID", edited(set_all(SOPInstanceUID=None))),
    handle("slices that are links into a data store", store),
    refuse(
        "a link that leads nowhere among the slices",
        beside(lambda t: (t / "05.dcm").symlink_to("nowhere.dcm")),
        "05.dcm",
        tells="the file",
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
    refuse("an empty folder", lambda f: made(f / "empty"), "no DICOM image"),
    *[
        refuse(
            f"two series, {what} in a SeriesDescription",
            described(text),
            "2 series",
            tells="the description on one printable line",
        )
        for what, text in DESCRIPTIONS.items()
    ],
    *[
        handle(
            f"{what} in the SeriesDescription",
            lambda folder, text=text: series(folder, description=text),  # type: ignore[misc]
        )
        for what, text in DESCRIPTIONS.items()
        if what != "non-ASCII letters"
    ],
]
