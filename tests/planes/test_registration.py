"""Registration on the phantom, whose motion is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mrisr.core.errors import InputError
from mrisr.core.volume import Volume
from mrisr.data.phantom import phantom, phantom_affine
from mrisr.planes.registration import Registration, register_rigid
from mrisr.planes.slices import register_slices
from tests.planes.conftest import motion_of

SHIFT, ANGLES = (2.0, -3.0, 1.5), (1.0, -2.0, 3.0)
SHAPE = (64, 56, 10)


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


def test_the_slices_are_registered_to_a_tenth_of_a_millimetre(axial: Volume) -> None:
    """Through the slice profile, 35 mm from the centre, under a gain that changes over the field."""
    scan = moved_scan(SHIFT, ANGLES)
    shading = np.linspace(0.8, 1.2, SHAPE[0])[:, None, None]
    scan = replace(scan, array=(scan.array * shading).astype(np.float32))
    found = register_slices(scan, axial, np.zeros(3))
    assert found.doubt is None
    points = np.column_stack([np.vstack([np.eye(3), -np.eye(3)]) * 35, np.ones(6)])
    error = (points @ (found.matrix - motion_of(SHIFT, ANGLES)).T)[:, :3]
    assert np.sqrt(np.square(error).sum(1).mean()) < 0.3
    assert found.uncertainty_mm < 0.5
    assert found.correlation > 0.8


@pytest.mark.slow
def test_another_patient_is_doubted_or_hardly_correlates(axial: Volume) -> None:
    affine = phantom_affine(SHAPE, "coronal", (1.1, 1.1, 3.0))
    noise = np.random.default_rng(0).normal(500, 100, SHAPE).astype(np.float32)
    found = register_slices(Volume(noise, affine, name="noise"), axial, np.zeros(3))
    assert found.doubt is not None
