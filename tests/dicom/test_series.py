import shutil
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import EnhancedMRImageStorage

from mrisr.core.errors import OutputError
from mrisr.core.volume import Storage
from mrisr.dicom.conformance import check_derived
from mrisr.dicom.series import is_ours, storable, write_series
from mrisr.dicom.source import read_source
from mrisr.io import read_volume
from mrisr.io.dicom_scan import quiet
from tests.dicom.conftest import (
    DERIVATION,
    assert_valid,
    errors_of,
    stumped,
    tool,
    upsampled,
)
from tests.dicom.synthetic import SLICES, hospital_series

KEPT = """
    StudyInstanceUID FrameOfReferenceUID PatientName PatientID PatientBirthDate PatientSex
    PatientAge PatientWeight StudyDate StudyTime StudyID AccessionNumber StudyDescription
    ReferringPhysicianName ImageOrientationPatient PatientPosition ScanningSequence
    SequenceVariant ScanOptions MRAcquisitionType RepetitionTime EchoTime EchoTrainLength
    FlipAngle MagneticFieldStrength SliceThickness AcquisitionDate AcquisitionTime
    Manufacturer ManufacturerModelName BodyPartExamined SpecificCharacterSet
    BurnedInAnnotation LossyImageCompression
"""
GRIDS = {"in-plane": (2, 2, 1), "through-plane": (1, 1, 3.5), "fractional": (1.5, 1.5, 1)}
LOSSY = {"LossyImageCompression": "01", "LossyImageCompressionRatio": 8}


def datasets(folder: Path) -> list[pydicom.FileDataset]:
    return [pydicom.dcmread(p) for p in sorted(folder.iterdir())]


def test_every_attribute_of_a_derived_series(hospital, derive):
    folder, volume, source = derive(hospital)
    old, new = datasets(hospital), datasets(folder)
    assert [p.name for p in sorted(folder.iterdir())] == [f"{k + 1:04d}.dcm" for k in range(SLICES)]
    for a, d in zip(old, new, strict=True):
        for keyword in KEPT.split():
            assert d[keyword].value == a[keyword].value, keyword
        assert d.SOPClassUID == "1.2.840.10008.5.1.4.1.1.4"
        assert d.ImageType == ["DERIVED", "SECONDARY", "OTHER"]
        assert d.SeriesNumber == 581
        assert d.SeriesDescription == "t2_tse_tra_5 super-resolved in-plane x2"
        assert d.DerivationDescription == DERIVATION.description
        assert d.DerivationCodeSequence[0].CodeValue == "113085"
        (reference,) = d.SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == a.SOPInstanceUID
        assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        equipment = d.ContributingEquipmentSequence[-1]
        assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert list(equipment.SoftwareVersions) == ["mrisr 0", "ab" * 32, "seed 3"]
        assert (d.Rows, d.Columns, d.PixelSpacing) == (128, 128, [0.5, 0.5])
        assert float(d.SpacingBetweenSlices) == pytest.approx(3.5)
        edge = np.array(d.ImagePositionPatient, float) - np.array(a.ImagePositionPatient, float)
        directions = np.array(d.ImageOrientationPatient, float).reshape(2, 3)
        np.testing.assert_allclose(edge, -0.25 * directions.sum(axis=0), atol=1e-9)
        assert "ImageComments" not in d
    raw = b"".join(p.read_bytes() for p in folder.iterdir())
    assert not any(secret in raw for secret in (b"secret protocol", b"SECRET-STEP"))
    assert check_derived(folder, source, volume) == []


def test_times_are_those_of_the_source_zone(tmp_path, derive):
    series = hospital_series(tmp_path / "s", TimezoneOffsetFromUTC="+0100")
    d = datasets(derive(series)[0])[0]
    assert (d.ContentDate, d.ContentTime) == ("20260306", "003001.000000")
    assert d.ContributingEquipmentSequence[0].ContributionDateTime.startswith("20260306003001")
    assert (d.SeriesDate, d.InstanceCreationDate) == ("20260306", "20260306")


@pytest.mark.parametrize(
    ("plane", "grid"), [*zip(("axial", "coronal", "sagittal"), GRIDS, strict=True)]
)
def test_validators(tmp_path, derive, plane, grid):
    series = hospital_series(tmp_path / "s", plane=plane, size=16, slices=4)
    files = sorted(derive(series, GRIDS[grid])[0].iterdir())
    for path in (files[0], files[-1]):
        assert_valid(path)
    assert errors_of(tool("dcentvfy"), *sorted(series.iterdir()), *files) == []
    subprocess.run([tool("dcmftest"), *files], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ({"BurnedInAnnotation": None}, {"BurnedInAnnotation": None}),
        ({"BurnedInAnnotation": "YES"}, {"BurnedInAnnotation": "YES"}),
        (LOSSY, LOSSY),
        ({"PatientIdentityRemoved": "YES"}, {"PatientIdentityRemoved": "YES"}),
        ({"ScanningSequence": None}, {"ScanningSequence": "RM"}),
        ({"StudyID": None}, {"StudyID": ""}),
        ({"SeriesNumber": None}, {"SeriesNumber": 81}),
        ({"SeriesNumber": 2**31 - 1}, {"SeriesNumber": 81}),
        ({"SeriesDescription": "x" * 64}, {"SeriesDescription": "x" * 37 + " " + DERIVATION.label}),
        ({"SeriesDescription": "../../etc\x1b[31m"}, {}),
        ({"SpecificCharacterSet": "ISO_IR 100"}, {"PatientName": "Secret^J\xf6rg"}),
        *(
            (
                {"SpecificCharacterSet": odd, "PatientName": "A^B"},
                {"SpecificCharacterSet": "ISO_IR 192"},
            )
            for odd in ("Not Supplied", "ISO_IR_100", ["", "UNKNOWN"], ["ISO_IR 192", "ISO_IR 100"])
        ),
        ({"PatientName": "A^B=C=D=E=F"}, {}),
        ({"EchoTime": "101.00000000000000001"}, {"EchoTime": 101}),
        ({"PixelBandwidth": "123.456789012345678"}, {"PixelBandwidth": 123.456789012}),
    ],
)
def test_attributes_that_are_odd_in_the_source(tmp_path, derive, edits, expected):
    with quiet():
        series = hospital_series(tmp_path / "s", slices=3, size=16, **edits)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        d = datasets(derive(series)[0])[0]
    for keyword, value in expected.items():
        assert d.get(keyword) == value, keyword
    assert len(d.SeriesDescription) <= 64
    assert d.SeriesDescription.isprintable()


def test_a_missing_frame_of_reference_is_made_and_stays(tmp_path, derive):
    series = hospital_series(tmp_path / "s", slices=3, size=16, FrameOfReferenceUID=None)
    uids = {d.FrameOfReferenceUID for name in "ab" for d in datasets(derive(series, name=name)[0])}
    assert len(uids) == 1
    assert uids.pop()


# --- pixels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "edits",
    [
        {"RescaleSlope": "0.5", "RescaleIntercept": "-100", "RescaleType": "US"},
        {"RescaleSlope": lambda k: f"{1 + 0.25 * k:g}", "RescaleIntercept": "3"},
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PixelRepresentation": 1},
    ],
    ids=["rescale", "rescale of each slice", "MONOCHROME1", "signed"],
)
def test_values_are_those_of_the_volume(tmp_path, derive, edits):
    series = hospital_series(tmp_path / "s", slices=4, size=16, **edits)
    folder, volume, _ = derive(series)
    clean = upsampled(read_volume(series), (2, 2, 1))
    span = float(np.ptp(clean.array))
    back = read_volume(folder)
    np.testing.assert_allclose(back.array, clean.array, atol=span / 60000)
    np.testing.assert_allclose(back.array, volume.array, rtol=1e-12)


@pytest.mark.parametrize(
    ("low", "high", "dtype", "wanted"),
    [
        (0, 255, np.uint8, np.uint16),
        (-128, 127, np.int8, np.int16),
        (0, 65535, np.uint16, np.uint16),
        (-32768, 32767, np.int16, np.int16),
        (0, 40000, np.int32, np.uint16),
        (-5, 30000, np.int64, np.int16),
        (-5, 70000, np.int32, np.uint16),
        (-1.5, 1e-3, np.float32, np.uint16),
        (0, 1e9, np.float64, np.uint16),
    ],
)
def test_storage_of_16_bits(tmp_path, low, high, dtype, wanted):
    whole = np.dtype(dtype).kind in "iu"
    hospital = hospital_series(tmp_path / "hospital", size=16, slices=3)
    volume = read_volume(hospital)
    ramp = np.linspace(low, high, volume.array.size).reshape(volume.shape)
    ramp = (ramp.round() if whole else ramp).astype(dtype)
    stored = storable(replace(volume, array=ramp, storage=Storage(np.dtype(dtype))))
    assert stored.storage.dtype == wanted
    step = 0 if whole and high - low <= 65535 else (high - low) / 65535
    np.testing.assert_allclose(stored.array, ramp, atol=0.501 * step + 1e-12)
    folder = write_series(stored, tmp_path / "out", read_source(hospital), DERIVATION)
    np.testing.assert_array_equal(read_volume(folder).array, stored.array)


# --- what may be replaced -------------------------------------------------------------------------


def test_what_is_ours(tmp_path, hospital, derive):
    folder = derive(hospital)[0]
    assert is_ours(folder)
    assert not is_ours(hospital)
    (folder / "notes.txt").write_text("mine")
    assert not is_ours(folder)


def test_an_existing_series_stays_unless_forced(tmp_path, hospital, derive):
    folder, volume, source = derive(hospital)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(OutputError, match="exists already"):
        write_series(volume, folder, source, DERIVATION)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    thin = storable(upsampled(read_volume(hospital), (1, 1, 2)))
    write_series(thin, folder, source, DERIVATION, force=True)
    assert len(list(folder.iterdir())) == 2 * SLICES
    assert sorted(p.name for p in tmp_path.iterdir()) == ["derived", "hospital"]


def test_a_series_that_does_not_read_back_is_not_kept(tmp_path, hospital, monkeypatch):
    volume, source = storable(read_volume(hospital)), read_source(hospital)
    stumped(monkeypatch, "truncated")
    with pytest.raises(OutputError, match="derived: not written"):
        write_series(volume, tmp_path / "derived", source, DERIVATION)
    assert [p.name for p in tmp_path.iterdir()] == ["hospital"]


# --- an enhanced multi-frame file in, a classic series out ----------------------------------------

IN_GROUPS = """
    ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness EchoTime FlipAngle
    SpacingBetweenSlices ScanningSequence SequenceVariant RepetitionTime EchoTrainLength ScanOptions
    PixelBandwidth NumberOfAverages
"""


def macro(**attributes):
    item = pydicom.Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return [item]


@pytest.fixture
def enhanced(tmp_path):
    """The synthetic series as one enhanced file, frames in reverse order."""
    series = hospital_series(tmp_path / "classic", size=16, slices=4)
    slices = [pydicom.dcmread(p) for p in sorted(series.iterdir())][::-1]
    d = pydicom.dcmread(series / "IM0001")
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    for keyword in IN_GROUPS.split():
        del d[keyword]
    d.EchoPulseSequence, d.SegmentedKSpaceTraversal, d.Spoiling = "SPIN", "PARTIAL", "RF"
    d.SteadyStatePulseSequence, first = "NONE", slices[0]
    timing = {"RepetitionTime": 5660, "EchoTrainLength": 25, "FlipAngle": 160}
    d.SharedFunctionalGroupsSequence = macro(
        PixelMeasuresSequence=macro(PixelSpacing=first.PixelSpacing, SliceThickness=3),
        PlaneOrientationSequence=macro(ImageOrientationPatient=first.ImageOrientationPatient),
        MREchoSequence=macro(EffectiveEchoTime=104.0),
        MRTimingAndRelatedParametersSequence=macro(**timing),
    )
    scale = {"RescaleIntercept": "0", "RescaleSlope": "2", "RescaleType": "US"}
    d.PerFrameFunctionalGroupsSequence = [
        macro(
            PlanePositionSequence=macro(ImagePositionPatient=s.ImagePositionPatient),
            PixelValueTransformationSequence=macro(**scale),
        )[0]
        for s in slices
    ]
    d.NumberOfFrames = len(slices)
    d.PixelData = b"".join(s.PixelData for s in slices)
    path = tmp_path / "enhanced.dcm"
    d.save_as(path)
    return path


def test_classic_attributes_come_from_functional_groups(enhanced, derive):
    folder, volume, source = derive(enhanced)
    np.testing.assert_array_equal(read_volume(folder).array, volume.array)
    for k, path in enumerate(sorted(folder.iterdir())):
        d = pydicom.dcmread(path)
        assert d.SOPClassUID == "1.2.840.10008.5.1.4.1.1.4"
        assert (d.RepetitionTime, d.EchoTime, d.EchoTrainLength) == (5660, 104, 25)
        assert (d.ScanningSequence, d.SequenceVariant) == ("SE", ["SK", "SP"])
        assert (d.RescaleSlope, d.RescaleType, d.MRAcquisitionType) == (2, "US", "2D")
        assert "PerFrameFunctionalGroupsSequence" not in d
        (reference,) = d.SourceImageSequence
        assert reference.ReferencedFrameNumber == 4 - k, "frames are stored in reverse"
        assert reference.ReferencedSOPInstanceUID == pydicom.dcmread(enhanced).SOPInstanceUID
    assert source.shape == (16, 16, 4)
    assert_valid(folder / "0001.dcm")


def test_a_real_enhanced_file(shared, derive):
    path = shared / "dicom/awkward/dcm_qa_enh/In/Siemens/XA10/6_1.dcm"
    folder, volume, _ = derive(path)
    np.testing.assert_array_equal(read_volume(folder).array, volume.array)
    assert_valid(folder / "0001.dcm")


@pytest.fixture(scope="module")
def derived(tmp_path_factory):
    """A small derived series, its volume and its source."""
    folder = tmp_path_factory.mktemp("careless")
    series = hospital_series(folder / "hospital", size=16, slices=4)
    volume, source = storable(upsampled(read_volume(series), (2, 2, 1))), read_source(series)
    return write_series(volume, folder / "derived", source, DERIVATION), volume, source


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
def test_a_careless_series_is_noticed(tmp_path, derived, change, words):
    whole, volume, source = derived
    folder = shutil.copytree(whole, tmp_path / "derived")
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
