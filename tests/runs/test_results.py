"""Volume in, volume out: types, grids, and what is refused."""

import math
from dataclasses import replace
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrisr.core import geometry
from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import InPlane, ThroughPlane
from mrisr.core.volume import Storage, Volume, VolumeFile
from mrisr.data.phantom import phantom
from mrisr.models.store import load_model
from mrisr.runs.results import Result, upsample

CONSISTENT = 1e-3
SHAPE, SPACING = (32, 28, 5), (0.8, 1.0, 3.0)


@pytest.fixture(autouse=True)
def _small(models: Path) -> None:
    """Every test here runs on the small models."""


@cache
def study(**changes: Any) -> Volume:
    arguments: dict[str, Any] = {"shape": SHAPE, "spacing": SPACING, "noise": 0.02}
    return phantom(**arguments | changes)


def stored(dtype: object, slope: float = 1.0, intercept: float = 0.0) -> Volume:
    """The phantom in a storage, filling most of its range and zero in a corner."""
    volume = study(dtype=np.float32)
    values = volume.array.astype(np.float64) / volume.array.max()
    values[:10, :10] = 0
    storage = Storage(np.dtype(dtype), slope, intercept)
    top = float(np.iinfo(dtype).max) if storage.dtype.kind in "iu" else 1234.5
    array = storage.decode((values * top).astype(dtype))
    return replace(volume, array=array, storage=storage)


def flat(volume: Volume, scale: float = 2.0, **options: Any) -> Result:
    return upsample(VolumeFile(volume), InPlane(scale=scale, **{"noise": "0"} | options))


def deep(volume: Volume, factor: float | None = 3.0, **options: Any) -> Result:
    return upsample(VolumeFile(volume), ThroughPlane(factor=factor, **{"noise": "0"} | options))


def residual(made: Result) -> float:
    assert made.record.residual is not None
    return made.record.residual.rms_of_range


def interpolation(made: Result) -> Volume:
    measurement = made.measurement
    assert measurement is not None
    return measurement.placed.volume(measurement.interpolated())


# --- types and units ------------------------------------------------------------------------------


STORED: list[tuple[Any, ...]] = [(d,) for d in "u1 i2 u2 i4 f4 f8".split()]
STORED += [("u2", 0.5, -100.0), ("u2", 2.5, 10.0)]


@pytest.mark.parametrize("run", [flat, deep])
@pytest.mark.parametrize("storage", STORED)
def test_the_storage_is_kept_and_the_result_agrees(run: Any, storage: tuple[Any, ...]) -> None:
    volume = stored(np.dtype(storage[0]), *storage[1:])
    restored = run(volume)
    result = restored.volume
    assert result.storage == volume.storage
    assert result.array.dtype == volume.array.dtype
    np.testing.assert_allclose(
        result.array, result.storage.decode(result.storage.encode(result.array))
    )
    assert residual(restored) <= CONSISTENT
    low, high = min(0, volume.storage.intercept), volume.array.max()
    assert result.array.min() >= low  # zero stays background, nothing wraps below
    assert result.array.max() <= high * 1.5
    assert result.array.mean() == pytest.approx(volume.array.mean(), rel=0.05)


@pytest.mark.parametrize("run", [flat, deep])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("consistency", [0.0, 1.0])
def test_nothing_wraps_at_the_ends(run: Any, dtype: type, consistency: float) -> None:
    """Checks of the largest and the smallest number, where interpolation overshoots on both sides."""
    info = np.iinfo(dtype)
    array = np.full(SHAPE, info.min, dtype)
    array[8:24, 8:20, 1:4] = info.max
    volume = Volume(array, np.diag([*SPACING, 1]), Storage(np.dtype(dtype)))
    result = run(volume, consistency=consistency).volume
    inside = result.array[tuple(slice(int(0.45 * n), int(0.55 * n) + 1) for n in result.shape)]
    far = result.array[: result.shape[0] // 10]
    middle = info.min + (int(info.max) - info.min) / 2
    assert inside.min() > middle
    assert far.max() < middle


@pytest.mark.parametrize("run", [flat, deep])
def test_without_consistency_the_output_is_the_networks(run: Any) -> None:
    volume = stored(np.float32)
    raw, projected = (run(volume, consistency=c) for c in (0.0, 1.0))
    assert residual(raw) > 10 * residual(projected)
    name = "zero-inplane" if run is flat else "zero-throughplane"
    interpolated = run(volume, consistency=0.0, model=name)
    expected = interpolation(interpolated).array.clip(0)
    np.testing.assert_allclose(interpolated.volume.array, expected, atol=0.01)
    assert np.abs(raw.volume.array - expected).max() > 1


# --- grids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("obliquity", [0.0, 20.0])
def test_any_acquisition(plane: str, obliquity: float) -> None:
    volume = study(plane=plane, obliquity=obliquity)
    for restored, factors in ((flat(volume, 2.5), (2.5, 2.5, 1)), (deep(volume), (1, 1, 3))):
        shape, affine = geometry.resampled_grid(volume.shape, volume.affine, factors)
        assert restored.volume.shape == shape
        np.testing.assert_allclose(restored.volume.affine, affine)
        assert geometry.axis_codes(restored.volume.affine) == geometry.axis_codes(volume.affine)
        assert residual(restored) <= CONSISTENT


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_order_of_the_array_axes_makes_no_difference(order: tuple[int, ...]) -> None:
    volume = study(dtype=np.float32)
    turned = volume.with_array(volume.array.transpose(order), volume.affine[:, [*order, 3]])
    options = {"model": "zero-inplane"}
    a, b = flat(volume, **options).volume, flat(turned, **options).volume
    np.testing.assert_allclose(b.array, a.array.transpose(order), atol=1e-2)
    np.testing.assert_allclose(b.affine, a.affine[:, [*order, 3]])
    options = {"model": "zero-throughplane"}
    a, b = deep(volume, **options).volume, deep(turned, **options).volume
    np.testing.assert_allclose(b.array, a.array.transpose(order), atol=1e-2)


def test_slices_stacked_along_a_finer_axis() -> None:
    """The source may say which axis it is: thin slices of coarse pixels."""
    volume = replace(study(spacing=(1.5, 1.5, 1.0)), stacked_along=2)
    assert flat(volume).volume.shape == (64, 56, 5)
    assert deep(volume).volume.shape == (32, 28, 15)


def test_one_slice_and_two() -> None:
    one, two = (study(shape=(32, 28, n)) for n in (1, 2))
    with pytest.raises(InputError, match="at least 2 slices, found 1"):
        deep(one)
    for restored, shape in (
        (flat(one), (64, 56, 1)),
        (flat(two), (64, 56, 2)),
        (deep(two, 6.0), (32, 28, 12)),
    ):
        assert restored.volume.shape == shape
        assert residual(restored) <= CONSISTENT


# --- through-plane: which factor, which thickness, which reformats --------------------------------


@pytest.mark.parametrize(
    ("spacing", "asked", "factor", "result"),
    [
        (SPACING, None, 3.0 / 0.8, 0.8),  # isotropic by default
        ((0.3, 0.3, 4.0), None, 8.0, 0.5),  # within what the model was trained for
        (SPACING, 1.25, 2.4, 1.25),
    ],
)
def test_the_factor_follows_from_the_spacing(
    spacing: tuple[float, ...], asked: float | None, factor: float, result: float
) -> None:
    restored = deep(study(spacing=spacing), None, spacing=asked)
    assert restored.record.parameters["factor"] == pytest.approx(factor)
    np.testing.assert_allclose(restored.volume.spacing, (*spacing[:2], result))


@pytest.mark.parametrize(
    "wrong",
    [
        {"factor": 1.4},
        {"factor": 8.1},
        {"factor": math.nan},
        {"factor": math.inf},
        {"factor": -3.0},
        {"spacing": 0.0},
        {"spacing": -1.0},
        {"spacing": math.nan},
        {"spacing": 2.5},
        {"spacing": 0.1},
        {"factor": 3.0, "spacing": 1.0},
        {"factor": 3.0, "slice_thickness": 0.01},
        {"factor": 3.0, "slice_thickness": 100.0},
        {"factor": 3.0, "slice_thickness": math.nan},
    ],
)
def test_limits_through_plane(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        upsample(VolumeFile(study()), ThroughPlane(**wrong))


@pytest.mark.parametrize("scale", [1.49, 8.01, 0, -2, math.nan, math.inf])
def test_limits_in_plane(scale: float) -> None:
    with pytest.raises(UsageError, match=r"scale: expected 1\.5 to 8, found"):
        flat(study(), scale)


@pytest.mark.parametrize("scale", [1.5, 2.37, 8.0])
def test_scales_may_be_fractional(scale: float) -> None:
    volume = study()
    restored = flat(volume, scale)
    expected = tuple(math.floor(n * scale + 0.5) for n in SHAPE[:2])
    assert restored.volume.shape == (*expected, SHAPE[2])
    np.testing.assert_allclose(restored.volume.spacing, (0.8 / scale, 1.0 / scale, 3.0))
    assert residual(restored) <= CONSISTENT


@pytest.mark.parametrize(
    ("stated", "asked", "expected"),
    [
        (2.4, None, (2.4, "source")),
        (2.4, 3.3, (3.3, "option")),
        (None, None, (3.0, "slice spacing")),
        (None, 1.5, (1.5, "option")),
        (0.001, None, (3.0, "slice spacing")),
    ],
)
def test_where_the_thickness_comes_from(
    stated: float | None, asked: float | None, expected: tuple[float, str]
) -> None:
    volume = replace(study(), slice_thickness=stated)
    restored = deep(volume, slice_thickness=asked)
    found = (
        restored.record.parameters["slice_thickness_mm"],
        restored.record.parameters["slice_thickness_from"],
    )
    assert found == expected
    assert restored.measurement is not None
    axis = restored.measurement.operator.axes[-3]
    assert axis.thickness == pytest.approx(expected[0] / 3.0)


@pytest.mark.parametrize(
    ("spacing", "factor", "reformats"),
    [
        ((0.8, 0.8, 3.0), 3.0, 2),
        ((0.8, 2.0, 3.0), 3.0, 1),  # 2 mm pixels add nothing to 1 mm slices
        ((2.0, 0.8, 3.0), 3.0, 1),
        ((2.0, 0.8, 3.0), 1.5, 2),
        ((2.0, 2.5, 3.0), 6.0, 1),  # all coarse: the finest stays
    ],
)
def test_coarse_reformats_are_left_out(
    spacing: tuple[float, ...], factor: float, reformats: int
) -> None:
    restored = deep(study(spacing=spacing), factor)
    assert restored.record.parameters["reformats"] == reformats
    assert residual(restored) <= CONSISTENT


def test_both_reformats_are_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack that looks the same from both sides gives a result that does."""
    cube = np.add.outer(np.arange(24.0), np.arange(24.0))[..., None] + np.arange(6.0) ** 2
    volume = Volume(cube.astype(np.float32), np.diag([0.8, 0.8, 3, 1]))
    done: list[tuple[int, int]] = []
    settings = ThroughPlane(factor=2.0)
    restored = upsample(VolumeFile(volume), settings, progress=lambda *d: done.append(d))
    a = restored.volume.array
    np.testing.assert_allclose(a, a.transpose(1, 0, 2), atol=1e-3)
    assert done[-1] == (48, 48)
    assert [d for d, _ in done] == sorted(d for d, _ in done)


# --- models and seeds -----------------------------------------------------------------------------


def test_the_model_must_be_for_the_job() -> None:
    with pytest.raises(UsageError, match="expected one for inplane, found one for throughplane"):
        flat(study(), model="partdiff-throughplane")
    with pytest.raises(UsageError, match="expected one for throughplane, found one for inplane"):
        deep(study(), model="partdiff-inplane")


def test_a_degradation_of_the_other_job_is_refused() -> None:
    with pytest.raises(UsageError, match="bicubic, kspace"):
        flat(study(), degradation="box")
    with pytest.raises(UsageError, match="gaussian, box"):
        deep(study(), degradation="kspace")


@pytest.mark.parametrize("run", [flat, deep])
def test_seeds(run: Any) -> None:
    volume = study(shape=(24, 24, 4), dtype=np.float32)
    sampled = {"steps": 3, "eta": 1.0}
    first, again, other = (run(volume, seed=s, **sampled).volume.array for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0
    assert residual(run(volume, seed=2, **sampled)) <= CONSISTENT


@pytest.mark.parametrize(
    ("run", "degradation"), [(flat, "bicubic"), (flat, "kspace"), (deep, "gaussian"), (deep, "box")]
)
def test_degradations(run: Any, degradation: str) -> None:
    restored = run(study(), degradation=degradation)
    assert restored.record.parameters["degradation"] == degradation
    assert residual(restored) <= CONSISTENT


def test_notes_of_the_source_and_of_the_run() -> None:
    made = upsample(VolumeFile(study(), notes=("sform used",)), InPlane(scale=2))
    assert made.notes == made.record.notes == ("sform used",)
    outside = upsample(VolumeFile(study()), InPlane(scale=1.5))
    low, high = load_model("partdiff-inplane").card.factors
    assert bool(outside.notes) == (not low <= 1.5 <= high)
