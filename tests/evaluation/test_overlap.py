"""Scans seen through each other, by waves whose means are known."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.volume import Volume
from mrisr.data.phantom import phantom_affine
from mrisr.evaluation.overlap import _full_rectangle, find_overlap, overlap_centre, upright


def motion_of(shift: tuple[float, ...], angles: tuple[float, ...]) -> geometry.Affine:
    """Rotations about the R-L, A-P and S-I axes in degrees, then a shift in mm."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    motion[:3, 3] = shift
    return motion


#: Waves of 12 to 20 mm, in radians per mm.
WAVES = 2 * np.pi * np.array([[1 / 14, 1 / 12, 1 / 17], [-1 / 20, 1 / 13, 1 / 12]])
THICKNESS = 3.0


def wave(
    shape: tuple[int, ...], affine: geometry.Affine, segment: NDArray[np.float64] | float = 0.0
) -> NDArray[np.float32]:
    """Intensity at the voxels of a grid, its mean over a segment (mm): a sinc for each wave, exactly."""
    world = np.tensordot(affine[:3, :3], np.indices(shape), 1) + affine[:3, 3][:, None, None, None]
    spread = [np.sinc(float(np.sum(k * segment)) / (2 * np.pi)) for k in WAVES]
    parts = (s * np.sin(np.tensordot(k, world, 1)) for k, s in zip(WAVES, spread, strict=True))
    return np.asarray(100 + 40 * sum(parts), dtype=np.float32)


def scans(motion: geometry.Affine) -> tuple[Volume, Volume, Volume]:
    """A thick oblique coronal scan of the moved wave, the axial stack's grid, and a thin volume."""
    shape = (60, 56, 6)
    affine = phantom_affine(shape, "coronal", (0.6, 0.6, THICKNESS), obliquity=12)
    through = motion[:3, :3] @ geometry.directions(affine)[:, 2] * THICKNESS
    coronal = Volume(wave(shape, motion @ affine, through), affine, name="coronal")
    shape = (96, 96, 16)
    affine = phantom_affine(shape, "axial", (0.5, 0.5, 3.0), obliquity=12)
    axial = Volume(wave(shape, affine), affine, name="axial")
    shape, affine = geometry.resampled_grid(shape, affine, (1, 1, 6))
    return coronal, axial, Volume(wave(shape, affine), affine, name="thin")


def worst(coronal: Volume, axial: Volume, thin: Volume, motion: geometry.Affine) -> float:
    overlap = find_overlap(upright(coronal), axial, motion, 6)
    pairs = zip(overlap.sample(thin), overlap.images(), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


@pytest.mark.parametrize("motion", [np.eye(4), motion_of((1.0, -0.7, 0.4), (3.0, 0.0, 3.0))])
def test_a_perfect_volume_equals_the_coronal_scan(motion: geometry.Affine) -> None:
    coronal, axial, thin = scans(motion)
    assert worst(coronal, axial, thin, motion) < 1.0  # of an amplitude of 80


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_half_a_voxel_would_be_noticed(axis: int) -> None:
    coronal, axial, thin = scans(np.eye(4))
    affine = thin.affine.copy()
    affine[:3, 3] += affine[:3, axis] / 2
    assert worst(coronal, axial, replace(thin, affine=affine), np.eye(4)) > 3.0


def test_array_order_and_direction_do_not_matter() -> None:
    coronal, *_ = scans(np.eye(4))
    step = np.zeros((4, 4))  # stored as slices, columns reversed, rows
    step[2, 0] = step[1, 2] = step[3, 3] = 1.0
    step[0, 1], step[0, 3] = -1.0, coronal.shape[0] - 1
    array = coronal.array.transpose(2, 0, 1)[:, ::-1]
    other = replace(coronal, array=array, affine=coronal.affine @ step)
    here, there = upright(coronal), upright(other)
    np.testing.assert_allclose(here.affine, there.affine, atol=1e-9)
    np.testing.assert_array_equal(here.array, there.array)
    assert geometry.axis_codes(here.affine)[1:] == "IL"


def test_no_point_lies_beyond_the_outermost_slices() -> None:
    coronal, axial, _ = scans(np.eye(4))
    overlap = find_overlap(upright(coronal), axial, motion_of((0.5, 0.2, 6.0), (3.0, 0.0, 3.0)), 6)
    low, high = overlap.extent(axial)
    assert (low > -0.01).all()
    assert (high < np.array(axial.shape) - 0.99).all()
    assert high[2] > axial.shape[2] - 1.3  # and hardly any that would do is left out


def test_a_region_bounds_the_overlap() -> None:
    coronal, axial, _ = scans(np.eye(4))
    centre = overlap_centre(upright(coronal), axial)
    whole = find_overlap(upright(coronal), axial, np.eye(4), 6)
    part = find_overlap(upright(coronal), axial, np.eye(4), 6, (centre, 24.0))
    assert max(part.size_mm[1:]) <= 24.6 < min(whole.size_mm[1:])
    assert [b[0] for b in part.boxes] == [b[0] for b in whole.boxes]


def test_a_rectangle_has_no_voxel_outside_the_mask() -> None:
    mask = np.ones((40, 50), dtype=bool)
    mask[:3] = False
    mask[:, 47:] = False
    mask[3:5, :45] = False
    box = (slice(7, 8), slice(10, 50), slice(20, 70))
    assert _full_rectangle(mask, box) == (slice(7, 8), slice(15, 50), slice(20, 67))
    _, *edges = _full_rectangle(np.zeros((4, 4), dtype=bool), (slice(0, 1), *[slice(0, 4)] * 2))
    assert any(edge.start == edge.stop for edge in edges)


def test_scans_apart_and_volumes_too_small_are_one_line() -> None:
    coronal, axial, thin = scans(np.eye(4))
    away = axial.affine.copy()
    away[0, 3] += 300
    far = replace(axial, affine=away)
    for look in (
        lambda: overlap_centre(upright(coronal), far),
        lambda: find_overlap(upright(coronal), far, np.eye(4), 6),
    ):
        with pytest.raises(InputError, match=r"coronal: expected a scan that overlaps with axial"):
            look()
    overlap = find_overlap(upright(coronal), axial, np.eye(4), 6)
    with pytest.raises(InputError, match="thin: expected a volume that covers the measured stack"):
        overlap.sample(thin.with_array(thin.array[:, :, :40]))
