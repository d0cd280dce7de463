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


@pytest.mark.parametrize("share", [0, 0.01, 0.25, 0.5, 0.99, -8])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("ending", ENDINGS)
def test_truncated(tmp_path, image, ending, compress, share, refused):
    path = save(image, tmp_path / f"v{ending}", compress=compress)
    voxels = next((p for p in tmp_path.iterdir() if p != path), path)
    data = voxels.read_bytes()
    voxels.write_bytes(data[: int(len(data) * share)] if share >= 0 else data[:share])
    refused(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_flipped_bit_in_compressed_voxels(tmp_path, image, ending, refused):
    path = save(image, tmp_path / f"v{ending}", compress=True)
    voxels = next((p for p in tmp_path.iterdir() if p != path), path)
    data = bytearray(voxels.read_bytes())
    data[-100] ^= 8
    voxels.write_bytes(bytes(data))
    refused(path, "damage or truncation")


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../other.raw", "sub/../../other.raw", "C:\\x.raw"]
)
def test_mhd_may_not_point_outside(tmp_path, image, name, refused):
    folder = tmp_path / "in"
    folder.mkdir()
    path = save(image, folder / "v.mhd")
    (tmp_path / "other.raw").write_bytes((folder / "v.raw").read_bytes())
    edit(path, b"= v.raw", b"= " + name.encode())
    refused(path, "ElementDataFile", "own folder")


def test_mhd_may_not_link_outside(tmp_path, image, refused):
    folder = tmp_path / "in"
    folder.mkdir()
    path = save(image, folder / "v.mhd")
    (folder / "v.raw").rename(tmp_path / "other.raw")
    refused(path, "no such file")
    (folder / "v.raw").symlink_to(tmp_path / "other.raw")
    refused(path, "own folder")


def test_mhd_lists_of_files(tmp_path, image, refused):
    path = save(image, tmp_path / "v.mhd")
    edit(path, b"= v.raw", b"= LIST")
    refused(path, "one ElementDataFile")


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        (b"DimSize = 9 7 5", b"DimSize = 30000 30000 30000", "--max-voxels"),
        (b"DimSize = 9 7 5", b"DimSize = nine", "DimSize"),
        (b"ElementSpacing = 0.5", b"ElementSpacing = 0.0", "ElementSpacing"),
        (b"ElementSpacing = 0.5", b"ElementSpacing = -0.5", "ElementSpacing"),
        (b"ElementSpacing", b"ElementOther", "ElementSpacing"),
        (b"TransformMatrix", b"OtherMatrix", "orientation"),
        (b"Offset", b"Other", "origin"),
        (b"ElementType = MET_USHORT", b"ElementType = MET_USHORT_ARRAY", "ElementType"),
        (b"BinaryData = True", b"BinaryData = False", "binary"),
    ],
)
def test_bad_metaimage_headers(tmp_path, image, old, new, word, refused):
    path = save(image, tmp_path / "v.mhd")
    edit(path, old, new)
    refused(path, word)


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        (b"sizes: 9 7 5", b"sizes: 30000 30000 30000", "--max-voxels"),
        (b"space: left-posterior-superior\n", b"", "orientation"),
        (b"space directions:", b"# space directions:", "orientation"),
        (b"space: left-posterior-superior", b"space: scanner-xyz", "orientation"),
        (b"encoding: raw", b"encoding: raw\ndata file: /etc/passwd", "detached"),
        (b"encoding: raw", b"encoding: raw\nbyte skip: 4", "skip"),
        (b"encoding: raw", b"encoding: hex", "encoding"),
        (b"type: unsigned short", b"type: block", "scalar type"),
        (b"NRRD000", b"NRRX000", "NRRD"),
    ],
)
def test_bad_nrrd_headers(tmp_path, image, old, new, word, refused):
    path = save(image, tmp_path / "v.nrrd")
    edit(path, old, new)
    refused(path, word)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_vectors_and_other_axes(tmp_path, image, ending, refused):
    refused(save(sitk.Compose(image, image), tmp_path / f"vector{ending}"))
    refused(save(sitk.JoinSeries([image, image]), tmp_path / f"four{ending}"), "axis 4")
    refused(save(image[:, :, 0], tmp_path / f"two{ending}"), "3 axes")


def test_a_fourth_axis_of_one(tmp_path, image):
    path = save(sitk.JoinSeries([image]), tmp_path / "v.mha")
    volume = read_volume(path)
    assert volume.shape == image.GetSize()
    assert volume.array[8, 1, 3] == image[8, 1, 3]


@pytest.mark.parametrize("ending", ENDINGS)
def test_sheared_nan_and_constant(tmp_path, image, ending, refused):
    image.SetDirection((1, 0.2, 0, 0, 1, 0, 0, 0, 1))
    refused(save(image, tmp_path / f"sheared{ending}"), "sheared")
    flat = sitk.Image((4, 4, 4), sitk.sitkInt16)
    refused(save(flat, tmp_path / f"flat{ending}"), "constant")
    holes = sitk.GetImageFromArray(np.full((4, 4, 4), np.nan, np.float32))
    refused(save(holes, tmp_path / f"nan{ending}"), "64 NaN")


def test_mhd_pair_stays_together(tmp_path, make_volume):
    path = write_volume(make_volume(), tmp_path / "v.mhd")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["v.mhd", "v.raw"]
    write_volume(make_volume(np.float64), path, force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["v.mhd", "v.raw"]
    assert read_volume(path).array.dtype == np.float64
