from __future__ import annotations

import gzip
import hashlib
import struct
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mrisr.io import read_file, read_volume, write_volume

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


def save(path: Path, array: np.ndarray, affine: np.ndarray, **header: object) -> Path:
    """A file by nibabel, both forms set, header fields overwritten as given."""
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    if header:
        patch(path, **header)
    return path


def patch(path: Path, **fields: object) -> None:
    """Overwrite header fields of an uncompressed file."""
    data = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(data[:348]), check=False)
    for key, value in fields.items():
        header[key] = value
    data[:348] = header.binaryblock
    path.write_bytes(bytes(data))


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 65536, (9, 7, 5)).astype(np.uint16)


@pytest.fixture
def plain(tmp_path, array, affine) -> Path:
    return save(tmp_path / "plain.nii", array, affine)


@pytest.fixture
def packed(tmp_path, array, affine) -> Path:
    return save(tmp_path / "packed.nii.gz", array, affine)


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


def test_reads_what_nibabel_wrote(plain, packed, array, affine):
    for path in (plain, packed):
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.array, array)
        assert volume.array.dtype == np.uint16
        assert volume.array.max() > 32767
        np.testing.assert_allclose(volume.affine, affine, atol=1e-4)


def test_nibabel_and_simpleitk_see_the_same_world_as_we_do(tmp_path, make_volume):
    import SimpleITK as sitk

    volume = make_volume()
    path = write_volume(volume, tmp_path / "v.nii.gz")
    np.testing.assert_allclose(nib.load(path).affine, volume.affine, atol=1e-5)
    point = sitk.ReadImage(str(path)).TransformContinuousIndexToPhysicalPoint((3.0, 2.0, 1.0))
    wanted = np.diag([-1, -1, 1, 1]) @ volume.affine @ [3, 2, 1, 1]
    np.testing.assert_allclose(point, wanted[:3], atol=1e-4)


def test_big_endian_and_nifti2(tmp_path, array, affine):
    big = nib.Nifti1Image(array, affine, nib.Nifti1Header(endianness=">"))
    big.header.set_data_dtype(np.dtype(">u2"))
    two = nib.Nifti2Image(array, affine)
    for name, image in (("big.nii", big), ("big.nii.gz", big), ("two.nii.gz", two)):
        nib.save(image, tmp_path / name)
        volume = read_volume(tmp_path / name)
        assert volume.array.dtype.isnative
        np.testing.assert_array_equal(volume.array, array)


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


@pytest.mark.parametrize("share", [0, 0.01, 0.25, 0.5, 0.99, -8])
@pytest.mark.parametrize("kind", ["plain", "packed"])
def test_truncated(request, kind, share, refused):
    path = request.getfixturevalue(kind)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)] if share >= 0 else data[:share])
    refused(path)


def test_bad_checksum_and_flipped_bits(packed, refused):
    data = packed.read_bytes()
    for position in (-8, -4, len(data) // 2, len(data) - 20):
        damaged = bytearray(data)
        damaged[position] ^= 4
        packed.write_bytes(bytes(damaged))
        refused(packed)


def test_claims_are_refused_before_inflating(tmp_path, plain, refused):
    patch(plain, dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])
    started = time.monotonic()
    refused(plain, "--max-voxels", "30000x30000x30000")
    (tmp_path / "huge.nii.gz").write_bytes(gzip.compress(plain.read_bytes()))
    refused(tmp_path / "huge.nii.gz", "--max-voxels")
    refused(tmp_path / "huge.nii.gz", "can hold", max_voxels=10**15)
    assert time.monotonic() - started < 1


def test_zip_bomb(tmp_path, plain, refused):
    bomb = tmp_path / "bomb.nii.gz"
    claim = nib.Nifti1Header(plain.read_bytes()[:348], check=False)
    claim["dim"] = [3, 1024, 1024, 1024, 1, 1, 1, 1]
    claim["datatype"], claim["bitpix"] = 2, 8
    zeros = gzip.compress(bytes(1 << 24), 9)
    bomb.write_bytes(gzip.compress(claim.binaryblock + bytes(4)) + zeros * 64)
    assert bomb.stat().st_size < 1 << 21
    started = time.monotonic()
    refused(bomb, "compression")
    assert time.monotonic() - started < 1


def test_more_than_the_header_claims(tmp_path, plain, refused):
    longer = tmp_path / "longer.nii.gz"
    longer.write_bytes(gzip.compress(plain.read_bytes() + bytes(1 << 22)))
    refused(longer, "after them")


def test_disagreeing_forms(tmp_path, array, affine, refused):
    path = tmp_path / "two_forms.nii"
    image = nib.Nifti1Image(array, affine)
    other = affine.copy()
    other[2, 3] += 20
    image.set_sform(affine, 1)
    image.set_qform(other, 1)
    nib.save(image, path)
    refused(path, "sform", "qform", "20.00 mm", "--affine")
    by_sform, by_qform = (read_file(path, affine=form) for form in ("sform", "qform"))
    apart = by_qform.volume.affine[2, 3] - by_sform.volume.affine[2, 3]
    assert apart == pytest.approx(20, abs=1e-3)
    assert "sform used" in by_sform.notes[0]
    assert "qform used" in by_qform.notes[0]


def test_forms_that_differ_by_rounding_agree(tmp_path, array, affine):
    nudged = affine.copy()
    nudged[:3, 3] += 0.02
    path = save(tmp_path / "v.nii", array, affine, sform_code=1)
    image = nib.load(path)
    image.set_sform(nudged, 1)
    nib.save(image, tmp_path / "nudged.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "nudged.nii").affine, nudged, atol=1e-4)


def test_one_form_is_enough(plain, affine, refused):
    for absent, present in (("qform_code", "sform"), ("sform_code", "qform")):
        data = plain.read_bytes()
        patch(plain, **{absent: 0})
        np.testing.assert_allclose(read_volume(plain).affine, affine, atol=1e-4)
        assert read_file(plain, affine=present).notes == (f"{present} used, as asked for",)
        refused(plain, absent[:5], affine=absent[:5])
        plain.write_bytes(data)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"sform_code": 0, "qform_code": 0}, "sform or a qform"),
        ({"qform_code": 0, "srow_y": [0, 0, 0, 0]}, "sheared"),
        ({"qform_code": 0, "srow_x": [np.nan, 0, 0, 0]}, "finite"),
        ({"pixdim": [1, 0, 0.7, 3, 0, 0, 0, 0]}, "pixdim"),
        ({"pixdim": [1, 0.5, -0.7, 3, 0, 0, 0, 0]}, "pixdim"),
        ({"quatern_b": 2.0, "quatern_c": 2.0}, "qform"),
        ({"dim": [5, 9, 7, 5, 1, 3, 1, 1]}, "axis 5"),
        ({"dim": [9, 9, 7, 5, 1, 3, 1, 1]}, "dim"),
        ({"dim": [3, 9, 0, 5, 1, 1, 1, 1]}, "at least one voxel"),
        ({"dim": [3, 9, -7, 5, 1, 1, 1, 1]}, "at least one voxel"),
        ({"xyzt_units": 5}, "xyzt_units"),
        ({"datatype": 9999}, "9999"),
        ({"vox_offset": 7}, "vox_offset"),
        ({"magic": b"ni1"}, "magic"),
        ({"scl_slope": np.inf}, "slope"),
    ],
)
def test_bad_headers(plain, fields, word, refused):
    patch(plain, **fields)
    refused(plain, word)


def test_sheared(tmp_path, array, refused):
    sheared = np.diag([1.0, 1.0, 3.0, 1.0])
    sheared[0, 2] = 0.5
    image = nib.Nifti1Image(array, sheared)
    nib.save(image, tmp_path / "sheared.nii")
    refused(tmp_path / "sheared.nii", "sheared", "degrees")


@pytest.mark.parametrize(("code", "factor", "unit"), [(3, 1000.0, "micron"), (1, 0.001, "metre")])
def test_other_units_become_mm(tmp_path, array, affine, code, factor, unit):
    scaled = np.diag([factor, factor, factor, 1]) @ affine
    file = read_file(save(tmp_path / "u.nii", array, scaled, xyzt_units=code))
    np.testing.assert_allclose(file.volume.affine, affine, atol=1e-3)
    assert unit in file.notes[0]


def test_trailing_axes(tmp_path, array, affine, refused):
    four = save(tmp_path / "four.nii", array[..., None], affine)
    np.testing.assert_array_equal(read_volume(four).array, array)
    refused(save(tmp_path / "time.nii", np.stack([array] * 3, -1), affine), "axis 4", "3")


def test_rgb_and_complex(tmp_path, affine, refused):
    rgb = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    refused(save(tmp_path / "rgb.nii", rgb, affine), "RGB")
    refused(save(tmp_path / "c.nii", np.ones((4, 4, 4), np.complex64), affine), "complex")


def test_nan_infinite_and_constant(tmp_path, affine, refused):
    values = np.random.default_rng(0).normal(size=(4, 4, 4)).astype(np.float32)
    values[0, 0, :3] = np.nan
    values[1, 0, 0] = np.inf
    refused(save(tmp_path / "nan.nii", values, affine), "4 NaN or infinite of 64")
    flat = save(tmp_path / "flat.nii", np.full((4, 4, 4), 7, np.int16), affine)
    refused(flat, "constant", "64 voxels equal to 7")
    assert read_volume(flat, allow_constant=True).array.max() == 7


def test_not_a_nifti(tmp_path, refused):
    (tmp_path / "text.nii").write_text("hello " * 200)
    refused(tmp_path / "text.nii", "NIfTI header")
    (tmp_path / "short.nii").write_bytes(struct.pack("<i", 348) + bytes(50))
    refused(tmp_path / "short.nii")
