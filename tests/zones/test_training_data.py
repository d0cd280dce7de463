"""What the segmenter learns from: labels on the working pixels, crops, variations."""

import numpy as np
import pytest
import torch

from mrisr.config import AugmentationSettings, ZonesDataSettings
from mrisr.data import cache
from mrisr.zones.data import (
    WHOLE,
    RawCrops,
    Variation,
    ZoneCrops,
    draw_variation,
    labelled_stacks,
    on_working_pixels,
    vary,
)

STILL = AugmentationSettings(shift_mm=0, anywhere=0)


def stack(case: str = "one", *, readers: int = 2, plane: str = "axial") -> cache.Stack:
    """Six slices, 0.5 mm pixels: a bright peripheral box around a dark transition box, off the centre."""
    levels = np.full((6, 120, 140), 400, np.int16)
    labels = np.zeros((readers, 6, 120, 140), np.uint8)
    levels[1:5, 30:80, 40:100], labels[:, 1:5, 30:80, 40:100] = 3500, 1
    levels[1:5, 40:70, 50:90], labels[:, 1:5, 40:70, 50:90] = 1500, 2
    return cache.Stack(case, "t2w", plane, (3.0, 0.5, 0.5), levels, labels)


def test_working_pixels_keep_places_and_areas() -> None:
    made = on_working_pixels(stack(), 0.6)
    assert (made.levels.shape, made.spacing) == ((6, 100, 117), (3.0, 0.6, 0.6))
    # The centroid of the gland in mm, from the first pixel's edge.
    assert np.allclose((np.array(made.centre) + 0.5) * 0.6, [55 * 0.5, 70 * 0.5], atol=0.05)
    area = made.shares[1, 2].astype(float).sum() / WHOLE * 0.6**2
    assert area == pytest.approx(30 * 40 * 0.25, rel=0.01)


def test_readers_are_averaged() -> None:
    one = stack()
    assert one.labels is not None
    one.labels[1, 2, 50, 60] = 0
    made = on_working_pixels(one, 0.5)
    assert made.shares[1, 2, 50, 60] == pytest.approx(WHOLE / 2, abs=1)
    assert made.shares[1, 2, 50, 61] == WHOLE


def test_split_by_patient_and_only_labelled_axial_stacks() -> None:
    with pytest.raises(ValueError, match="no labelled axial stacks"):
        ZoneCrops([], ZonesDataSettings(), STILL)
    bare = stack("bare")._replace(labels=None)
    stacks = [stack("one"), stack("two"), stack("out"), bare, stack("cor", plane="coronal")]
    settings = ZonesDataSettings(validation=("two",), exclude=("out",))
    training, held_out = labelled_stacks(stacks, settings)
    assert [[s.case for s in part] for part in (training, held_out)] == [["one"], ["two"]]


def crops(variation: AugmentationSettings = STILL, n: int = 4) -> RawCrops:
    settings = ZonesDataSettings(crop=64, slices=4)
    made = ZoneCrops([on_working_pixels(stack(), 0.6)], settings, variation)
    return made.draw(n, torch.Generator().manual_seed(3))


def test_crops_have_the_gland_in_the_middle() -> None:
    raw = crops()
    assert raw.levels.shape == (4, 4, 104, 104)
    assert raw.levels.dtype == torch.int16
    _, zones = vary(raw, [NEUTRAL] * 4, 64, torch.Generator())
    gland = zones[:, 1:].sum((1, 2))
    line = torch.arange(64) - 31.5
    for d in (1, 2):
        along = gland.sum(3 - d)
        assert float((along @ line / along.sum(1)).abs().max()) < 0.6


NEUTRAL = Variation(
    matrix=torch.eye(2),
    elastic=torch.zeros(2, 6, 6),
    gamma=1.0,
    gain=1.0,
    bias=torch.zeros(4, 4),
    noise=0.0,
    factor=1.0,
    kspace=False,
    bleed=0.0,
)


def test_without_variation_a_crop_is_the_image() -> None:
    raw = RawCrops(
        torch.randint(0, 4000, (1, 3, 40, 40), dtype=torch.int16),
        torch.full((1, 2, 3, 40, 40), 51, dtype=torch.uint8),
        torch.tensor([[3.0, -2.0]]),
    )
    image, zones = vary(raw, [NEUTRAL], 16, torch.Generator())
    expected = raw.levels[0, :, 15:31, 10:26].float() / cache.LEVELS
    torch.testing.assert_close(image[0, 0], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(zones[0, :, 0, 0, 0], torch.tensor([0.6, 0.2, 0.2]))


def test_image_and_labels_move_together() -> None:
    """Bright is peripheral, before and after any move."""
    settings = AugmentationSettings(gamma=(1, 1), gain=(1, 1), bias=0, noise=0, coarse=0, thick=0)
    data = ZonesDataSettings(crop=64, slices=4)
    generator = torch.Generator().manual_seed(5)
    for _ in range(5):
        raw = crops(settings, 1)
        drawn = draw_variation(settings, data, generator)
        image, zones = vary(raw, [drawn], 64, generator)
        sure = zones[0].amax(0) > 0.99
        wanted = torch.tensor([400.0, 3500.0, 1500.0])[zones[0].argmax(0)] / cache.LEVELS
        assert float((image[0, 0] - wanted)[sure].abs().quantile(0.97)) < 0.02
        assert float(zones.sum(1).min()) == pytest.approx(1, abs=0.02)


def test_scaling_makes_the_gland_larger() -> None:
    raw = crops(n=1)
    _, zones = vary(raw, [NEUTRAL], 64, torch.Generator())
    twice = NEUTRAL._replace(matrix=torch.eye(2) / 1.3)
    _, larger = vary(raw, [twice], 64, torch.Generator())
    ratio = float(larger[:, 2].sum() / zones[:, 2].sum())
    assert ratio == pytest.approx(1.3**2, rel=0.03)


def test_resolution_takes_detail_away_and_keeps_the_mean() -> None:
    raw = RawCrops(
        torch.randint(0, 4000, (1, 2, 64, 64), dtype=torch.int16),
        torch.zeros(1, 2, 2, 64, 64, dtype=torch.uint8),
        torch.zeros(1, 2),
    )
    sharp, _ = vary(raw, [NEUTRAL], 48, torch.Generator())
    for kspace in (False, True):
        coarse = NEUTRAL._replace(factor=3.0, kspace=kspace)
        blurred, _ = vary(raw, [coarse], 48, torch.Generator())
        assert float(blurred.std()) < 0.5 * float(sharp.std())
        assert float(blurred.mean()) == pytest.approx(float(sharp.mean()), rel=0.02)


def test_draws_can_be_replayed() -> None:
    settings, data = AugmentationSettings(), ZonesDataSettings()
    first, again = (
        draw_variation(settings, data, torch.Generator().manual_seed(7)) for _ in range(2)
    )
    for a, b in zip(first, again, strict=True):
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))
