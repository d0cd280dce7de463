"""Samplers against a case that is known in closed form.

The low-resolution image is the scalar 0.3 and x_HR given it is normal with mean 0.8 and deviation 0.5.
The exact denoiser is then linear in the latent, so is every step, and the mean and the deviation
after any number of steps follow from a recursion over two numbers. The recursion here is written from
DDPM's posterior (PartDiff eq. 5 to 7) and shares no code with the sampler.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from mrisr.core.options import SamplerName
from mrisr.diffusion import (
    INFERENCE,
    SAMPLERS,
    AlignedPath,
    Noise,
    Path,
    PlainPath,
    sampling_levels,
    start_latent,
)

LOW, MEAN, SD = 0.3, 0.8, 0.5
SAMPLES = 100_000
STEPS = (1, 2, 4, 10, 50)
G = [float(g) for g in INFERENCE.noise_scales()]


class Normal(NamedTuple):
    mean: float
    sd: float


def share(kind: str, g: float, start: float) -> float:
    """lambda: 1 on the plain path, (K - t) / K on the aligned one."""
    if kind == "plain":
        return 1.0
    t, last = (float(INFERENCE.time(torch.tensor(v, dtype=torch.float64))) for v in (g, start))
    return max(0.0, 1 - t / last)


def posterior_mean(lam: float, g: float) -> tuple[float, float]:
    """``(a, b)`` with E[x_HR | x_t] = a + b x_t where x_t = g (lam x_HR + (1 - lam) x_LR) + noise."""
    gain = g * lam * SD**2 / (g**2 * lam**2 * SD**2 + 1 - g**2)
    return MEAN - gain * g * (lam * MEAN + (1 - lam) * LOW), gain


def expected(
    kind: str, levels: list[float], sampler: SamplerName, eta: int, from_noise: bool = False
) -> Normal:
    """Mean and deviation after all steps, by recursion."""
    start = levels[0]
    mean = 0.0 if from_noise else start * LOW
    var = 1.0 if from_noise else 1 - start**2
    for g, s in pairwise(levels):
        lam_g, lam_s = share(kind, g, start), share(kind, s, start)
        if sampler == "published":
            lam_s = lam_g
        a, b = posterior_mean(lam_g, g)
        # Estimated means of the latent at both levels, each as offset + slope * x_t.
        here = (lam_g * a + (1 - lam_g) * LOW, lam_g * b)
        there = (lam_s * a + (1 - lam_s) * LOW, lam_s * b)
        if eta:
            alpha = (g / s) ** 2
            keep = math.sqrt(alpha) * (1 - s**2) / (1 - g**2)
            fresh = (1 - alpha) * (1 - s**2) / (1 - g**2)
        else:
            keep = math.sqrt((1 - s**2) / (1 - g**2))
            fresh = 0.0
        slope = s * there[1] + keep * (1 - g * here[1])
        mean = s * there[0] - keep * g * here[0] + slope * mean
        var = slope**2 * var + fresh
    return Normal(mean, math.sqrt(var))


def exact_denoiser(path: Path) -> Callable[[Tensor, Tensor], Tensor]:
    """E[x_HR | x_t], written with the path's own lambda."""

    def denoise(x: Tensor, g: Tensor) -> Tensor:
        a, b = posterior_mean(float(path.mixing(g.double())), float(g))
        return a + b * x

    return denoise


def draws(seed: int = 0) -> Noise:
    """Independent noise of every step, replayable."""

    def noise(index: int) -> Tensor:
        generator = torch.Generator().manual_seed(1000 * seed + index)
        return torch.randn(SAMPLES, 1, 1, 1, generator=generator)

    return noise


def simulated(
    path: Path, levels: Tensor, sampler: SamplerName, eta: int, from_noise: bool = False
) -> Normal:
    x_low = torch.full((SAMPLES, 1, 1, 1), LOW)
    noise = draws()
    start = noise(0) if from_noise else start_latent(x_low, levels[0], noise(0))
    x = SAMPLERS[sampler](exact_denoiser(path), start, x_low, levels, path, noise, eta)
    return Normal(float(x.mean()), float(x.std()))


def make(kind: str, start: float) -> Path:
    return PlainPath(start) if kind == "plain" else AlignedPath(start)


def agree(found: Normal, wanted: Normal) -> None:
    """Within four standard errors (and the sampler's single precision)."""
    error = wanted.sd / math.sqrt(SAMPLES)
    assert found.mean == pytest.approx(wanted.mean, abs=4 * error + 1e-3)
    assert found.sd == pytest.approx(wanted.sd, abs=3 * error + 1e-3)


@pytest.mark.parametrize("eta", [0, 1], ids=["deterministic", "ancestral"])
@pytest.mark.parametrize("sampler", ["corrected", "published"])
@pytest.mark.parametrize("kind", ["plain", "aligned"])
@pytest.mark.parametrize("last", [pytest.param(25, marks=pytest.mark.slow), 50])
@pytest.mark.parametrize("steps", STEPS)
def test_partial_start(kind: str, last: int, steps: int, sampler: SamplerName, eta: int) -> None:
    levels = sampling_levels(INFERENCE, G[last], steps)
    found = simulated(make(kind, G[last]), levels, sampler, eta)
    agree(found, expected(kind, levels.tolist(), sampler, eta))


@pytest.mark.parametrize("eta", [0, 1], ids=["deterministic", "ancestral"])
@pytest.mark.parametrize("steps", [*STEPS, 100])
def test_full_start_from_pure_noise(steps: int, eta: int) -> None:
    """SR3 is the plain path with K = 100 and nothing of the low-resolution image at the start."""
    levels = sampling_levels(INFERENCE, G[100], steps)
    found = simulated(PlainPath(G[100]), levels, "corrected", eta, from_noise=True)
    agree(found, expected("plain", levels.tolist(), "corrected", eta, from_noise=True))


@pytest.mark.parametrize("eta", [0, 1])
@pytest.mark.parametrize("start", [G[25], 0.25, G[75]])
def test_one_aligned_step_is_regression(start: float, eta: int) -> None:
    """At the aligned start the latent says nothing new, so the estimate is E[x_HR | x_LR] itself,
    whatever the noise was."""
    path = AlignedPath(start)
    found = simulated(path, sampling_levels(INFERENCE, start, 1), "corrected", eta)
    assert found == pytest.approx((MEAN, 0), abs=1e-6)


@pytest.mark.parametrize("eta", [0, 1])
def test_one_published_step_returns_the_low_resolution_image(eta: int) -> None:
    """It takes the mean of the start for the mean of the end."""
    levels = sampling_levels(INFERENCE, 0.25, 1)
    assert simulated(AlignedPath(0.25), levels, "published", eta) == pytest.approx(
        (LOW, 0), abs=1e-6
    )
