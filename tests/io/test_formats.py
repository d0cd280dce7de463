"""Volumes written and read back: NIfTI, MetaImage and NRRD."""

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from mrisr.core.volume import Storage, Volume
from mrisr.io import read_file, read_volume, write_volume

ITK = [".mha", ".mhd", ".nrrd"]
DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray, unit: str = "mm") -> Path:
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


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", *ITK])
@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip_keeps_stored_dtype_voxels_and_grid(tmp_path, make_volume, ending, dtype):
    volume = make_volume(dtype)
    path = write_volume(volume, tmp_path / f"v{ending}")
    file = read_file(path)
    back = file.volume
    assert back.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-9 if ending in ITK else 1e-5)
    assert (file.notes, file.path, back.name) == ((), path, str(path))
    data = b"".join(p.read_bytes() for p in sorted(tmp_path.iterdir()))  # a .mhd with its .raw
    assert file.sha256 == hashlib.sha256(data).hexdigest()


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


@pytest.mark.parametrize("ending", [".nii.gz", *ITK])
def test_other_libraries_see_the_same_world(tmp_path, make_volume, ending):
    volume = make_volume()
    path = write_volume(volume, tmp_path / f"v{ending}")
    if ending == ".nii.gz":
        np.testing.assert_allclose(nib.load(path).affine, volume.affine, atol=1e-5)
    image = sitk.ReadImage(str(path))
    assert image[2, 3, 4] == volume.array[2, 3, 4]
    wanted = np.diag([-1, -1, 1, 1]) @ volume.affine @ [2, 3, 4, 1]
    point = image.TransformIndexToPhysicalPoint((2, 3, 4))
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
    values = (np.arange(24).reshape(2, 3, 4) % 2).astype(dtype)
    volume = Volume(values, affine, storage=Storage(np.dtype(dtype)))
    back = read_volume(write_volume(volume, tmp_path / "v.nii"))
    assert back.array.dtype == np.dtype(stored)
    np.testing.assert_array_equal(back.array, values.astype(stored))


def test_forms_that_differ_by_rounding_agree(tmp_path, array, affine):
    nudged = affine.copy()
    nudged[:3, 3] += 0.02
    path = save_nifti(tmp_path / "v.nii", array, affine)
    image = nib.load(path)
    image.set_sform(nudged, 1)
    nib.save(image, tmp_path / "nudged.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "nudged.nii").affine, nudged, atol=1e-4)


# --- MetaImage and NRRD ---------------------------------------------------------------------------


@pytest.fixture
def image() -> sitk.Image:
    values = np.random.default_rng(2).integers(0, 65536, (5, 7, 9)).astype(np.uint16)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.5, 0.7, 3.0))
    image.SetOrigin((-10.0, 20.0, 30.0))
    image.SetDirection(sitk.Euler3DTransform((0, 0, 0), 0.1, -0.2, 0.3).GetMatrix())
    return image


def save(image: sitk.Image, path: Path, *, compress: bool = False) -> Path:
    sitk.WriteImage(image, str(path), useCompression=compress)
    return path


@pytest.mark.parametrize("ending", ITK)
def test_a_slope_becomes_float32(tmp_path, make_volume, ending):
    volume = make_volume(np.int16, 0.5, 3.0)
    back = read_volume(write_volume(volume, tmp_path / f"v{ending}"))
    assert back.array.dtype == np.float32
    np.testing.assert_array_equal(back.array, volume.array)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("ending", ITK)
def test_array_order_and_world_are_itks(tmp_path, image, ending, compress):
    volume = read_volume(save(image, tmp_path / f"v{ending}", compress=compress))
    assert volume.shape == image.GetSize()
    assert volume.array[8, 1, 3] == image[8, 1, 3]
    lps = np.array(image.TransformIndexToPhysicalPoint((8, 1, 3)))
    np.testing.assert_allclose(volume.affine @ [8, 1, 3, 1], [*(lps * [-1, -1, 1]), 1], atol=1e-6)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_vectors_and_other_axes(tmp_path, image, ending, refused):
    refused(save(sitk.Compose(image, image), tmp_path / f"vector{ending}"))
    refused(save(sitk.JoinSeries([image, image]), tmp_path / f"four{ending}"), "axis 4")
    refused(save(image[:, :, 0], tmp_path / f"two{ending}"), "3 axes")
