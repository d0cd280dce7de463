from __future__ import annotations

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mrisr.io import read_file, read_volume, write_volume

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


def save(path: Path, array: np.ndarray, affine: np.ndarray, unit: str = "mm") -> Path:
    """A file by nibabel, both forms set."""
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units(unit)
    nib.save(image, path)
    return path


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 65536, (9, 7, 5)).astype(np.uint16)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip_keeps_stored_dtype_voxels_and_grid(tmp_path, make_volume, ending, dtype):
    volume = make_volume(dtype)
    path = write_volume(volume, tmp_path / f"v{ending}")
    file = read_file(path)
    back = file.volume
    assert back.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-5)
    assert (file.notes, file.path, back.name) == ((), path, str(path))
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("slope", "intercept"), [(0.5, 0.0), (2.0, -100.0), (1.0, -1024.0), (0.1, 3)]
)
def test_round_trip_keeps_slope_and_intercept(tmp_path, make_volume, slope, intercept):
    volume = make_volume(np.int16, slope, intercept)
    path = write_volume(volume, tmp_path / "v.nii.gz")
    image = nib.load(path)
    assert image.get_data_dtype() == np.int16
    assert (image.dataobj.slope, image.dataobj.inter) == (np.float32(slope), np.float32(intercept))
    back = read_volume(path)
    np.testing.assert_array_equal(
        back.storage.encode(back.array), volume.storage.encode(volume.array)
    )
    np.testing.assert_allclose(back.array, volume.array, rtol=1e-6, atol=1e-3)
    np.testing.assert_allclose(nib.load(path).get_fdata(), volume.array, rtol=1e-6, atol=1e-3)


def test_nibabel_and_simpleitk_see_the_same_world_as_we_do(tmp_path, make_volume):
    import SimpleITK as sitk

    volume = make_volume()
    path = write_volume(volume, tmp_path / "v.nii.gz")
    np.testing.assert_allclose(nib.load(path).affine, volume.affine, atol=1e-5)
    point = sitk.ReadImage(str(path)).TransformContinuousIndexToPhysicalPoint((3.0, 2.0, 1.0))
    wanted = np.diag([-1, -1, 1, 1]) @ volume.affine @ [3, 2, 1, 1]
    np.testing.assert_allclose(point, wanted[:3], atol=1e-4)


def test_written_header_holds_nothing_but_the_grid(tmp_path, make_volume):
    path = write_volume(make_volume(), tmp_path / "v.nii", description="é" * 79)
    header = nib.load(path).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    text = bytes(header["descrip"])
    assert len(text.rstrip(b"\0")) <= 79
    assert text.rstrip(b"\0").decode() == "é" * 39
    assert not header.extensions
    assert bytes(header["db_name"]).strip(b"\0") == b""


@pytest.mark.parametrize(("dtype", "stored"), [("f2", "f4"), ("g", "f4"), ("?", "u1")])
def test_dtypes_nifti_cannot_hold(tmp_path, affine, dtype, stored):
    from mrisr.core.volume import Storage, Volume

    values = (np.arange(24).reshape(2, 3, 4) % 2).astype(dtype)
    volume = Volume(values, affine, storage=Storage(np.dtype(dtype)))
    back = read_volume(write_volume(volume, tmp_path / "v.nii"))
    assert back.array.dtype == np.dtype(stored)
    np.testing.assert_array_equal(back.array, values.astype(stored))


def test_forms_that_differ_by_rounding_agree(tmp_path, array, affine):
    nudged = affine.copy()
    nudged[:3, 3] += 0.02
    path = save(tmp_path / "v.nii", array, affine)
    image = nib.load(path)
    image.set_sform(nudged, 1)
    nib.save(image, tmp_path / "nudged.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "nudged.nii").affine, nudged, atol=1e-4)
