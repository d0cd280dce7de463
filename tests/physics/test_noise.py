"""Noise of magnitude images: its distribution and spectrum, and how well it is estimated."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mrisr.core.statistics import seeded
from mrisr.data.phantom import phantom
from mrisr.physics.measurement import measure_in_plane, measure_through_plane, noisy
from mrisr.physics.noise import Colour, estimated_level, normal_field, told, with_rician_noise

COLOURS = [Colour(), Colour(0.7, 0.7), Colour(0.8, 0.8, True), Colour(0.6, 0.95, True)]


def tissue(n: int = 6, size: int = 256) -> torch.Tensor:
    """Slices ``(n, size, size)`` on -1..1 with edges no sharper than a blurred scan's."""
    field = torch.randn(n, size, size, generator=seeded("cpu", 5))
    k = torch.fft.fftfreq(size)
    radius = torch.hypot(k[:, None], k)
    spectrum = torch.fft.fft2(field) * (radius + 0.01) ** -1.5 * torch.exp(-((radius / 0.08) ** 2))
    smooth = torch.fft.ifft2(spectrum).real
    return (smooth / smooth.std() * 0.25).clamp(-0.7, 0.9)


def noised(images: torch.Tensor, level: float, colour: Colour | None = None) -> torch.Tensor:
    levels = torch.full((len(images),), level)
    return with_rician_noise(images[:, None], levels, seeded("cpu", 1), colour)[:, 0]


def test_bright_tissue_has_gaussian_noise_and_air_rayleigh_noise() -> None:
    sigma = 0.05
    bright, air = (noised(torch.full((8, 64, 64), v), sigma).add(1).div(2) for v in (0.6, -1.0))
    assert float(bright.std()) == pytest.approx(sigma, rel=0.02)
    assert float(bright.mean()) == pytest.approx(np.hypot(0.8, sigma / np.sqrt(2)), rel=1e-3)
    assert float(air.mean()) == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.02)
    assert float(air.std()) == pytest.approx(sigma * np.sqrt(2 - np.pi / 2), rel=0.02)


def test_images_of_level_zero_stay_as_they_are() -> None:
    images = torch.linspace(-1.2, 1.1, 2 * 9 * 7).reshape(2, 1, 9, 7)
    found = with_rician_noise(images, torch.tensor([0.0, 0.03]), seeded("cpu", 0))
    assert torch.equal(found[0], images[0])
    assert not torch.equal(found[1], images[1])


@pytest.mark.parametrize("colour", COLOURS)
def test_coloured_noise_is_as_strong_and_has_no_frequency_that_was_not_measured(
    colour: Colour,
) -> None:
    field = normal_field(torch.empty(16, 96, 80), colour, seeded("cpu", 2))
    assert float(field.std()) == pytest.approx(1, rel=0.03)
    rows, columns = (torch.fft.fftfreq(n).abs() * 2 for n in (96, 80))
    outside = (rows[:, None] > colour.rows) | (columns > colour.columns)
    if colour.elliptic:
        outside |= (rows[:, None] / colour.rows) ** 2 + (columns / colour.columns) ** 2 > 1
    power = torch.fft.fft2(field).abs().square().mean(0)
    assert float(power[outside].sum()) < 1e-6 * float(power.sum())


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("level", [0.003, 0.01, 0.02, 0.04, 0.08])
def test_noise_is_estimated_whatever_its_colour(level: float, colour: Colour) -> None:
    assert estimated_level(noised(tissue(), level, colour)) == pytest.approx(level, rel=0.2)


def test_empty_and_masked_background_does_not_count() -> None:
    images = noised(tissue(), 0.02)
    rows, columns = (torch.linspace(-1, 1, n) for n in images.shape[-2:])
    masked = torch.where(rows[:, None] ** 2 + columns**2 < 0.8, images, torch.tensor(-1.0))
    assert estimated_level(masked) == pytest.approx(0.02, rel=0.2)
    assert estimated_level(torch.full((3, 128, 128), -1.0)) == 0
    assert estimated_level(torch.zeros(3, 128, 128)) == 0


@pytest.mark.slow
def test_large_volumes_are_sampled() -> None:
    images = noised(tissue(2, 512), 0.02).repeat(40, 2, 2)
    assert estimated_level(images) == pytest.approx(0.02, rel=0.2)


def test_noise_that_varies_over_the_image_gives_a_level_between() -> None:
    strong, weak = (noised(tissue(size=128), level) for level in (0.04, 0.02))
    assert 0.018 < estimated_level(torch.cat([weak, strong], dim=-1)) < 0.04


def test_weak_noise_is_told_finely() -> None:
    found = [float(told(level)) for level in (0.0, 0.005, 0.02, 0.08, 0.3)]
    assert found == pytest.approx([0, 0.25, 0.5, 1, 1])


@pytest.mark.parametrize("inplane", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_result_agrees_up_to_the_noise_and_no_better(inplane: bool) -> None:
    """The truth is left alone, an offset and a missing structure are mended, bounds hold."""
    truth = phantom((96, 96, 24), spacing=(0.7, 0.7, 0.7 if not inplane else 3.0), seed=4)
    truth = truth.with_array(truth.array.astype(np.float32))
    job, factor = ("inplane", 2.0) if inplane else ("throughplane", 4.0)
    from mrisr.physics.measurement import degraded

    kind = "bicubic" if inplane else "gaussian"
    clean = degraded(truth, job, factor, kind)
    level = 0.03
    study = noisy(clean, level, seed=3)
    measure = measure_in_plane if inplane else measure_through_plane
    measured = replace(measure(study, factor), noise=level)
    exact = measured.placed.stack(truth)
    found = measured.project(exact)
    moved = (found - exact).square().mean().sqrt()
    forced = (measured.project(exact, 1.0) - exact).square().mean().sqrt()
    assert moved < 0.4 * forced
    assert float(found.min()) >= measured.bounds[0]
    wrong = exact.clone()
    wrong[:, 40:60, 40:60] += 0.5
    mended = measured.project(wrong)
    before, after = ((measured.operator(x) - measured.y).std() for x in (wrong, mended))
    assert after < 0.5 * before
    told_clean = replace(measured, noise=0.0)
    assert torch.equal(told_clean.project(wrong), told_clean.project(wrong, 1.0))
