"""An enhanced multi-frame file in, a classic series out."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import EnhancedMRImageStorage

from mrisr.io import read_volume
from tests.dicom.conftest import errors_of, tool
from tests.dicom.synthetic import hospital_series

IN_GROUPS = """
    ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness EchoTime FlipAngle
    SpacingBetweenSlices ScanningSequence SequenceVariant RepetitionTime EchoTrainLength ScanOptions
    PixelBandwidth NumberOfAverages
"""


def macro(**attributes):
    item = Dataset()
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
    d.SteadyStatePulseSequence = "NONE"
    shared, first = Dataset(), slices[0]
    shared.PixelMeasuresSequence = macro(PixelSpacing=first.PixelSpacing, SliceThickness=3)
    shared.PlaneOrientationSequence = macro(ImageOrientationPatient=first.ImageOrientationPatient)
    shared.MREchoSequence = macro(EffectiveEchoTime=104.0)
    shared.MRTimingAndRelatedParametersSequence = macro(
        RepetitionTime=5660, EchoTrainLength=25, FlipAngle=160
    )
    d.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for s in slices:
        group = Dataset()
        group.PlanePositionSequence = macro(ImagePositionPatient=s.ImagePositionPatient)
        group.PixelValueTransformationSequence = macro(
            RescaleIntercept="0", RescaleSlope="2", RescaleType="US"
        )
        groups.append(group)
    d.PerFrameFunctionalGroupsSequence = groups
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


def test_validator(enhanced, derive):
    program = tool("dciodvfy")
    folder, _, _ = derive(enhanced)
    assert errors_of(program, "-new", folder / "0001.dcm") == []


def test_a_real_enhanced_file(shared, derive):
    path = shared / "dicom/awkward/dcm_qa_enh/In/Siemens/XA10/6_1.dcm"
    folder, volume, _ = derive(path)
    np.testing.assert_array_equal(read_volume(folder).array, volume.array)
    assert errors_of(tool("dciodvfy"), "-new", folder / "0001.dcm") == []
