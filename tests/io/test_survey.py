import numpy as np
import pytest

from mrisr.core.errors import InputError
from mrisr.io import write_volume
from mrisr.io.survey import survey


def test_a_file(tmp_path, make_volume):
    (info,) = survey(write_volume(make_volume(), tmp_path / "v.nii.gz"))
    assert (info.name, info.kind, info.shape, info.dtype) == ("v", "nifti", (9, 7, 5), "uint16")
    np.testing.assert_allclose(info.spacing, (0.5, 0.7, 3.0), atol=1e-5)
    assert info.problems == ()


def test_a_study(tmp_path, make_series, make_volume):
    make_series("b", number=10)
    make_series("a", number=2)
    broken = make_series("c", number=3)
    (broken / "02.dcm").unlink()
    write_volume(make_volume(), tmp_path / "a" / "v.mha")
    (tmp_path / "bad.nii").write_bytes(b"")
    found = survey(tmp_path)
    assert [i.name for i in found] == ["2", "3", "10", "a/v", "bad"]
    assert [i.kind for i in found] == ["dicom", "dicom", "dicom", "itk", "nifti"]
    assert [len(i.problems) for i in found] == [0, 1, 0, 0, 1]
    two = found[0]
    assert (two.description, two.files, two.plane, two.orientation) == ("t2_2", 5, "axial", "LPS")
    assert (two.shape, two.slice_thickness) == ((8, 6, 5), 2.5)
    assert "missing slice" in found[1].problems[0]
    assert found[1].shape is None
    assert "SECRET" not in repr(found).upper()


def test_nothing_to_find(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="none"):
        survey(tmp_path)
    with pytest.raises(InputError, match="nothing at that path"):
        survey(tmp_path / "missing")


def test_a_study_of_damaged_files(make_series):
    folder = make_series()
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:200])
    (info,) = survey(folder)
    assert "00.dcm" in info.problems[0]
