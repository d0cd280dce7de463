import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from mrisr.core import geometry
from mrisr.core.errors import InputError, OutputError, UsageError
from mrisr.core.volume import Volume
from mrisr.data.phantom import label_volume
from mrisr.dicom import multiframe as multiframe_writer
from mrisr.dicom.segmentation import read_segmentation, write_segmentation
from mrisr.dicom.segments import PROSTATE_ZONES
from mrisr.dicom.source import deidentified, read_source
from mrisr.io import read_volume
from tests.dicom.conftest import (
    DERIVATION,
    FAULTS,
    as_nifti,
    assert_valid,
    at,
    errors_of,
    frames,
    multiframe,
    references,
    stumped,
    tool,
    upsampled,
    world,
    zones,
)
from tests.dicom.synthetic import SECRETS, hospital_series

GRIDS = {"own": (1, 1, 1), "in-plane": (2, 2, 1), "through-plane": (1, 1, 3.5)}
ZONES = replace(DERIVATION, label="prostate zones", series_offset=91)


@pytest.fixture
def source(series):
    return read_source(series)


def write(labels, tmp_path, source, **more):
    more = {"segments": PROSTATE_ZONES, "derivation": ZONES, **more}
    return write_segmentation(labels, tmp_path / "zones.dcm", source, **more)


def check_same(path: Path, labels: Volume) -> None:
    back = read_segmentation(path).volume
    np.testing.assert_array_equal(back.array, labels.array)
    np.testing.assert_allclose(back.affine, labels.affine, atol=1e-5)


def check_against(labels: Volume, d: pydicom.Dataset) -> None:
    """Every frame of every segment is there, where it belongs."""
    seen = 0
    for plane, points, group in frames(d):
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        np.testing.assert_array_equal(plane, at(labels, points) == number)
        seen += plane.size
    assert seen == labels.array.size * len(d.SegmentSequence)


# --- what is written ------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", GRIDS)
def test_labels_come_back_on_their_grid(tmp_path, series, source, grid):
    labels = zones(upsampled(read_volume(series), GRIDS[grid]))
    path = write(labels, tmp_path, source)
    check_same(path, labels)
    back = read_segmentation(path)
    assert (back.path, back.volume.stacked_along, back.volume.name) == (path, 2, str(path))
    check_against(labels, pydicom.dcmread(path))
    assert_valid(path)
    assert errors_of(tool("dcentvfy"), *sorted(series.iterdir()), path) == []
    subprocess.run([tool("dcmftest"), path], check=True, capture_output=True)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_other_axes_than_the_source(tmp_path, plane):
    series = hospital_series(tmp_path / "s", size=48, slices=6, plane=plane, obliquity=21)
    grid = upsampled(read_volume(series), (1, 2, 1))
    labels = as_nifti(label_volume(grid.shape, grid.affine))
    assert geometry.axis_codes(labels.affine) != geometry.axis_codes(grid.affine)
    path = write(labels, tmp_path, read_source(series))
    check_against(labels, pydicom.dcmread(path))
    back = read_segmentation(path).volume
    np.testing.assert_allclose(back.affine, grid.affine, atol=1e-5)


def test_planes_across_those_of_the_source(tmp_path, source):
    """Then every slice is the source of every plane; it is said once."""
    affine = np.array([[0, 0, 3.0, -20], [1.5, 0, 0, -18], [0, 1.5, 0, -12], [0, 0, 0, 1]])
    labels = zones(Volume(np.zeros((24, 16, 14)), affine, stacked_along=2))
    path = write(labels, tmp_path, source)
    d = pydicom.dcmread(path)
    check_against(labels, d)
    (derivation,) = d.SharedFunctionalGroupsSequence[0].DerivationImageSequence
    assert len(derivation.SourceImageSequence) == 6
    assert not any("DerivationImageSequence" in g for g in d.PerFrameFunctionalGroupsSequence)
    assert_valid(path)


def test_attributes(tmp_path, series, source, labels):
    old = pydicom.dcmread(series / "IM0001")
    d = pydicom.dcmread(write(labels, tmp_path, source))
    for keyword in """
        StudyInstanceUID FrameOfReferenceUID PatientName PatientID PatientBirthDate PatientSex
        PatientAge StudyDate StudyTime StudyID AccessionNumber StudyDescription
        ReferringPhysicianName SpecificCharacterSet BodyPartExamined
    """.split():
        assert d[keyword].value == old[keyword].value, keyword
    assert (d.SOPClassUID, d.Modality) == ("1.2.840.10008.5.1.4.1.1.66.4", "SEG")
    assert (d.SegmentationType, d.SegmentsOverlap) == ("BINARY", "NO")
    assert (d.SeriesNumber, d.InstanceNumber) == (591, 1)
    assert d.SeriesDescription == "t2_tse_tra_5 prostate zones segmentation"
    assert (d.ContentDate, d.SeriesDate) == ("20260305", "20260305")
    assert "Research use only" in d.DerivationDescription
    assert d.SeriesInstanceUID not in (old.SeriesInstanceUID, d.StudyInstanceUID)
    assert d.file_meta.MediaStorageSOPInstanceUID == d.SOPInstanceUID
    makers = [item.Manufacturer for item in d.ContributingEquipmentSequence]
    assert makers == ["SIEMENS", "Highdicom open-source contributors", "The mrisr authors"]
    assert (d.Manufacturer, d.ManufacturerModelName) == ("The mrisr authors", "mrisr")
    assert (d.SoftwareVersions, d.DeviceSerialNumber) == ("mrisr 0", "ab" * 32)
    for number, item in enumerate(d.SegmentSequence, start=1):
        assert item.SegmentNumber == number
        assert item.SegmentAlgorithmType == "AUTOMATIC"
        (algorithm,) = item.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("mrisr", "0")
        assert algorithm.AlgorithmParameters == f"model_sha256={'ab' * 32},seed=3"
        assert len(item.RecommendedDisplayCIELabValue) == 3
    assert not any(e.tag.is_private or e.tag.group == 0x6000 for e in d.iterall())
    assert b"SECRET-STEP" not in (tmp_path / "zones.dcm").read_bytes()


def test_codes_are_those_of_the_standard():
    """Against pydicom's copy of the dictionaries of PS3.16."""
    known = (codes.SCT.PeripheralZoneOfTheProstate, codes.SCT.TransitionZoneOfTheProstate)
    assert tuple(s.type for s in PROSTATE_ZONES) == known
    assert {s.category for s in PROSTATE_ZONES} == {codes.SCT.AnatomicalStructure}


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize(("grid", "preserved"), [("own", "YES"), ("in-plane", "NO")])
def test_frames_refer_to_their_slices(tmp_path, series, source, grid, preserved, enhanced):
    """The slices of an enhanced source are one instance, referred to once, and told by number."""
    source = multiframe(source) if enhanced else source
    labels = zones(upsampled(read_volume(series), GRIDS[grid]))
    path = write(labels, tmp_path, source)
    d = pydicom.dcmread(path)
    uids = [s.sop_uid for s in source.slices]
    (referred,) = d.ReferencedSeriesSequence
    assert referred.SeriesInstanceUID == source.series_uid
    unique = [(uid, None) for uid in dict.fromkeys(uids)]
    assert references(referred.ReferencedInstanceSequence) == unique
    whole = [(uids[0], [1, 2, 3, 4, 5, 6])] if enhanced else [(uid, None) for uid in uids]
    assert references(d.SourceImageSequence) == whole
    for _, points, group in frames(d):
        (derivation,) = group.DerivationImageSequence
        (image,) = derivation.SourceImageSequence
        k = round((np.linalg.inv(source.affine) @ [*points[0, 0], 1])[2])
        assert references([image]) == [(uids[k], source.slices[k].frame)]
        assert image.SpatialLocationsPreserved == preserved
        assert image.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        assert derivation.DerivationCodeSequence[0].CodeValue == "113076"
    assert_valid(path)


def test_segments_that_do_not_occur_or_one_only(tmp_path, source, labels):
    one = labels.with_array(np.where(labels.array == 1, 1, 0))
    none = labels.with_array(np.zeros_like(labels.array))
    for given in (one, none):
        path = write(given, tmp_path, source, force=True)
        check_same(path, given)
        assert_valid(path)
    series = hospital_series(tmp_path / "s", size=48, slices=1)
    single = read_volume(series)
    single = single.with_array((single.array > 500).astype(float))
    more = {"segments": PROSTATE_ZONES[:1], "force": True}
    check_same(write(single, tmp_path, read_source(series), **more), single)


def test_without_the_patient(tmp_path, source, labels):
    path = write(labels, tmp_path, deidentified(source))
    raw = path.read_bytes().lower()
    first = source.slices[0]
    for secret in (*SECRETS, source.series_uid, first.carried.StudyInstanceUID, first.sop_uid):
        assert secret.encode("latin-1").lower() not in raw, secret
    d = pydicom.dcmread(path)
    assert (d.PatientIdentityRemoved, d.PatientID[:5]) == ("YES", "ANON-")
    assert_valid(path)


@pytest.mark.parametrize(
    "edits",
    [
        {"PatientSex": "?", "StudyTime": "10:15", "PatientBirthDate": "unknown"},
        {"Manufacturer": None, "SoftwareVersions": None},
        {"SoftwareVersions": ["a", "b"], "SpecificCharacterSet": None, "PatientName": "A"},
        {"LossyImageCompression": "01", "LossyImageCompressionRatio": "8"},
        {"SeriesNumber": None, "SeriesDescription": "x" * 64},
        {"FrameOfReferenceUID": None},
        {"TimezoneOffsetFromUTC": "+0100"},
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value|Value doesn't match:UserWarning")
def test_odd_sources(tmp_path, edits):
    series = hospital_series(tmp_path / "s", size=48, slices=3, **edits)
    d = pydicom.dcmread(write(zones(read_volume(series)), tmp_path, read_source(series)))
    assert len(d.SeriesDescription) <= 64
    assert d.SeriesDescription.endswith("prostate zones segmentation")
    assert d.LossyImageCompression == edits.get("LossyImageCompression", "00")
    assert d.ContentDate == ("20260306" if "TimezoneOffsetFromUTC" in edits else "20260305")


def test_a_rerun_gives_the_same_file(tmp_path, source, labels):
    first = write(labels, tmp_path, source).read_bytes()
    assert write(labels, tmp_path, source, force=True).read_bytes() == first
    lesions = replace(PROSTATE_ZONES[1], type=Code("1", "99TEST", "Lesion"))
    other = {"segments": (PROSTATE_ZONES[0], lesions)}, {"derivation": replace(ZONES, key="other")}
    uids = set()
    for more in ({}, *other):
        path = write(labels, tmp_path, source, force=True, **more)
        uids.add(pydicom.dcmread(path).SOPInstanceUID)
    assert len(uids) == 3


# --- what is refused ------------------------------------------------------------------------------


def test_labels_nobody_declared(tmp_path, source, labels):
    wrong = labels.with_array(labels.array.astype(np.int16) * 7 - 1)
    with pytest.raises(InputError, match=r"labels from 0 to 2, found -1, 6, 13$"):
        write(wrong, tmp_path, source)
    with pytest.raises(InputError, match="whole numbers, found fractions"):
        write(labels.with_array(labels.array * 0.5), tmp_path, source)
    sheared = labels.affine @ [[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    with pytest.raises(InputError, match="right angles"):
        write(replace(labels, affine=sheared), tmp_path, source)
    for segments in ((), PROSTATE_ZONES[1:], PROSTATE_ZONES[::-1]):
        with pytest.raises(UsageError, match="1, 2, 3 and so on"):
            write(labels, tmp_path, source, segments=segments)
    assert [p.name for p in tmp_path.iterdir()] == ["series"]


@pytest.mark.parametrize("fault", FAULTS)
def test_an_old_file_stays_where_the_new_one_does_not_read_back(
    tmp_path, source, labels, monkeypatch, fault
):
    (tmp_path / "zones.dcm").write_text("old")
    with pytest.raises(OutputError, match="exists already"):
        write(labels, tmp_path, source)
    stumped(monkeypatch, fault)
    with pytest.raises(OutputError, match=rf"zones\.dcm: not written, .*{FAULTS[fault]}") as caught:
        write(labels, tmp_path, source, force=True)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "zones.dcm").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["series", "zones.dcm"]


def test_more_than_a_file_holds(tmp_path, source, labels, monkeypatch):
    monkeypatch.setattr(multiframe_writer, "_MOST", labels.array.size // 4 - 1)
    with pytest.raises(OutputError, match="bytes of pixels"):
        write(labels, tmp_path, source)


def test_highdicom_loads_when_it_is_used():
    code = "import sys, mrisr.dicom.segmentation, mrisr.dicom.parametric_map as m\n"
    code += "sys.exit('highdicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- what others wrote, and what is none ----------------------------------------------------------


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_segmentations_of_others(foreign, labels, kind):
    back = read_segmentation(foreign(kind)).volume
    assert (back.array > 0).any(axis=(0, 1)).sum() == (labels.array > 0).any(axis=(0, 1)).sum()
    np.testing.assert_array_equal(back.array, at(labels, world(back)))


def test_what_is_no_label_volume(tmp_path, series, foreign, labels):
    stack = np.stack([labels.array.transpose(2, 1, 0) > 0] * 2, axis=-1).astype(np.uint8)
    path = foreign(array=stack)
    with pytest.raises(InputError, match="segments that do not overlap"):
        read_segmentation(path)
    with pytest.raises(InputError, match="fractional"):
        read_segmentation(foreign("FRACTIONAL"))
    path = foreign()
    with pytest.raises(InputError, match="at most 100 voxels"):
        read_segmentation(path, max_voxels=100)
    whole = path.read_bytes()
    others = [series / "IM0001", tmp_path / "missing.dcm"]
    for kept in (0, 200, len(whole) // 2, len(whole) - 8):
        others.append(tmp_path / f"{kept}.dcm")
        others[-1].write_bytes(whole[:kept])
    for other in others:
        with pytest.raises(InputError, match="expected a DICOM segmentation") as caught:
            read_segmentation(other)
        assert "\n" not in str(caught.value)
