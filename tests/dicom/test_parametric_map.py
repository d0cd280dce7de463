"""Parametric maps: what they hold besides what all multi-frame files do (test_segmentation.py)."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from mrisr.core.errors import InputError
from mrisr.dicom.attributes import code_item
from mrisr.dicom.parametric_map import SIGNAL, STANDARD_DEVIATION, write_parametric_map
from mrisr.dicom.source import read_source
from mrisr.io import read_volume
from tests.dicom.conftest import DERIVATION, as_nifti, assert_valid, at, frames, upsampled
from tests.dicom.synthetic import hospital_series

PELVIS = code_item(Code("816092008", "SCT", "Pelvis"))


@pytest.fixture
def deviation(tmp_path):
    """Write float32 values on the in-plane grid of a small series; returns them and the dataset."""

    def write(change=lambda values: values, **edits):
        series = hospital_series(tmp_path / "series", size=16, slices=4, **edits)
        grid = upsampled(read_volume(series), (2, 2, 1))
        numbers = np.random.default_rng(4).gamma(2.0, 7.3, grid.shape).astype(np.float32)
        values, path = as_nifti(grid.with_array(change(numbers))), tmp_path / "map.dcm"
        derivation = replace(DERIVATION, series_offset=92)
        write_parametric_map(values, path, read_source(series), derivation)
        return values, pydicom.dcmread(path), path

    return write


def test_values_places_and_attributes(deviation):
    values, d, path = deviation()
    for plane, points, group in frames(d):
        assert plane.dtype == np.float32
        np.testing.assert_array_equal(plane, at(values, points))
        (derived,) = group.DerivationImageSequence
        assert derived.DerivationCodeSequence[0].CodeValue == "386136009"
    assert (d.NumberOfFrames, d.Rows, d.Columns) == (4, 32, 32)
    assert (d.SOPClassUID, d.Modality) == ("1.2.840.10008.5.1.4.1.1.30", "MR")
    assert d.ImageType == ["DERIVED", "PRIMARY", "VOLUME", "STD_DEVIATION"]
    assert (d.ContentLabel, d.ContentQualification) == ("STD_DEVIATION", "RESEARCH")
    assert (d.SeriesNumber, d.PatientID, d.BurnedInAnnotation) == (592, "SYNTH-4711", "NO")
    assert d.SeriesDescription == "t2_tse_tra_5 super-resolved in-plane x2 standard deviation"
    assert_valid(path)


def test_what_the_values_mean(deviation):
    values, d, _ = deviation()
    shared = d.SharedFunctionalGroupsSequence[0]
    (mapping,) = shared.RealWorldValueMappingSequence
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    assert mapping.DoubleFloatRealWorldValueFirstValueMapped == values.array.min()
    assert mapping.DoubleFloatRealWorldValueLastValueMapped == values.array.max()
    (unit,) = mapping.MeasurementUnitsCodeSequence
    assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("1", "UCUM")
    told = {
        item.ConceptNameCodeSequence[0].CodeMeaning: item.ConceptCodeSequence[0].CodeMeaning
        for item in mapping.QuantityDefinitionSequence
    }
    assert told == {"Quantity": "MR signal intensity", "Derivation": "Standard Deviation"}
    assert (
        codes.DCM.MRSignalIntensity,
        codes.SCT.StandardDeviation,
    ) == (SIGNAL, STANDARD_DEVIATION)
    (window,) = shared.FrameVOILUTSequence
    half = window.WindowWidth / 2
    covered = (window.WindowCenter - half, window.WindowCenter + half)
    np.testing.assert_allclose(covered, np.percentile(values.array, (0.5, 99.5)), rtol=1e-4)


@pytest.mark.parametrize("value", [0.0, 3.25e-30, 1e6])
def test_a_constant_map(deviation, value):
    _, d, path = deviation(lambda values: np.full_like(values, value))
    assert np.all(d.pixel_array == np.float32(value))
    assert d.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0].WindowWidth > 0
    assert_valid(path)


@pytest.mark.parametrize(
    ("edits", "region"),
    [
        ({"BodyPartExamined": "PELVIS"}, "Prostate"),
        ({"BodyPartExamined": None}, "Prostate"),
        ({"BodyPartExamined": "ABDOMEN"}, None),
        ({"AnatomicRegionSequence": [PELVIS]}, "Pelvis"),
    ],
)
def test_anatomy_is_not_made_up(deviation, edits, region):
    _, d, path = deviation(**edits)
    anatomy = d.SharedFunctionalGroupsSequence[0].get("FrameAnatomySequence")
    assert (anatomy[0].AnatomicRegionSequence[0].CodeMeaning if anatomy else None) == region
    assert_valid(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_values_single_precision_does_not_hold(deviation, tmp_path, value):
    with pytest.raises(InputError, match="1 NaN or infinite of"):
        deviation(lambda v: np.where(v == v.max(), value, v.astype(float)))
    assert [p.name for p in tmp_path.iterdir()] == ["series"]


def test_text_in_the_pixels_of_the_source(deviation):
    with pytest.raises(InputError, match="BurnedInAnnotation YES"):
        deviation(BurnedInAnnotation="YES")
