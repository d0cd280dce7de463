from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from mrisr.io import read_volume, write_volume

ENDINGS = [".mha", ".mhd", ".nrrd"]
DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


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


def edit(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip(tmp_path, make_volume, ending, dtype):
    volume = make_volume(dtype)
    back = read_volume(write_volume(volume, tmp_path / f"v{ending}"))
    assert back.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-9)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_slope_becomes_float32(tmp_path, make_volume, ending):
    volume = make_volume(np.int16, 0.5, 3.0)
    back = read_volume(write_volume(volume, tmp_path / f"v{ending}"))
    assert back.array.dtype == np.float32
    np.testing.assert_array_equal(back.array, volume.array)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("ending", ENDINGS)
def test_array_order_and_world_are_itks(tmp_path, image, ending, compress):
    volume = read_volume(save(image, tmp_path / f"v{ending}", compress=compress))
    assert volume.shape == image.GetSize()
    assert volume.array[8, 1, 3] == image[8, 1, 3]
    lps = np.array(image.TransformIndexToPhysicalPoint((8, 1, 3)))
    np.testing.assert_allclose(volume.affine @ [8, 1, 3, 1], [*(lps * [-1, -1, 1]), 1], atol=1e-6)


@pytest.mark.parametrize("ending", ENDINGS)
def test_simpleitk_reads_ours(tmp_path, make_volume, ending):
    volume = make_volume()
    image = sitk.ReadImage(str(write_volume(volume, tmp_path / f"v{ending}")))
    assert image[2, 3, 4] == volume.array[2, 3, 4]
    lps = image.TransformIndexToPhysicalPoint((2, 3, 4))
    np.testing.assert_allclose(volume.affine @ [2, 3, 4, 1], [-lps[0], -lps[1], lps[2], 1])


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_vectors_and_other_axes(tmp_path, image, ending, refused):
    refused(save(sitk.Compose(image, image), tmp_path / f"vector{ending}"))
    refused(save(sitk.JoinSeries([image, image]), tmp_path / f"four{ending}"), "axis 4")
    refused(save(image[:, :, 0], tmp_path / f"two{ending}"), "3 axes")
