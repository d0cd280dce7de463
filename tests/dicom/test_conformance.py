from __future__ import annotations

import pydicom
import pytest

from mrisr.dicom.conformance import check_derived


def set_to(**attributes):
    def change(d):
        for keyword, value in attributes.items():
            setattr(d, keyword, value(d) if callable(value) else value)

    return change


def only(number, change):
    return lambda d: change(d) if d.InstanceNumber == number else None


def private(d):
    d.private_block(0x29, "VENDOR", create=True).add_new(1, "LO", "x")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_to(ImageType=["ORIGINAL", "PRIMARY"]), "ImageType"),
        (set_to(StudyInstanceUID="1.2.3"), "StudyInstanceUID is not the source's"),
        (set_to(FrameOfReferenceUID="1.2.3"), "FrameOfReferenceUID is not the source's"),
        (set_to(PatientID="other"), "PatientID is not the source's"),
        (set_to(SeriesNumber=5), "SeriesNumber is not new"),
        (set_to(SeriesDescription="t2"), "does not say super-resolved"),
        (set_to(DerivationDescription="none"), "research use only"),
        (set_to(DerivationCodeSequence=[]), "DerivationCodeSequence"),
        (set_to(ContributingEquipmentSequence=[]), "ContributingEquipmentSequence"),
        (set_to(SliceThickness=0), "SliceThickness"),
        (set_to(SpacingBetweenSlices=3), "SpacingBetweenSlices"),
        (only(2, set_to(SpacingBetweenSlices=3)), "differs between slices"),
        (only(2, set_to(WindowWidth=3)), "WindowWidth differs"),
        (set_to(SliceLocation=1e3), "SliceLocation"),
        (set_to(InstanceNumber=lambda d: 20 - d.InstanceNumber), "InstanceNumber"),
        (set_to(PixelSpacing=[0.6, 0.6]), "positions read back"),
        (set_to(LargestImagePixelValue=1), "LargestImagePixelValue"),
        (set_to(BitsStored=8, HighBit=7), "BitsStored"),
        (set_to(WindowWidth=0), "WindowWidth is not above zero"),
        (set_to(IconImageSequence=[]), "IconImageSequence"),
        (private, "private"),
        (
            set_to(PixelData=lambda d: (d.pixel_array + 1).astype("<u2").tobytes()),
            "voxels read back differently",
        ),
    ],
)
def test_a_careless_series_is_noticed(hospital, derive, change, words):
    folder, volume, source = derive(hospital)
    assert check_derived(folder, source, volume) == []
    for path in folder.iterdir():
        d = pydicom.dcmread(path)
        change(d)
        d.save_as(path)
    assert any(words in line for line in check_derived(folder, source, volume))


def test_a_copy_of_the_source_is_no_derived_series(hospital, derive):
    """What validators pass: the source's own files, in another folder."""
    _, _, source = derive(hospital)
    wrong = "; ".join(check_derived(hospital, source))
    for words in ("SeriesInstanceUID is not new", "SOPInstanceUID is not new", "ImageType"):
        assert words in wrong


def test_a_lost_mark_of_lossy_compression_is_noticed(hospital, derive):
    folder, _, source = derive(hospital)
    source.slices[3].carried.LossyImageCompression = "01"
    assert any("Lossy" in line for line in check_derived(folder, source))


def test_no_files(tmp_path, hospital, derive):
    _, _, source = derive(hospital)
    (tmp_path / "empty").mkdir()
    assert check_derived(tmp_path / "empty", source) == [
        "it does not read back: expected a DICOM series, found no DICOM image file"
    ]
