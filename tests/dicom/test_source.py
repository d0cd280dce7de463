"""Sources, with and without the patient, and the planes that a volume is cut into."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel import orientations
from pydicom.uid import UID
from scipy.spatial.transform import Rotation

from mrisr.core.errors import InputError
from mrisr.core.volume import Storage, Volume
from mrisr.dicom.planes import planes_of
from mrisr.dicom.series import storable, write_series
from mrisr.dicom.source import (
    DEIDENTIFY_KEY,
    check_same_place,
    deidentified,
    mapped_uid,
    read_source,
    source_of,
)
from mrisr.io import read_file, read_volume
from tests.centroid import world_centroid
from tests.dicom.conftest import DERIVATION, assert_valid, upsampled
from tests.dicom.synthetic import SECRETS, hospital_series

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def reordered(volume: Volume, axes: tuple[int, int, int], flips: tuple[bool, ...]) -> Volume:
    """The same voxels in the same places, array axes in another order and direction."""
    turn = np.stack([axes, np.where(flips, -1, 1)], axis=1)
    array = orientations.apply_orientation(volume.array, turn)
    affine = volume.affine @ orientations.inv_ornt_aff(turn, volume.shape)
    return replace(volume, array=array, affine=affine, stacked_along=axes[2])


@pytest.mark.slow
@given(axes=st.permutations([0, 1, 2]), flips=st.tuples(*[st.booleans()] * 3))
def test_any_order_of_the_axes_gives_the_source_planes(tmp_path_factory, axes, flips):
    series = tmp_path_factory.getbasetemp() / "planes"
    if not series.is_dir():
        hospital_series(series, size=8, slices=3)
    volume, source = read_volume(series), read_source(series)
    turned = reordered(volume, tuple(axes), flips)
    planes = planes_of(turned, source)
    np.testing.assert_array_equal(planes.cut(turned.array), volume.array)
    np.testing.assert_allclose(planes.affine, LPS @ volume.affine, atol=1e-9)
    assert planes.orientation == source.orientation
    assert planes.source_slices == [(0,), (1,), (2,)]


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return read_source(hospital_series(tmp_path_factory.mktemp("t"), size=16, slices=3))


ABOUT_ONE_AXIS = [pytest.param(angles, marks=pytest.mark.slow) for angles in ((20, 0), (0, 35))]


@pytest.mark.parametrize("angles", [(0, 0), *ABOUT_ONE_AXIS, (-30, 15)])
@pytest.mark.parametrize("stacked", [0, 1, 2])
def test_a_structure_stays_where_it_is(tmp_path, template, angles, stacked):
    """A volume that is turned against its template is cut along its own planes."""
    turn = Rotation.from_euler("ZX", angles[::-1], degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.9, 0.8, 1.1])
    affine[:3, 3] = [-7.0, 4.5, 11.25]
    blob = np.zeros((7, 6, 5), dtype=np.uint16)
    blob[1:4, 2:4, 2:4] = np.arange(1, 13).reshape(3, 2, 2)
    volume = Volume(blob, affine, storage=Storage(blob.dtype), stacked_along=stacked)
    write_series(storable(volume), tmp_path / "out", template, DERIVATION)
    back = read_volume(tmp_path / "out")
    moved = world_centroid(back.array, back.affine) - world_centroid(blob, affine)
    assert np.abs(moved).max() < 1e-6
    d = pydicom.dcmread(tmp_path / "out" / "0001.dcm")
    row, column = np.array(d.ImageOrientationPatient, float).reshape(2, 3)
    assert max(abs(float(row @ column)), abs(np.linalg.norm(row) - 1)) < 1e-9
    assert back.plane == volume.plane
    assert "SourceImageSequence" not in d or d.SourceImageSequence


def test_thin_slices_name_the_slices_they_lie_between(hospital):
    volume, source = upsampled(read_volume(hospital), (1, 1, 4)), read_source(hospital)
    named = planes_of(volume, source).source_slices
    assert named[0] == named[1] == (0,)
    assert named[2] == (0, 1)
    assert named[-1] == (5,)
    assert {len(n) for n in named} == {1, 2}


def test_a_template_of_another_place_is_refused(tmp_path, hospital):
    volume, source = read_volume(hospital), read_source(hospital)
    check_same_place(volume, source, hospital)
    away = volume.affine.copy()
    away[2, 3] += 400
    with pytest.raises(InputError, match=r"same place.*400 mm away"):
        check_same_place(volume.with_array(volume.array, away), source, hospital)
    inside = volume.affine.copy()
    inside[:3, 3] = (volume.affine @ [20, 20, 3, 1])[:3]
    small = volume.with_array(volume.array[20:40, 20:40, 3:5], inside)
    check_same_place(small, source, hospital)


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("StudyInstanceUID", "", "a valid StudyInstanceUID"),
        ("SOPInstanceUID", "", "a valid SOPInstanceUID"),
        ("Modality", "CT", r"Modality MR.*found CT"),
    ],
)
@pytest.mark.parametrize("door", [read_source, lambda path: source_of(read_file(path))])
def test_a_source_of_no_use_is_refused(tmp_path, door, keyword, value, words):
    path = hospital_series(tmp_path / "s", size=8, slices=1) / "IM0001"
    d = pydicom.dcmread(path)
    d[keyword].value = value
    d.save_as(path)
    with pytest.raises(InputError, match=words):
        door(path.parent)


def test_a_file_that_was_read_is_the_same_source(hospital):
    one, other = read_source(hospital), source_of(read_file(hospital))
    assert [s.sop_uid for s in one.slices] == [s.sop_uid for s in other.slices]
    assert [s.carried for s in one.slices] == [s.carried for s in other.slices]
    assert (one.orientation, one.series_uid) == (other.orientation, other.series_uid)


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
