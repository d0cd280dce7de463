"""Images on other pixels: structures stay where they were, and flat images stay flat."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mrisr.physics.separable import SAME_PIXEL, resample_pixels

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
