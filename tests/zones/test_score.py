"""Scores of zones against closed forms: boxes whose overlap, distances and volumes are known."""

import math
from typing import Any

import numpy as np
import pytest

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.volume import Volume
from mrisr.data.phantom import label_volume, phantom_affine
from mrisr.zones.labels import PZ, TZ, ZONES
from mrisr.zones.score import score_zones, to_grid, zone_volumes_ml
from tests.centroid import world_centroid

SPACING = (0.5, 0.8, 3.0)
SHAPE = (30, 28, 12)


def boxes(pz: Any = (), tz: Any = (), affine: np.ndarray | None = None) -> Volume:
    """Labels with a box for each zone."""
    array = np.zeros(SHAPE, np.uint8)
    for label, place in ((PZ, pz), (TZ, tz)):
        if place:
            array[place] = label
    return Volume(array, np.diag([*SPACING, 1.0]) if affine is None else affine, name="boxes")


def box(i: int, j: int, k: int, size: tuple[int, int, int] = (10, 9, 5)) -> tuple[slice, ...]:
    return tuple(slice(a, a + n) for a, n in zip((i, j, k), size, strict=True))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shifted_box(axis: int) -> None:
    """A box moved by one voxel: Dice by the overlap; surfaces are apart by the spacing along that axis."""
    moved = boxes(box(*(np.eye(3, dtype=int)[axis] + (2, 3, 1))))
    score = score_zones(moved, boxes(box(2, 3, 1)))["PZ"]
    size = (10, 9, 5)[axis]
    assert score.dice == pytest.approx((size - 1) / size)
    assert score.hd95_mm == pytest.approx(SPACING[axis], abs=1e-5)
    assert 0 < score.asd_mm < SPACING[axis]
    assert score.volume_bias_ml == 0


def test_average_surface_distance_of_two_sheets() -> None:
    """All voxels of a sheet are surface, so two parallel sheets are their distance apart in every figure."""
    one, other = (boxes(box(i, 3, 2, (1, 9, 6))) for i in (4, 10))
    score = score_zones(one, other)["PZ"]
    assert (score.dice, score.hd95_mm, score.asd_mm) == pytest.approx((0, 3.0, 3.0))


def test_distances_are_symmetric() -> None:
    """A small sheet in a large one: from it all is near, from the large one it is not."""
    small, large = boxes(box(4, 3, 2, (1, 2, 2))), boxes(box(4, 3, 2, (1, 20, 2)))
    one, other = (score_zones(a, b)["PZ"] for a, b in ((small, large), (large, small)))
    assert one.hd95_mm == other.hd95_mm > 10
    assert one.asd_mm == other.asd_mm
    rows = np.maximum(np.arange(20) - 1, 0) * SPACING[1]
    assert one.asd_mm == pytest.approx(rows.sum() * 2 / (40 + 4), rel=1e-5)


def test_zones_are_scored_apart() -> None:
    labels = boxes(box(2, 3, 1), box(14, 3, 1, (4, 4, 4)))
    volumes = zone_volumes_ml(labels)
    assert volumes == pytest.approx({"PZ": 450 * 1.2 / 1000, "TZ": 64 * 1.2 / 1000})
    scores = score_zones(labels, boxes(box(2, 3, 1), box(14, 12, 1)))
    assert list(scores) == list(ZONES)
    same = scores["PZ"]
    assert (same.dice, same.hd95_mm, same.asd_mm, same.volume_bias_ml) == (1, 0, 0, 0)
    assert scores["TZ"].dice == 0
    assert scores["TZ"].volume_bias_ml == pytest.approx((64 - 450) * 1.2 / 1000)


def test_empty_masks() -> None:
    """NaN where the reference has nothing, 0 where only the result has nothing; null in JSON."""
    one = boxes(box(2, 3, 1))
    scores = score_zones(one, one)
    assert math.isnan(scores["TZ"].dice)
    assert math.isnan(scores["TZ"].hd95_mm)
    assert scores["TZ"].volume_ml == scores["TZ"].volume_bias_ml == 0
    missed = score_zones(boxes(), one)["PZ"]
    assert missed.dice == 0
    assert math.isnan(missed.hd95_mm)
    assert math.isnan(missed.asd_mm)
    assert missed.volume_bias_ml == pytest.approx(-0.54)
    invented = score_zones(one, boxes())["PZ"]
    assert math.isnan(invented.dice)
    assert scores["TZ"].as_json()["dice"] is None
    assert scores["PZ"].as_json()["dice"] == 1


@pytest.mark.parametrize("moved", [(0, 3), (0, 0), (1, 0)])
def test_another_grid_is_refused(moved: tuple[int, int]) -> None:
    image = Volume(np.zeros((30, 28, 11)), np.diag([*SPACING, 1.0]), name="image.nii")
    with pytest.raises(InputError, match=r"boxes: expected .* the grid of image\.nii \(30x28x11"):
        score_zones(boxes(), image)
    affine = np.diag([*SPACING, 1.0])
    affine[moved] += 0.01
    with pytest.raises(InputError, match=r"found 30x28x12 voxels of .* mm, in another place"):
        score_zones(boxes(affine=affine), boxes())


def test_other_labels_are_refused() -> None:
    labels = boxes(box(2, 3, 1))
    labels.array[0, 0, 0] = 4
    for call in (zone_volumes_ml, lambda v: to_grid(v, boxes()), lambda v: score_zones(v, boxes())):
        with pytest.raises(InputError, match="boxes: expected the labels 0, 1, 2, found 4"):
            call(labels)


@pytest.mark.parametrize("factors", [(1, 1, 6), (2, 2, 1), (1.5, 1.5, 1), (1, 1, 5.76), (1, 1, 1)])
def test_to_grid_undoes_repetition(factors: tuple[float, float, float]) -> None:
    """Labels that are constant within each coarse voxel come back as they were, on oblique grids too."""
    affine = phantom_affine(SHAPE, spacing=SPACING, obliquity=20.0)
    grid = boxes(box(2, 3, 1), box(14, 3, 1), affine)
    shape, fine = geometry.resampled_grid(SHAPE, affine, factors)
    # Every fine voxel takes the label at its centre.
    at = np.meshgrid(
        *(((np.arange(n) + 0.5) / f - 0.5) for n, f in zip(shape, factors, strict=True)),
        indexing="ij",
    )
    index = tuple(np.clip(np.rint(a), 0, n - 1).astype(int) for a, n in zip(at, SHAPE, strict=True))
    back = to_grid(Volume(grid.array[index], fine, name="fine"), grid)
    assert np.array_equal(back.array, grid.array)
    assert back.array.dtype == np.uint8
    assert np.array_equal(back.affine, grid.affine)


def test_to_grid_takes_the_majority() -> None:
    """More than half of a voxel decides; of halves, even voxels take the farther, odd ones the nearer."""
    shape = (1, 1, 24)
    fine = Volume(np.zeros(shape, np.uint8), np.diag([1, 1, 0.5, 1.0]))
    coarse_shape, affine = geometry.resampled_grid(shape, fine.affine, (1, 1, 1 / 6))
    grid = Volume(np.zeros(coarse_shape), affine)
    ends = {(8, 18): [0, 1, 1, 0], (10, 18): [0, 0, 1, 0], (6, 16): [0, 1, 1, 0]}
    halves = {(9, 21): [0, 0, 1, 1], (6, 9): [0, 1, 0, 0], (15, 18): [0, 0, 1, 0]}
    for (first, past), expected in (ends | halves).items():
        fine.array[:] = 0
        fine.array[0, 0, first:past] = PZ
        assert to_grid(fine, grid).array[0, 0].tolist() == expected


def test_to_grid_keeps_volume_and_place() -> None:
    shape, affine = (40, 40, 60), phantom_affine((40, 40, 60), spacing=(1.6, 1.6, 0.8))
    fine = label_volume(shape, affine, seed=3)
    coarse_shape, coarse = geometry.resampled_grid(shape, affine, (1, 1, 0.25))
    back = to_grid(fine, Volume(np.zeros(coarse_shape), coarse))
    for zone, label in ZONES.items():
        assert zone_volumes_ml(back)[zone] == pytest.approx(zone_volumes_ml(fine)[zone], rel=0.05)
        centres = (world_centroid(v.array == label, v.affine) for v in (back, fine))
        assert np.linalg.norm(np.subtract(*centres)) < 0.15


def test_to_grid_refuses_another_field_of_view() -> None:
    grid = boxes()
    short = Volume(np.zeros((30, 28, 60), np.uint8), np.diag([0.5, 0.8, 0.5, 1.0]), name="short")
    with pytest.raises(
        InputError, match=r"short: expected labels over the field of view of boxes \("
    ):
        to_grid(short, grid)
    flipped = Volume(np.zeros(SHAPE, np.uint8), np.diag([-0.5, 0.8, 3.0, 1.0]), name="flipped")
    with pytest.raises(InputError, match="found axes LAS"):
        to_grid(flipped, grid)
