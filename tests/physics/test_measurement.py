"""A volume as a measurement: scaling, units, projection within what a file can hold."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch

from mrisr.core.volume import Storage, Volume
from mrisr.data.phantom import phantom
from mrisr.physics.measurement import (
    UNBOUNDED,
    Measurement,
    degraded,
    measure_in_plane,
    measure_through_plane,
    stack_order,
)

AFFINE = np.diag([0.7, 0.5, 3.0, 1.0])


@lru_cache
def scanned(dtype: type) -> Volume:
    """A noisy scan with an empty background that ends abruptly."""
    volume = phantom((32, 28, 6), spacing=(1.2, 1.3, 4.0), noise=0.03, dtype=dtype)
    return volume.with_array(np.where(np.arange(32)[:, None, None] < 8, 0, volume.array))


def textured(dtype: type, slope: float = 1.0, intercept: float = 0.0, top: float = 900) -> Volume:
    """Random voxels, a quarter of them empty."""
    storage = Storage(np.dtype(dtype), slope, intercept)
    values = np.random.default_rng(2).gamma(2.0, top / 8, (30, 26, 7)).clip(0, top)
    values[:8] = 0
    return Volume(storage.decode(storage.encode(values)), AFFINE, storage)


Measure = Callable[[Volume], Measurement]
MEASURES: list[Measure] = [
    lambda v: measure_in_plane(v, 2.0, "bicubic"),
    lambda v: measure_in_plane(v, 2.5, "kspace"),
    lambda v: measure_through_plane(v, 6.0, "gaussian", 1.0),
    lambda v: measure_through_plane(v, 2.7, "box", 0.8),
]


def noisy(m: Measurement) -> torch.Tensor:
    """A bad guess: the interpolation with much noise."""
    x = m.interpolated()
    return x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("axis", range(3))
def test_stacks_have_their_slices_first(axis: int) -> None:
    spacing = np.insert([0.5, 0.6], axis, 4.0)
    shape = [20, 22]
    shape.insert(axis, 5)
    volume = Volume(np.arange(np.prod(shape)).reshape(shape), np.diag([*spacing, 1]))
    assert stack_order(volume)[0] == axis
    flat = measure_in_plane(volume, 3.0, "bicubic")
    assert flat.y.shape == (5, 20, 22)
    assert flat.placed.shape == tuple(n if a == axis else 3 * n for a, n in enumerate(shape))
    deep = measure_through_plane(volume, 3.0, "gaussian", 1.0)
    assert deep.placed.shape == tuple(3 * n if a == axis else n for a, n in enumerate(shape))
    for m in (flat, deep):
        interpolated = m.placed.volume(m.interpolated())
        assert interpolated.shape == m.placed.shape
        np.testing.assert_allclose(interpolated.affine, m.placed.affine)
        edge = [-0.5, -0.5, -0.5, 1]
        np.testing.assert_allclose(m.placed.affine @ edge, volume.affine @ edge, atol=1e-12)


def test_scaling_is_to_the_percentiles() -> None:
    volume = textured(np.float32)
    m = measure_in_plane(volume, 2.0, "bicubic")
    high = np.percentile(volume.array, 99.5)
    assert (m.placed.offset, m.placed.scale) == pytest.approx((0, high))
    stack = m.y
    assert float(stack.min()) == pytest.approx(-1)
    assert np.percentile(stack.numpy(), 99.5) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_projection_agrees_with_the_measurement(measure: Measure, dtype: type) -> None:
    """Also where a file holds no negative overshoot and the background is 0."""
    m = measure(scanned(dtype))
    result = m.placed.volume(m.project(noisy(m), 1.0))
    residual = m.residual(result)
    assert residual["rms_of_range"] <= 1e-3
    assert residual["rms"] == pytest.approx(residual["rms_of_range"] * m.placed.scale)
    assert residual["max"] >= residual["rms"]
    assert residual["intensity_range"] == m.placed.scale
    assert result.array.min() >= 0
    before = m.residual(m.placed.volume(noisy(m)))["rms_of_range"]
    assert before > 10 * residual["rms_of_range"]


@pytest.mark.parametrize("measure", MEASURES)
def test_weights_between_move_part_of_the_way(measure: Measure) -> None:
    volume = textured(np.float32)
    m = replace(measure(volume.with_array(volume.array - 500)), bounds=UNBOUNDED)
    x = noisy(m)
    assert torch.equal(m.project(x, 0.0), x)
    residuals = [m.residual(m.placed.volume(m.project(x, w)))["rms"] for w in (0.0, 0.5, 1.0)]
    assert residuals[1] == pytest.approx(residuals[0] / 2, rel=0.01)
    assert residuals[2] < 1e-3 * residuals[0]


def test_the_residual_of_the_truth_is_rounding() -> None:
    """A phantom seen through the operator itself and stored in whole numbers."""
    truth = phantom((48, 48, 6), spacing=(0.8, 0.8, 3.0))
    coarse = degraded(truth, "inplane", 2.0, "bicubic")
    storage = Storage(np.dtype(np.uint16))
    m = measure_in_plane(replace(coarse, array=storage.encode(coarse.array), storage=storage), 2.0)
    assert m.residual(truth)["max"] <= 0.5001
    assert m.residual(truth)["rms"] == pytest.approx(1 / np.sqrt(12), rel=0.1)


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept"),
    [(np.uint8, 1.0, 0.0), (np.int16, 0.5, -100.0), (np.uint16, -2.0, 1000.0)],
)
def test_results_stay_within_the_storage(dtype: type, slope: float, intercept: float) -> None:
    """Overshoot is clipped before it is stored, so that nothing wraps and nothing is lost unseen."""
    info = np.iinfo(dtype)
    ends = sorted(slope * v + intercept for v in (info.min, info.max))
    volume = textured(dtype, slope, intercept, top=ends[1])
    m = measure_in_plane(volume, 2.0, "bicubic")
    wild = 5 * torch.randn(len(m.y), 60, 52)
    for weight in (0.0, 0.5, 1.0):
        values = m.project(wild, weight).add(1) * m.placed.scale / 2 + m.placed.offset
        assert float(values.min()) >= max(ends[0], 0) - 1e-2
        assert float(values.max()) <= ends[1] * (1 + 1e-5)


def test_signed_images_may_go_negative_and_magnitudes_may_not() -> None:
    volume = textured(np.float32)
    m = measure_in_plane(volume, 2.0, "bicubic")
    assert m.placed.volume(m.project(noisy(m), 1.0)).array.min() >= 0
    signed = volume.with_array(volume.array - 1)
    m = measure_in_plane(signed, 2.0, "bicubic")
    assert m.placed.volume(m.project(noisy(m), 1.0)).array.min() < -10


@pytest.mark.parametrize("around", [0, -1000])
def test_beside_the_rim_of_a_masked_image_nothing_shines(around: int) -> None:
    """Nor is anything much darker than what was put around it."""
    volume = phantom((64, 64, 3), spacing=(1.0, 1.0, 3.0), dtype=np.float32)
    rows, columns = np.ogrid[-1:1:64j, -1:1:64j]
    disc = (rows**2 + columns**2 < 0.6)[..., None]
    masked = np.where(disc, volume.array, np.float32(around))
    measured = measure_in_plane(volume.with_array(masked), 4.0, "kspace")
    found = measured.placed.volume(measured.project(measured.interpolated(), 1.0)).array
    reach = 0.26 * (masked.max() - masked.min())
    assert found.max() <= masked.max() + reach
    assert found.min() >= masked.min() - (reach if around else 0)
