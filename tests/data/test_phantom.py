"""The digital prostate: one patient whatever the grid, and something like what scanners store."""

import numpy as np
import pytest

from mrisr.core import geometry
from mrisr.core.errors import UsageError
from mrisr.data.phantom import (
    PZ,
    RANGE,
    TZ,
    label_volume,
    labels,
    phantom,
    phantom_affine,
    tissue,
)
from mrisr.data.phantom.anatomy import anatomy, gland_distances, warped
from tests.centroid import world_centroid

SMALL = (48, 40, 10)


def centres(shape: tuple[int, int, int], affine: geometry.Affine) -> np.ndarray:
    """World positions of the voxel centres, ``(*shape, 3)``."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def lesion(points: np.ndarray, seed: int = 0) -> np.ndarray:
    """Whether points lie in the lesion."""
    patient, p = anatomy(seed), np.moveaxis(points, -1, 0).reshape(3, -1).astype(np.float32)
    distances = gland_distances(warped(p, patient), patient)[2]
    return (distances < 0).reshape(points.shape[:-1])


def test_same_seed_same_patient() -> None:
    first, again = phantom(SMALL, noise=0.02), phantom(SMALL, noise=0.02)
    np.testing.assert_array_equal(first.array, again.array)
    assert not np.array_equal(first.array, phantom(SMALL, noise=0.02, seed=1).array)
    points = centres(SMALL, first.affine)
    assert np.abs(tissue(points, 0) - tissue(points, 1)).mean() > 0.01 * RANGE


@pytest.mark.parametrize(
    ("plane", "codes"), [("axial", "LPS"), ("coronal", "LIP"), ("sagittal", "PIR")]
)
@pytest.mark.parametrize("obliquity", [0.0, 17.0])
def test_planes_are_stored_as_scanners_do(plane: str, codes: str, obliquity: float) -> None:
    affine = phantom_affine(SMALL, plane, (0.5, 0.6, 3.0), obliquity)
    assert (geometry.plane(affine), geometry.axis_codes(affine)) == (plane, codes)
    np.testing.assert_allclose(geometry.spacing(affine), (0.5, 0.6, 3.0))
    np.testing.assert_allclose(affine @ [23.5, 19.5, 4.5, 1], [0, 0, 0, 1], atol=1e-9)


def test_volume_says_what_it_is() -> None:
    volume = phantom(SMALL, plane="coronal", spacing=(1, 1, 4), slice_thickness=3.5)
    assert (volume.shape, volume.plane, volume.name) == (SMALL, "coronal", "phantom-coronal")
    assert (volume.slice_thickness, volume.array.dtype) == (3.5, np.uint16)
    assert volume.storage.dtype == np.uint16
    assert volume.array.max() <= RANGE
    assert phantom(SMALL, dtype=np.float32).array.dtype == np.float32


@pytest.mark.parametrize("seed", range(4))
def test_zones_are_a_plausible_gland(seed: int) -> None:
    points = centres((72, 60, 60), phantom_affine((72, 60, 60), spacing=(1.0, 1.0, 1.0)))
    zone, tumour, values = labels(points, seed), lesion(points, seed), tissue(points, seed)
    assert set(np.unique(zone)) == {0, PZ, TZ}
    millilitres = [np.count_nonzero(zone == z) / 1000 for z in (PZ, TZ)]
    assert 10 < millilitres[0] < 50
    assert 8 < millilitres[1] < 40
    assert 0.15 < np.count_nonzero(tumour) / 1000 < 1.2
    assert set(np.unique(zone[tumour])) <= {PZ, TZ}
    assert np.mean(zone[tumour] == PZ) > 0.7
    healthy = np.median(values[(zone == PZ) & ~tumour])
    assert healthy > 1.5 * np.median(values[zone == TZ])
    assert healthy > 1.8 * np.median(values[tumour])


@pytest.mark.parametrize("plane", ["coronal", "sagittal"])
def test_every_plane_shows_the_same_patient(plane: str) -> None:
    shape, spacing = (80, 80, 32), (1.0, 1.0, 2.5)
    axial, other = (phantom_affine(shape, p, spacing, a) for p, a in (("axial", 0), (plane, 14)))
    for zone in (PZ, TZ):
        masks = [(label_volume(shape, a).array == zone).astype(float) for a in (axial, other)]
        where = [world_centroid(m, a) for m, a in zip(masks, (axial, other), strict=True)]
        assert np.linalg.norm(where[0] - where[1]) < 0.5
    where = [world_centroid(lesion(centres(shape, a)).astype(float), a) for a in (axial, other)]
    assert np.linalg.norm(where[0] - where[1]) < 0.5


def test_scans_do_not_depend_on_the_order_of_the_array() -> None:
    affine = phantom_affine(SMALL, spacing=(1, 1, 3), obliquity=11)
    # indices (k, n - 1 - i, j) of the same grid to (i, j, k)
    turn = np.array([[0, -1, 0, SMALL[0] - 1], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    one = phantom(SMALL, affine, dtype=np.float32).array
    turned = phantom((10, 48, 40), affine @ turn, dtype=np.float32).array
    difference = turned - one[::-1].transpose(2, 0, 1)
    assert np.abs(difference).max() < 1e-3 * RANGE


@pytest.mark.slow
def test_slices_average_the_tissue_under_their_profile() -> None:
    shape, fine = (40, 40, 4), np.linspace(-4, 4, 81)
    scan = phantom(shape, spacing=(1, 1, 4), slice_thickness=3, dtype=np.float32)
    weights = np.exp(-4 * np.log(2) * (fine / 3) ** 2)
    quarters = [(-0.25, -0.25), (-0.25, 0.25), (0.25, -0.25), (0.25, 0.25)]
    points = centres(shape, scan.affine)
    wanted = np.zeros(shape)
    for z, weight in zip(fine, weights / weights.sum(), strict=True):
        wanted += weight * np.mean([tissue(points + [x, y, z]) for x, y in quarters], axis=0)
    error = scan.array - wanted
    assert np.sqrt((error**2).mean()) < 0.02 * RANGE
    assert abs(error.mean()) < 0.003 * RANGE


def test_detail_is_finer_than_thick_slices_hold() -> None:
    points = centres((64, 64, 48), phantom_affine((64, 64, 48), spacing=(1.5, 1.5, 1.5)))
    here = tissue(points)
    gland = labels(points) > 0
    for shift in ([0.6, 0, 0], [0, 0.6, 0], [0, 0, 0.6]):
        there = tissue(points + shift)
        assert np.abs(there - here)[gland].mean() > 0.025 * RANGE


def test_noise_is_rician() -> None:
    sigma = 0.03 * RANGE
    scan = phantom((80, 80, 4), spacing=(6, 6, 4), noise=0.03, dtype=np.float32)
    clean = phantom((80, 80, 4), spacing=(6, 6, 4), dtype=np.float32)
    air, bright = clean.array < 9, clean.array > 10 * sigma
    assert air.sum() > 2000
    # signal 8 in air: the Rayleigh mean and deviation, raised by about 1%
    assert scan.array[air].mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.04)
    assert scan.array[air].std() == pytest.approx(sigma * np.sqrt(2 - np.pi / 2), rel=0.05)
    assert (scan.array - clean.array)[bright].std() == pytest.approx(sigma, rel=0.05)


def test_wrong_calls_say_what_was_expected() -> None:
    with pytest.raises(UsageError, match="axial, coronal, sagittal, found 'axail'"):
        phantom(SMALL, plane="axail")
    with pytest.raises(UsageError, match=r"found 0\.0 mm"):
        phantom(SMALL, slice_thickness=0)
    with pytest.raises(UsageError, match=r"found shape \(4, 2\)"):
        tissue(np.zeros((4, 2)))
