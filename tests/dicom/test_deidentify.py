from __future__ import annotations

import pydicom
import pytest
from pydicom.uid import UID

from mrisr.dicom.source import DEIDENTIFY_KEY, deidentified, mapped_uid, read_source
from tests.dicom.conftest import assert_valid
from tests.dicom.synthetic import SECRETS, hospital_series

WORDS = (*SECRETS, "secret", "Secret", "MR1", "MRI prostate", "t2_tse_tra", "Body18", "Radiology")


@pytest.fixture
def clean(tmp_path, derive):
    """Derived series of one patient: axial, coronal, and the axial one again."""

    def make(name: str, **edits):
        series = hospital_series(tmp_path / f"{name}-source", size=16, slices=3, **edits)
        folder, _, _ = derive(series, name=name, source=deidentified(read_source(series)))
        return series, folder, [pydicom.dcmread(p) for p in sorted(folder.iterdir())]

    return make


def test_nothing_of_the_patient_is_left(clean):
    series, folder, datasets = clean("a")
    elements = [e for path in series.iterdir() for e in pydicom.dcmread(path).iterall()]
    uids = {str(e.value) for e in elements if e.VR == "UI" and "Class" not in e.keyword}
    words = {*WORDS, *uids, "20240305", "1949", "19500102", "074Y"}
    for path in folder.iterdir():
        raw = path.read_bytes()
        assert not [word for word in words if word.encode("latin-1") in raw]
    assert_valid(folder / "0001.dcm")
    for d in datasets:
        assert d.PatientIdentityRemoved == "YES"
        assert d.LongitudinalTemporalInformationModified == "REMOVED"
        assert d.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
        assert all(len(v) <= 64 for v in d.DeidentificationMethod)
        empty = "StudyDate PatientBirthDate PatientSex AccessionNumber StudyID".split()
        assert all(d[keyword].is_empty for keyword in empty)
        for keyword in ("PatientAge", "InstitutionName", "StationName", "AcquisitionDate"):
            assert keyword not in d, keyword
        dated = [e for e in d.iterall() if e.VR in ("DA", "TM", "DT") and not e.is_empty]
        assert dated == [], "a study that is processed at once would be dated by it"
        assert (d.RepetitionTime, d.EchoTime, d.MagneticFieldStrength) == (5660, 104, 3)


def test_uids_are_replaced_consistently(clean):
    _, _, axial = clean("a")
    _, _, coronal = clean("c", plane="coronal", number=6)
    _, _, again = clean("b")
    assert axial[0].StudyInstanceUID == coronal[0].StudyInstanceUID
    assert axial[0].FrameOfReferenceUID == coronal[0].FrameOfReferenceUID
    assert axial[0].PatientID == coronal[0].PatientID
    assert axial[0].SeriesInstanceUID != coronal[0].SeriesInstanceUID
    for a, b in zip(axial, again, strict=True):
        assert a.SOPInstanceUID == b.SOPInstanceUID
        reference = a.SourceImageSequence[0].ReferencedSOPInstanceUID
        assert reference == b.SourceImageSequence[0].ReferencedSOPInstanceUID
        assert UID(reference).is_valid


def test_a_key_makes_pseudonyms_of_its_own(clean, monkeypatch):
    _, _, plain = clean("a")
    monkeypatch.setenv(DEIDENTIFY_KEY, "a secret of the site")
    _, _, keyed = clean("b")
    _, _, later = clean("c", StudyInstanceUID="1.2.3.4")
    assert keyed[0].PatientID != plain[0].PatientID
    assert keyed[0].StudyInstanceUID != plain[0].StudyInstanceUID
    assert later[0].PatientID == keyed[0].PatientID, "one patient, two studies"
    assert later[0].StudyInstanceUID != keyed[0].StudyInstanceUID
    assert clean("d", patient="SYNTH-9")[2][0].PatientID != keyed[0].PatientID
    assert mapped_uid("1.2") == mapped_uid("1.2") != mapped_uid("1.3")


def test_dates_that_others_removed_stay_away(tmp_path, derive):
    series = hospital_series(
        tmp_path / "s", size=16, slices=3, LongitudinalTemporalInformationModified="REMOVED"
    )
    d = pydicom.dcmread(derive(series)[0] / "0001.dcm")
    assert "ContentDate" not in d
    assert "ContributionDateTime" not in d.ContributingEquipmentSequence[-1]
