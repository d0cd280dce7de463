"""Registration on the phantom, whose motion is known, and scans seen through each other by waves."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.volume import Volume
from mrisr.data.phantom import phantom, phantom_affine
from mrisr.evaluation.registration import (
    Registration,
    _full_rectangle,
    find_overlap,
    overlap_centre,
    register_rigid,
    upright,
)

SHIFT, ANGLES = (2.0, -3.0, 1.5), (1.0, -2.0, 3.0)
SHAPE = (64, 56, 10)


def motion_of(shift: tuple[float, ...], angles: tuple[float, ...]) -> geometry.Affine:
    """Rotations about the R-L, A-P and S-I axes in degrees, then a shift in mm."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    motion[:3, 3] = shift
    return motion


def moved_scan(shift: tuple[float, ...], angles: tuple[float, ...]) -> Volume:
    """A coronal scan in whose frame the tissue of world point ``M p`` lies at ``p``."""
    affine = phantom_affine(SHAPE, "coronal", (1.1, 1.1, 3.0))
    return replace(phantom(SHAPE, motion_of(shift, angles) @ affine, noise=0.01), affine=affine)


@pytest.fixture(scope="module")
def axial() -> Volume:
    return phantom((72, 72, 14), spacing=(1.0, 1.0, 3.0), noise=0.01)


@pytest.mark.parametrize("centre", [None, pytest.param((8.0, -6.0, 4.0), marks=pytest.mark.slow)])
def test_a_known_motion_is_found(axial: Volume, centre: tuple[float, ...] | None) -> None:
    """The shift is that of the ball's centre, which a rotation about the origin moves too."""
    ball = None if centre is None else (np.array(centre), 60.0)
    found = register_rigid(moved_scan(SHIFT, ANGLES), axial, ball)
    centre = centre or (0.0, 0.0, 0.0)
    turned = Rotation.from_euler("xyz", ANGLES, degrees=True).apply(centre)
    assert np.abs(found.shift_mm - (turned + SHIFT - np.array(centre))).max() < 0.3
    assert np.abs(found.angles_deg - ANGLES).max() < 0.3
    assert found.information[1] > 2 * found.information[0]
    assert found.doubt is None


@pytest.mark.slow
def test_the_same_scans_give_the_same_motion(axial: Volume) -> None:
    scan = moved_scan((0, 0, 0), (0, 0, 0))
    found, again = register_rigid(scan, axial), register_rigid(scan, axial)
    assert np.abs(found.shift_mm).max() < 0.15
    assert np.abs(found.angles_deg).max() < 0.3
    np.testing.assert_allclose(found.matrix, again.matrix, atol=1e-9)


@pytest.mark.parametrize(
    ("shift", "angles", "information", "words"),
    [
        ((0.0, 8.0, 8.0), (0.0, 0.0, 0.0), (0.1, 0.2), "a shift of 11.3 mm"),
        ((0.0, 0.0, 0.0), (0.0, -12.0, 0.0), (0.1, 0.2), "a rotation of 12.0 degrees"),
        ((1.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.2, 0.1), "fell from 0.2000 to 0.1000"),
    ],
)
def test_what_is_not_believed_is_said(
    shift: tuple[float, ...],
    angles: tuple[float, ...],
    information: tuple[float, float],
    words: str,
) -> None:
    doubt = Registration(np.eye(4), np.array(shift), np.array(angles), information).doubt
    assert doubt is not None
    assert words in doubt


def test_scans_far_apart_are_refused_in_one_line(axial: Volume) -> None:
    scan = moved_scan((0, 0, 0), (0, 0, 0))
    affine = scan.affine.copy()
    affine[2, 3] += 500
    with pytest.raises(InputError, match="a scan that overlaps with phantom-axial") as error:
        register_rigid(replace(scan, affine=affine), axial)
    assert "\n" not in str(error.value)


# --- overlap --------------------------------------------------------------------------------------

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
