from __future__ import annotations

import subprocess
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from mrisr.core.errors import InputError, OutputError
from mrisr.core.volume import Volume
from mrisr.dicom import multiframe as writer
from mrisr.dicom.deidentify import deidentified
from mrisr.dicom.derivation import code_item
from mrisr.dicom.parametric_map import STANDARD_DEVIATION, write_parametric_map
from mrisr.dicom.source import read_source
from mrisr.io import read_volume
from tests.dicom.conftest import DERIVATION, errors_of, tool, upsampled
from tests.dicom.frames import FAULTS, GRIDS, as_nifti, at, frames, multiframe, references, stumped
from tests.dicom.synthetic import SECRETS, hospital_series
from tests.dicom.test_enhanced_source import enhanced

PELVIS = code_item(Code("816092008", "SCT", "Pelvis"))
MAP = replace(DERIVATION, series_offset=92)


@pytest.fixture
def series(tmp_path):
    return hospital_series(tmp_path / "series", size=32, slices=5)


@pytest.fixture
def source(series):
    return read_source(series)


@pytest.fixture
def deviation(series):
    """Float32 values on the grid of an in-plane result."""
    return deviations(upsampled(read_volume(series), (2, 2, 1)))


def deviations(grid: Volume) -> Volume:
    random = np.random.default_rng(4)
    return grid.with_array(random.gamma(2.0, 7.3, grid.shape).astype(np.float32))


def write(values, tmp_path, source, **more):
    more = {"derivation": MAP, **more}
    return write_parametric_map(values, tmp_path / "map.dcm", source, **more)


def check_against(values: Volume, d: pydicom.Dataset) -> None:
    count = 0
    for plane, points, _ in frames(d):
        assert plane.dtype == np.float32
        np.testing.assert_array_equal(plane, at(values, points))
        count += plane.size
    assert count == values.array.size


@pytest.mark.parametrize("grid", GRIDS)
def test_values_and_places(tmp_path, series, source, grid):
    values = deviations(upsampled(read_volume(series), GRIDS[grid]))
    path = write(values, tmp_path, source)
    check_against(values, pydicom.dcmread(path))

    import highdicom as hd

    seen = hd.imread(path).get_volume(apply_real_world_transform=True)
    inverse = np.linalg.inv(np.diag([-1.0, -1.0, 1.0, 1.0]) @ values.affine)
    corner = np.array(seen.spatial_shape) - 1
    for index in (np.zeros(3, int), corner):
        here = np.rint((inverse @ seen.affine @ [*index, 1])[:3]).astype(int)
        assert seen.array[tuple(index)] == values.array[tuple(here)]
    assert seen.frame_of_reference_uid == source.frame_of_reference_uid


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_other_axes_than_the_source(tmp_path, plane):
    series = hospital_series(tmp_path / "s", size=16, slices=4, plane=plane, obliquity=21)
    values = as_nifti(deviations(read_volume(series)))
    path = write(values, tmp_path, read_source(series))
    check_against(values, pydicom.dcmread(path))
    assert errors_of(tool("dciodvfy"), "-new", path) == []


def test_attributes(tmp_path, series, source, deviation):
    old = pydicom.dcmread(series / "IM0001")
    d = pydicom.dcmread(write(deviation, tmp_path, source))
    for keyword in """
        StudyInstanceUID FrameOfReferenceUID PatientName PatientID PatientBirthDate StudyDate
        StudyTime AccessionNumber ReferringPhysicianName BodyPartExamined PatientPosition
    """.split():
        assert d[keyword].value == old[keyword].value, keyword
    assert (d.SOPClassUID, d.Modality) == ("1.2.840.10008.5.1.4.1.1.30", "MR")
    assert d.ImageType == ["DERIVED", "PRIMARY", "VOLUME", "STD_DEVIATION"]
    assert (d.ContentLabel, d.ContentQualification) == ("STD_DEVIATION", "RESEARCH")
    assert (d.SeriesNumber, d.InstanceNumber) == (592, 1)
    assert d.SeriesDescription == "t2_tse_tra_5 super-resolved in-plane x2 standard deviation"
    assert (d.BurnedInAnnotation, d.BitsAllocated, d.NumberOfFrames) == ("NO", 32, 5)
    assert "Research use only" in d.DerivationDescription
    assert d.ContributingEquipmentSequence[-1].ManufacturerModelName == "mrisr"
    shared = d.SharedFunctionalGroupsSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    assert list(measures.PixelSpacing) == [0.5, 0.5]
    assert (measures.SliceThickness, measures.SpacingBetweenSlices) == (3, 3.5)
    anatomy = shared.FrameAnatomySequence[0]
    assert (anatomy.FrameLaterality, anatomy.AnatomicRegionSequence[0].CodeMeaning) == (
        "U",
        "Prostate",
    )


def test_what_the_values_mean(tmp_path, source, deviation):
    shared = pydicom.dcmread(write(deviation, tmp_path, source)).SharedFunctionalGroupsSequence[0]
    (mapping,) = shared.RealWorldValueMappingSequence
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    low = mapping.DoubleFloatRealWorldValueFirstValueMapped
    high = mapping.DoubleFloatRealWorldValueLastValueMapped
    assert (low, high) == (deviation.array.min(), deviation.array.max())
    (unit,) = mapping.MeasurementUnitsCodeSequence
    assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("1", "UCUM")
    told = {
        item.ConceptNameCodeSequence[0].CodeMeaning: item.ConceptCodeSequence[0].CodeMeaning
        for item in mapping.QuantityDefinitionSequence
    }
    assert told == {"Quantity": "MR signal intensity", "Derivation": "Standard Deviation"}
    assert STANDARD_DEVIATION.of == codes.DCM.MRSignalIntensity
    assert STANDARD_DEVIATION.derivation == codes.SCT.StandardDeviation
    assert STANDARD_DEVIATION.unit == codes.UCUM.NoUnits
    (window,) = shared.FrameVOILUTSequence
    assert window.VOILUTFunction == "LINEAR_EXACT"
    half = window.WindowWidth / 2
    covered = (window.WindowCenter - half, window.WindowCenter + half)
    np.testing.assert_allclose(covered, np.percentile(deviation.array, (0.5, 99.5)), rtol=1e-4)


@pytest.mark.parametrize("value", [0.0, 3.25e-30, 1e6])
def test_a_constant_map(tmp_path, source, deviation, value):
    flat = deviation.with_array(np.full(deviation.shape, value))
    path = write(flat, tmp_path, source)
    d = pydicom.dcmread(path)
    assert np.all(d.pixel_array == np.float32(value))
    assert d.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0].WindowWidth > 0
    assert errors_of(tool("dciodvfy"), "-new", path) == []


def test_enhanced_source(tmp_path, source, deviation):
    source = multiframe(source)
    path = write(deviation, tmp_path, source)
    d = pydicom.dcmread(path)
    assert references(d.SourceImageSequence) == [(source.slices[0].sop_uid, [1, 2, 3, 4, 5])]
    for _, points, group in frames(d):
        (derivation,) = group.DerivationImageSequence
        assert derivation.DerivationCodeSequence[0].CodeValue == "386136009"
        k = (np.linalg.inv(source.affine) @ [*points[0, 0], 1])[2]
        assert derivation.SourceImageSequence[0].ReferencedFrameNumber == 5 - round(k)
    assert errors_of(tool("dciodvfy"), "-new", path) == []


def test_an_enhanced_file(tmp_path, request):
    path = request.getfixturevalue(enhanced.__name__)
    source, values = read_source(path), deviations(upsampled(read_volume(path), (1, 1, 2)))
    out = write(values, tmp_path, source)
    d = pydicom.dcmread(out)
    check_against(values, d)
    uid = pydicom.dcmread(path).SOPInstanceUID
    assert references(d.SourceImageSequence) == [(uid, [1, 2, 3, 4])]
    named = {
        tuple(references(g.DerivationImageSequence[0].SourceImageSequence))
        for g in d.PerFrameFunctionalGroupsSequence
    }
    assert named == {((uid, k),) for k in (1, 4)} | {((uid, k + 1), (uid, k)) for k in (1, 2, 3)}
    assert errors_of(tool("dciodvfy"), "-new", out) == []


def test_without_the_patient(tmp_path, source, deviation):
    path = write(deviation, tmp_path, deidentified(source))
    raw = path.read_bytes().lower()
    for secret in (*SECRETS, source.series_uid, source.study_uid, source.slices[0].sop_uid):
        assert secret.encode("latin-1").lower() not in raw, secret
    assert pydicom.dcmread(path).PatientIdentityRemoved == "YES"
    assert errors_of(tool("dciodvfy"), "-new", path) == []


@pytest.mark.parametrize(
    ("edits", "region"),
    [
        ({"BodyPartExamined": "PELVIS"}, "Prostate"),
        ({"BodyPartExamined": None}, "Prostate"),
        ({"BodyPartExamined": "ABDOMEN"}, None),
        ({"AnatomicRegionSequence": [PELVIS]}, "Pelvis"),
    ],
)
def test_anatomy_is_not_made_up(tmp_path, edits, region):
    series = hospital_series(tmp_path / "s", size=16, slices=3, **edits)
    path = write(deviations(read_volume(series)), tmp_path, read_source(series))
    shared = pydicom.dcmread(path).SharedFunctionalGroupsSequence[0]
    anatomy = shared.get("FrameAnatomySequence")
    assert (anatomy[0].AnatomicRegionSequence[0].CodeMeaning if anatomy else None) == region
    assert errors_of(tool("dciodvfy"), "-new", path) == []


def test_a_rerun_gives_the_same_file(tmp_path, source, deviation):
    first = write(deviation, tmp_path, source).read_bytes()
    assert write(deviation, tmp_path, source, force=True).read_bytes() == first
    other = replace(STANDARD_DEVIATION, of=codes.DCM.T2WeightedMRSignalIntensity)
    path = write(deviation, tmp_path, source, quantity=other, force=True)
    assert pydicom.dcmread(path).SOPInstanceUID.encode() not in first


@pytest.mark.parametrize("grid", GRIDS)
def test_validators(tmp_path, series, source, grid):
    validate, compare, format_test = tool("dciodvfy"), tool("dcentvfy"), tool("dcmftest")
    path = write(deviations(upsampled(read_volume(series), GRIDS[grid])), tmp_path, source)
    assert errors_of(validate, "-new", path) == []
    assert errors_of(compare, *sorted(series.iterdir()), path) == []
    subprocess.run([format_test, path], check=True, capture_output=True)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_values_single_precision_does_not_hold(tmp_path, source, deviation, value):
    array = deviation.array.astype(float)
    array[3, 4, 1] = value
    with pytest.raises(InputError, match="1 NaN or infinite of"):
        write(deviation.with_array(array), tmp_path, source)
    assert [p.name for p in tmp_path.iterdir()] == ["series"]


def test_text_in_the_pixels_of_the_source(tmp_path):
    series = hospital_series(tmp_path / "series", size=16, slices=3, BurnedInAnnotation="YES")
    with pytest.raises(InputError, match="BurnedInAnnotation YES"):
        write(deviations(read_volume(series)), tmp_path, read_source(series))


def test_more_than_a_file_holds(tmp_path, source, deviation, monkeypatch):
    monkeypatch.setattr(writer, "_MOST", deviation.array.nbytes - 1)
    with pytest.raises(OutputError, match="bytes of pixels"):
        write(deviation, tmp_path, source)


def test_an_existing_file_stays_unless_forced(tmp_path, source, deviation):
    (tmp_path / "map.dcm").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        write(deviation, tmp_path, source)
    assert (tmp_path / "map.dcm").read_text() == "mine"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_does_not_read_back_is_not_kept(
    tmp_path, source, deviation, monkeypatch, fault
):
    (tmp_path / "map.dcm").write_text("old")
    stumped(monkeypatch, fault)
    with pytest.raises(OutputError, match=rf"map\.dcm: not written, .*{FAULTS[fault]}") as caught:
        write(deviation, tmp_path, source, force=True)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "map.dcm").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.dcm", "series"]
