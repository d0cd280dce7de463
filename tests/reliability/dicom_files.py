"""Synthetic DICOM: a clean series, an enhanced file, and what is often found beside them.

Every file is full of a patient who must never be seen again; see ``SECRETS``.
"""

from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

from tests.reliability.volume_files import AFFINE, COLUMNS, ROWS, SLICES, SPACING, VOXELS, Make

#: No output, record, picture or line of text may hold one of these, in any case of letters.
SECRETS = ("secret", "19010203", "11:12:13", "111213.14")

Edit = Callable[[FileDataset, int], None]
_OF_FRAMES = """ImagePositionPatient ImageOrientationPatient PixelSpacing
SpacingBetweenSlices""".split()
_TEXTS = """PatientAddress PatientComments ReferringPhysicianName InstitutionName OperatorsName
StudyDescription ImageComments""".split()


def uid(*parts: object) -> UID:
    """The same UID for the same parts in every run."""
    return pydicom.uid.generate_uid(entropy_srcs=["mrisr reliability", *map(str, parts)])


def setting(only: int | None = None, **attributes: Any) -> Edit:
    """Sets attributes of every slice or of one. None deletes, a callable value gets the slice's number,
    and the bytes of a decimal string are written as they are."""

    def edit(d: Dataset, k: int) -> None:
        for keyword, value in attributes.items():
            value = value(k) if callable(value) else value
            if only not in (None, k):
                continue
            if value is None:
                delattr(d, keyword)
            elif isinstance(value, bytes) and dictionary_VR(keyword) == "DS":
                value += b" " * (len(value) % 2)
                tag = Tag(keyword)
                d[tag] = RawDataElement(tag, "DS", len(value), value, 0, False, True)
            else:
                setattr(d, keyword, value)

    return edit


def every(**attributes: Any) -> Make:
    """Makes a series with attributes of every slice set."""
    return partial(series, edit=setting(**attributes))


def third(**attributes: Any) -> Make:
    """Makes a series with attributes of its third slice, 02.dcm, set."""
    return partial(series, edit=setting(2, **attributes))


def series(
    folder: Path,
    name: str = "series",
    *,
    edit: Edit | None = None,
    slices: Iterable[int] = range(SLICES),
    number: int = 1,
    description: str = "t2_tse_tra",
    naming: str = "{:02d}.dcm",
) -> Path:
    """A folder with the clean series, or with some of its slices; ``edit`` changes each."""
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    for k in slices:
        dataset = image(k, number, description)
        if edit is not None:
            edit(dataset, k)
        dataset.save_as(target / naming.format(k), enforce_file_format=True)
    return target


def image(k: int, number: int = 1, description: str = "t2_tse_tra") -> FileDataset:
    """Slice ``k`` of the clean series."""
    d = blank(MRImageStorage, uid(number, k))
    d.SeriesInstanceUID, d.StudyInstanceUID = uid("series", number), uid("study")
    d.Modality, d.SeriesDescription, d.SeriesNumber = "MR", description, number
    add_patient(d)
    d.InstanceNumber = k + 1
    d.ImagePositionPatient = position(k)
    d.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    d.FrameOfReferenceUID = uid("frame of reference")
    d.PixelSpacing, d.SliceThickness = [SPACING[1], SPACING[0]], 2.5
    d.SpacingBetweenSlices = SPACING[2]
    set_pixels(d, VOXELS[:, :, k].T)
    return d


def blank(kind: UID, sop_uid: UID) -> FileDataset:
    """A dataset of a SOP class, ready to be saved."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, sop_uid
    d = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    d.SOPClassUID, d.SOPInstanceUID = kind, sop_uid
    return d


def set_pixels(d: Dataset, rows: Any, *, stored: int | None = None) -> None:
    """Give an image the numbers ``(rows, columns)`` in their dtype, ``stored`` bits of it used."""
    bits = rows.dtype.itemsize * 8
    d.Rows, d.Columns = rows.shape[-2:]
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated, d.BitsStored = bits, stored or bits
    d.HighBit, d.PixelRepresentation = d.BitsStored - 1, int(rows.dtype.kind == "i")
    data = rows.astype(rows.dtype.newbyteorder("<")).tobytes()
    d.PixelData = data + b"\0" * (len(data) % 2)
    d["PixelData"].VR = "OW" if bits > 8 else "OB"


def position(k: float) -> list[float]:
    """ImagePositionPatient of slice ``k``: the truth's affine in LPS."""
    x, y, z = AFFINE[:3, 3]
    return [float(-x), float(-y), float(z + k * SPACING[2])]


def add_patient(d: Dataset) -> None:
    """What must not leave: a patient, places, times, private elements and an overlay."""
    d.PatientName, d.PatientID = "Secret^Person", "SECRET-0042"
    d.PatientBirthDate = d.StudyDate = d.SeriesDate = d.ContentDate = "19010203"
    d.StudyTime = d.AcquisitionTime = "111213.14"
    d.PatientSex, d.PatientAge, d.OtherPatientIDs = "M", "066Y", "SECRET-0043"
    for keyword in _TEXTS:
        setattr(d, keyword, f"Secret {keyword}")
    for keyword in ("AccessionNumber", "StudyID", "StationName", "DeviceSerialNumber"):
        setattr(d, keyword, "SECRET-0044")
    nested = _item(PatientName="Secret^Nested", PatientID="SECRET-0045", StudyDate="19010203")
    nested.OtherPatientIDsSequence = [_item(PatientID="SECRET-0046")]
    d.OtherPatientIDsSequence = [deepcopy(nested)]
    d.RequestAttributesSequence = [_item(AccessionNumber="SECRET-0047", StudyDate="19010203")]
    d.AnatomicRegionSequence = [deepcopy(nested)]
    d.AnatomicRegionSequence[0].update(
        _item(CodeValue="41216001", CodingSchemeDesignator="SCT", CodeMeaning="Prostate")
    )
    block = d.private_block(0x0029, "SECRET VENDOR", create=True)
    block.add_new(0x10, "LO", "secret private text")
    block.add_new(0x20, "OB", b"secret private bytes")
    add_overlay(d, ROWS, COLUMNS)


def add_overlay(d: Dataset, rows: int, columns: int) -> None:
    """Graphics over an image of this size."""
    for element, vr, value in (
        (0x0010, "US", rows),
        (0x0011, "US", columns),
        (0x0022, "LO", "secret overlay"),
        (0x0040, "CS", "G"),
        (0x0050, "SS", [1, 1]),
        (0x0100, "US", 1),
        (0x0102, "US", 0),
        (0x3000, "OW", b"\xff" * (rows * columns // 8)),
    ):
        d.add_new((0x6000, element), vr, value)


def change(path: Path, **attributes: object) -> None:
    """Set attributes of a file that exists; None deletes."""
    dataset = pydicom.dcmread(path)
    setting(**attributes)(dataset, 0)
    dataset.save_as(path)


def repeated(folder: Path, **labels: tuple[object, ...]) -> Path:
    """A series with every position twice; each label says what the two volumes carry. The second holds
    half of the first's numbers."""
    for volume in (0, 1):

        def edit(d: FileDataset, k: int, volume: int = volume) -> None:
            d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = uid("repeat", volume, k)
            setting(**{keyword: values[volume] for keyword, values in labels.items()})(d, k)
            set_pixels(d, VOXELS[:, :, k].T // (volume + 1))

        target = series(folder, edit=edit, naming=f"{volume}_{{:02d}}.dcm")
    return target


def enhanced(
    folder: Path, *, volumes: int = 1, geometry: bool = True, edit: Edit | None = None
) -> Path:
    """An enhanced multi-frame file, its frames out of order; ``volumes`` repeats every position."""
    d = image(0)
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    for keyword in _OF_FRAMES:
        del d[keyword]
    order = [(v, k) for k in (2, 0, 1, 4, 3) for v in range(volumes)]
    d.NumberOfFrames = len(order)
    if geometry:
        measures = _item(PixelSpacing=[SPACING[1], SPACING[0]], SliceThickness=2.5)
        d.SharedFunctionalGroupsSequence = [_item(PixelMeasuresSequence=[measures])]
        d.PerFrameFunctionalGroupsSequence = [_group(v, k) for v, k in order]
    d.PixelData = b"".join((VOXELS[:, :, k].T // (v + 1)).tobytes() for v, k in order)
    if edit is not None:
        edit(d, 0)
    path = folder / "enhanced.dcm"
    d.save_as(path, enforce_file_format=True)
    return path


def _group(volume: int, k: int) -> Dataset:
    group = Dataset()
    group.PlanePositionSequence = [_item(ImagePositionPatient=position(k))]
    group.PlaneOrientationSequence = [_item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]
    group.MREchoSequence = [_item(EffectiveEchoTime=100.0 + volume)]
    return group


def _item(**attributes: object) -> Dataset:
    item = Dataset()
    setting(**attributes)(item, 0)
    return item
