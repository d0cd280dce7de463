import numpy as np
import pytest

from mrisr.core.volume import Storage, Volume


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "i4", "u4", "f4", "f8"])
def test_storage_without_scaling_touches_nothing(dtype):
    values = np.arange(8).astype(dtype)
    storage = Storage(np.dtype(dtype))
    assert storage.encode(values) is values
    assert storage.decode(values) is values


@pytest.mark.parametrize(
    ("slope", "intercept"), [(0.25, 0), (2, -1024), (1, 7), (0.1, 1e3), (-3, 5)]
)
def test_storage_round_trip_is_exact_in_stored_numbers(slope, intercept):
    stored = np.arange(-32768, 32768).astype(np.int16)
    storage = Storage(np.dtype(np.int16), slope, intercept)
    np.testing.assert_array_equal(storage.encode(storage.decode(stored)), stored)


def test_integers_are_rounded_and_clipped_never_wrapped():
    values = np.array([-5.0, 0.4, 0.6, 254.6, 255.4, 300.0, 1e9])
    encoded = Storage(np.dtype(np.uint8)).encode(values)
    np.testing.assert_array_equal(encoded, [0, 0, 1, 255, 255, 255, 255])
    assert encoded.dtype == np.uint8


def test_stored_byte_order_is_native():
    assert Storage(np.dtype(">i2")).encode(np.array([1.0])).dtype.isnative


def test_with_array_keeps_the_rest():
    volume = Volume(np.zeros((2, 2, 2)), np.eye(4), name="t2", slice_thickness=3.0)
    moved = np.eye(4)
    moved[0, 3] = 5
    other = volume.with_array(np.ones((2, 2, 3)), moved)
    assert (other.name, other.slice_thickness) == ("t2", 3.0)
    np.testing.assert_array_equal(other.affine, moved)
    np.testing.assert_array_equal(volume.with_array(other.array).affine, volume.affine)


def test_a_volume_has_three_axes():
    with pytest.raises(ValueError, match="3 axes"):
        Volume(np.zeros((2, 2)), np.eye(4))


@pytest.mark.parametrize("storage", ["i2", "u1", "f4"])
def test_storage_in_parts_and_in_any_layout(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored is the formula's, however the voxels lie in memory, and they stay where they lay."""
    monkeypatch.setattr("mrisr.core.volume._PART", 7)
    values = 300 * np.random.default_rng(0).normal(size=(4, 5, 6))
    found = Storage(np.dtype(storage), 2.0, 3.0)
    expected = (values - 3) / 2
    if storage != "f4":
        info = np.iinfo(storage)
        expected = np.clip(np.rint(expected), info.min, info.max)
    for turned in (lambda v: v, lambda v: v.transpose(2, 0, 1), lambda v: v[::-1, :, ::2]):
        stored = found.encode(turned(values))
        np.testing.assert_array_equal(stored, turned(expected).astype(storage))
    assert found.encode(values.transpose(2, 0, 1)).transpose(1, 2, 0).flags.c_contiguous
