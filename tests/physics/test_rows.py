"""Slice profiles and resampled pixels: thickness, spacing and gap differ; structures keep their place."""

import numpy as np
import pytest
import torch

from mrisr.core.options import Kind
from mrisr.physics.rows import degradation_matrix
from mrisr.physics.separable import SAME_PIXEL, resample_pixels


def width_at_half_maximum(row: np.ndarray) -> float:
    """Full width at half maximum of one row, in voxels, by linear interpolation."""
    fine = np.linspace(0, len(row) - 1, 100 * len(row))
    return float((np.interp(fine, np.arange(len(row)), row) >= row.max() / 2).sum()) / 100


@pytest.mark.parametrize("thickness", [0.5, 0.8, 1.0, 1.5])
@pytest.mark.parametrize("kind", ["gaussian", "box"])
def test_thickness_is_not_spacing(kind: Kind, thickness: float) -> None:
    """Spacing places the slices; thickness alone says how wide each one is."""
    high, factor = 320, 16.0
    rows = degradation_matrix(kind, high, factor, thickness)
    centroids = rows @ np.arange(high)
    inner = slice(3, -3)
    np.testing.assert_allclose(
        centroids[inner], ((np.arange(20) + 0.5) * factor - 0.5)[inner], atol=1e-9
    )
    assert width_at_half_maximum(rows[10]) == pytest.approx(thickness * factor, abs=0.6)


def test_box_leaves_the_gap_unmeasured() -> None:
    rows = degradation_matrix("box", 60, 6.0, 2 / 3)
    seen = rows.sum(axis=0) > 0
    np.testing.assert_array_equal(seen, np.tile([False, True, True, True, True, False], 10))
    contiguous = degradation_matrix("box", 60, 6.0)
    np.testing.assert_allclose(contiguous, np.kron(np.eye(10), np.full((1, 6), 1 / 6)))


@pytest.mark.parametrize("factor", [1.98, 2.5, 5.76, 7.3])
@pytest.mark.parametrize("thickness", [0.7, 1.0, 1.2])
def test_box_keeps_its_first_moment(factor: float, thickness: float) -> None:
    n = round(20 * factor)
    rows = degradation_matrix("box", n, factor, thickness)
    centres = (np.arange(len(rows)) + 0.5) * factor - 0.5
    inside = slice(2, -2)
    np.testing.assert_allclose((rows @ np.arange(n))[inside], centres[inside], atol=1e-9)


SPACING = (0.6, 0.5)


@pytest.mark.parametrize("pixel", [0.4, 0.5, 0.625, 1.0])
def test_structures_keep_their_place_in_mm(pixel: float) -> None:
    r, c = np.meshgrid(np.arange(60), np.arange(80), indexing="ij")
    blob = 3000 * np.exp(-((r * 0.6 - 17) ** 2 + (c * 0.5 - 21) ** 2) / (2 * 4.0**2))
    found = resample_pixels(torch.from_numpy(blob[None].astype(np.int16)), SPACING, pixel)
    assert found.dtype == torch.float32
    assert found.shape == (1, round(60 * 0.6 / pixel), round(80 * 0.5 / pixel))
    weight = found[0].double().numpy()
    for axis, (old, centre) in enumerate(zip(SPACING, (17, 21), strict=True)):
        index = np.arange(weight.shape[axis])
        where = weight.sum(1 - axis) @ index / weight.sum()
        assert (where + 0.5) * pixel == pytest.approx(centre + 0.5 * old, abs=0.02)


@pytest.mark.parametrize("pixel", [0.37, 0.9, 100.0])
def test_flat_images_stay_flat(pixel: float) -> None:
    found = resample_pixels(torch.full((2, 3, 24, 30), 7.0), SPACING, pixel)
    assert found.shape[:2] == (2, 3)
    assert min(found.shape) >= 1
    torch.testing.assert_close(found, torch.full_like(found, 7.0))


def test_coarser_pixels_hold_no_finer_detail() -> None:
    """A stripe of every other row, which pixels three times as large cannot show, becomes grey."""
    stripes = torch.tensor([0.0, 1.0]).repeat(30)[:, None].expand(60, 12)
    found = resample_pixels(stripes, (0.5, 1.5), 1.5)
    torch.testing.assert_close(found[3:-3], torch.full((14, 12), 0.5), rtol=0, atol=0.02)


def test_pixels_of_the_same_size_are_left_alone() -> None:
    image = torch.rand(1, 20, 20, generator=torch.Generator().manual_seed(0))
    same = 0.5 * (1 + SAME_PIXEL / 2)
    assert torch.equal(resample_pixels(image, (same, 0.5), 0.5), image)
    assert resample_pixels(image, (0.5 * (1 + 30 * SAME_PIXEL), 0.5), 0.5).ne(image).any()
