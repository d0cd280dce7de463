"""Single steps by their equations, and what the sampling function promises its caller."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mrisr.diffusion.path import AlignedPath, PlainPath
from mrisr.diffusion.samplers import SAMPLERS, start_latent, step
from mrisr.diffusion.schedule import INFERENCE, sampling_levels
from tests.diffusion.images import images, scale


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_samplers_agree_on_the_plain_path(eta: float) -> None:
    high, low, noise = images()
    levels = torch.tensor([0.25, 0.4, 0.7, 1.0], dtype=torch.float64)
    one, other = (
        SAMPLERS[name](
            lambda x, g: high + 0.1 * x, low, low, levels, PlainPath(0.25), lambda i: noise, eta
        )
        for name in ("corrected", "published")
    )
    assert torch.equal(one, other)


def test_ancestral_step_is_the_posterior() -> None:
    """Equations 6 and 7 on the plain path: mean and variance of q(x_s | x_t, x_0)."""
    high, x_t, noise = images()
    g, s = 0.4, 0.7
    alpha = (g / s) ** 2
    centre = s * (1 - alpha) / (1 - g**2) * high + math.sqrt(alpha) * (1 - s**2) / (1 - g**2) * x_t
    sd = math.sqrt((1 - alpha) * (1 - s**2) / (1 - g**2))
    found = step(x_t, high, high, scale(g), scale(s), eta=1, noise=noise)
    torch.testing.assert_close(found, centre + sd * noise)


def test_last_step_returns_the_estimate() -> None:
    high, low, noise = images()
    levels = torch.tensor([0.5, 1.0], dtype=torch.float64)
    for path in (PlainPath(0.25), AlignedPath(0.25)):
        run = SAMPLERS["corrected"]
        assert torch.equal(run(lambda x, g: high, noise, low, levels, path, lambda i: noise), high)


def test_ancestral_step_without_noise_is_refused() -> None:
    high, low, _ = images()
    with pytest.raises(ValueError, match="needs noise"):
        step(low, high, high, scale(0.4), scale(0.7), eta=1.0)


def test_noise_is_asked_for_by_step_and_a_run_replays() -> None:
    low = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    asked: list[int] = []

    def shared(index: int) -> Tensor:
        asked.append(index)
        return torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(index))

    path = AlignedPath(0.25)
    levels = sampling_levels(INFERENCE, 0.25, 4)

    def run(eta: float) -> Tensor:
        start = start_latent(low, levels[0], shared(0))
        return SAMPLERS["corrected"](lambda x, g: low + x, start, low, levels, path, shared, eta)

    result = run(0.0)
    assert asked == [0]
    assert torch.equal(result, run(0.0))
    asked.clear()
    assert not torch.equal(result, run(1.0))
    assert asked == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("steps", [500, pytest.param(1000, marks=pytest.mark.slow)])
def test_levels_close_to_one_do_not_ruin_a_long_run(steps: int) -> None:
    path = AlignedPath(0.25)
    x_low = torch.full((1, 1, 4, 4), 0.3)
    levels = sampling_levels(INFERENCE, path.start, steps)
    start = start_latent(x_low, levels[0], torch.ones(1))
    out = SAMPLERS["corrected"](
        lambda x, g: torch.full_like(x, 0.8), start, x_low, levels, path, lambda i: torch.ones(1)
    )
    torch.testing.assert_close(out, torch.full_like(out, 0.8))
