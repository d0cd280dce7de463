from __future__ import annotations

import pytest

from mrisr.core.errors import InputError, OutputError
from mrisr.io import check_output, output_format, read_volume, stem, write_volume


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/t2w.nii.gz", "t2w"),
        ("T2.v1.NII.GZ", "T2.v1"),
        ("a.mha", "a"),
        ("study/series", "series"),
        ("im.0001.dcm", "im.0001"),
        ("IM_0001", "IM_0001"),
    ],
)
def test_stem(path, name):
    assert stem(path) == name


def test_output_format():
    assert output_format("a.nii.gz") == output_format("a.nii") == "nifti"
    assert output_format("a.mha") == output_format("a.mhd") == output_format("a.NRRD") == "itk"
    for wrong in ("a.gz", "a.txt", "folder", ".nii", "a.dcm"):
        with pytest.raises(OutputError, match=r"\.nii\.gz"):
            output_format(wrong)


def test_series_of_a_file_that_has_none(tmp_path):
    (tmp_path / "v.nii").write_bytes(b"")
    with pytest.raises(InputError, match="series"):
        read_volume(tmp_path / "v.nii", series="3")


def test_voxels_of_an_mhd_input_are_inputs(tmp_path, make_volume):
    volume = read_volume(write_volume(make_volume(), tmp_path / "a.mhd"))
    (tmp_path / "a.mhd").rename(tmp_path / "b.mhd")
    with pytest.raises(OutputError, match="never overwritten"):
        check_output(tmp_path / "a.mhd", inputs=[tmp_path / "b.mhd"], force=True)
    assert volume.shape == (9, 7, 5)
