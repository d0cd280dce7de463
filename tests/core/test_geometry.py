"""Grids in world space, and what they are for: structures stay where they are."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mrisr.core import geometry
from mrisr.core.options import InPlane, ThroughPlane
from mrisr.core.volume import Storage, Volume, VolumeFile
from mrisr.runs.results import upsample
from tests.centroid import world_centroid

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
SEEDS = range(7)


def random_stack(plane: str, rng: np.random.Generator) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shape and affine of a stack of ``plane``: any order and direction of the array axes, tilted by up
    to 30 degrees, pixels that need not be square, thick slices, anywhere in the world."""
    size = np.array([*rng.uniform(0.4, 1.0, 2), rng.uniform(2.5, 5.0)])  # mm: two pixels, slices
    order = [*rng.permutation([w for w in range(3) if w != PLANES[plane]]), PLANES[plane]]
    turn = Rotation.from_rotvec(
        rng.uniform(0, 30) * unit(rng.normal(size=3)), degrees=True
    ).as_matrix()
    columns = turn[:, order] * size * rng.choice([-1.0, 1.0], 3)
    affine = np.eye(4)
    affine[:3, :3] = columns[:, rng.permutation(3)]
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    n = rng.integers(20, 25, 3)
    return (int(n[0]), int(n[1]), int(n[2])), affine


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def blob(
    shape: tuple[int, int, int], affine: np.ndarray, rng: np.random.Generator, dtype: type
) -> tuple[Volume, np.ndarray]:
    """A Gaussian of 1.8 voxels near the middle, and its centre in the world."""
    centre = (np.array(shape) - 1) / 2 + rng.uniform(-1, 1, 3)
    parts = [
        np.exp(-((np.arange(n) - c) ** 2) / (2 * 1.8**2))
        for n, c in zip(shape, centre, strict=True)
    ]
    values = 50000 * np.einsum("i,j,k->ijk", *parts)
    storage = Storage(np.dtype(dtype))
    return Volume(storage.encode(values), affine, storage), (affine @ [*centre, 1])[:3]


# --- grids ----------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1))
def test_the_first_edge_stays_and_the_spacing_is_divided(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape, affine = random_stack("axial", rng)
    factors = rng.uniform(0.5, 8, 3)
    size, grid = geometry.resampled_grid(shape, affine, factors)
    edge = [-0.5, -0.5, -0.5, 1]
    np.testing.assert_allclose(grid @ edge, affine @ edge, atol=1e-9)
    np.testing.assert_allclose(geometry.spacing(grid), geometry.spacing(affine) / factors)
    np.testing.assert_allclose(geometry.directions(grid), geometry.directions(affine), atol=1e-12)
    for n, old, factor in zip(size, shape, factors, strict=True):
        assert abs(n - old * factor) <= 0.5  # the far edge, in new voxels


@pytest.mark.parametrize(
    ("size", "factor", "expected"),
    [(20, 5.76, 115), (19, 1.5, 29), (21, 2.5, 53), (3, 0.1, 1), (384, 4, 1536), (25, 0.5, 13)],
)
def test_fractional_sizes_are_rounded(size: int, factor: float, expected: int) -> None:
    assert geometry.resampled_size(size, factor) == expected


def test_slices_are_stacked_along_the_coarsest_axis() -> None:
    for order in permutations((0.5, 0.7, 3.0)):
        assert geometry.slice_axis(np.diag([*order, 1])) == order.index(3.0)
    assert geometry.slice_axis(np.diag([0.5, 0.5, 0.5, 1])) == 2
    assert geometry.slice_axis(np.diag([2.0, 1.99, 0.5, 1])) == 1
    assert geometry.slice_axis(np.diag([-2.0, 1.9, 0.5, 1])) == 0


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_plane_of_tilted_stacks(plane: str, seed: int) -> None:
    _, affine = random_stack(plane, np.random.default_rng(seed))
    assert geometry.plane(affine) == plane
    assert sorted(geometry.world_axes(affine)) == [0, 1, 2]


def test_axis_codes() -> None:
    for order in permutations(range(3)):
        for signs in product((1, -1), repeat=3):
            affine = np.eye(4)
            affine[:3, :3] = (np.eye(3) * signs)[:, order]
            codes = "".join(("LR", "PA", "IS")[w][signs[w] > 0] for w in order)
            assert geometry.axis_codes(affine) == codes


def test_turned_voxels_stay_in_place() -> None:
    rng = np.random.default_rng(0)
    for plane in PLANES:
        shape, affine = random_stack(plane, rng)
        volume = Volume(rng.random(shape), affine)
        turned = volume.reoriented(geometry.DISPLAYED[plane])
        assert geometry.axis_codes(turned.affine) == geometry.DISPLAYED[plane]
        assert (turned.slice_axis, turned.stacked_along) == (0, 0)
        centres = (world_centroid(v.array, v.affine) for v in (volume, turned))
        np.testing.assert_allclose(*centres)
        back = turned.reoriented(geometry.axis_codes(affine))
        np.testing.assert_array_equal(back.array, volume.array)
        np.testing.assert_allclose(back.affine, affine, atol=1e-9)


# --- structures stay where they are ---------------------------------------------------------------


def restored(volume: Volume, settings: InPlane | ThroughPlane) -> Volume:
    """Interpolation and projection of the whole pipeline, with a network that adds nothing."""
    model = "zero-inplane" if isinstance(settings, InPlane) else "zero-throughplane"
    return upsample(VolumeFile(volume), replace(settings, model=model)).volume


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.uint16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_blob_stays_in_place(models: object, plane: str, seed: int, dtype: type) -> None:
    rng = np.random.default_rng([seed, PLANES[plane]])
    volume, centre = blob(*random_stack(plane, rng), rng, dtype)
    scale = (2.0, 4.0)[seed] if seed < 2 else rng.uniform(1.5, 6)
    through = ThroughPlane(
        factor=(2.0, 6.0, 6.0)[seed] if seed < 3 else rng.uniform(1.5, 8),
        degradation="box" if seed < 2 else "gaussian",
        slice_thickness=float(volume.spacing.max()) * (1.0, 0.8)[seed % 2],
    )
    for settings in (InPlane(scale=scale), through):
        result = restored(volume, settings)
        assert result.plane == plane or settings is through
        found = world_centroid(result.array, result.affine)
        assert np.linalg.norm(found - centre) < 0.01


@pytest.mark.parametrize(
    "factor", [2.0, *(pytest.param(f, marks=pytest.mark.slow) for f in (2.5, 4.0))]
)
def test_a_flipped_volume_gives_the_flipped_interpolation(models: object, factor: float) -> None:
    rng = np.random.default_rng(5)
    array = rng.uniform(0, 100, (16, 20, 8)).astype(np.float32)
    affine = np.diag([0.5, 0.6, 3.0, 1.0])
    for axis in range(3):
        end = np.eye(4)
        end[axis, axis], end[axis, 3] = -1, array.shape[axis] - 1
        pair = Volume(array, affine), Volume(np.flip(array, axis), affine @ end)
        for settings in (
            InPlane(scale=factor, consistency=0),
            ThroughPlane(factor=factor, consistency=0),
        ):
            a, b = (restored(v, settings) for v in pair)
            np.testing.assert_allclose(
                np.flip(b.array, axis), a.array, atol=2e-4
            )  # of 100; float32
            end[axis, 3] = a.shape[axis] - 1
            np.testing.assert_allclose(b.affine @ end, a.affine, atol=1e-9)
