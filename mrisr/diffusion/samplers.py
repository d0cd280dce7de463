"""Samplers by name: plain functions of one signature, from a start latent to x_HR.

A sampler takes ``(denoise, x, x_low, levels, path, noise, eta)`` and keeps no state. A partial start is
nothing but a first signal level above that of pure noise and the latent that belongs to it
(:func:`start_latent`); ``denoise(x_t, g)`` returns the estimate of x_HR (the network, its parameterisation
and its tiling are the caller's business). Another sampler is one more function in :data:`SAMPLERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Protocol, TypeAlias

from torch import Tensor

from mrisr.core.options import SamplerName
from mrisr.diffusion.path import Path, mean

Denoise: TypeAlias = Callable[[Tensor, Tensor], Tensor]
#: Standard normal noise of a step: index of the step (0 is the start) -> tensor that broadcasts
#: against the images. Sharing it between slices and tiles is the caller's choice.
Noise: TypeAlias = Callable[[int], Tensor]


class Sampler(Protocol):
    """The signature of all samplers."""

    def __call__(
        self,
        denoise: Denoise,
        x: Tensor,
        x_low: Tensor,
        levels: Tensor,
        path: Path,
        noise: Noise,
        eta: float = 0.0,
    ) -> Tensor:
        """x_HR from the latent ``x`` ``(b, c, h, w)`` at the signal level ``levels[0]``.

        Args:
            denoise: estimate of x_HR from a latent and its signal level.
            x: the latent to start from.
            x_low: the measurement interpolated on the target grid, where the path's mean may begin.
            levels: signal levels g = sqrt(alpha_bar), rising; the last is 1, which is no noise.
            path: where the latent's mean lies at a signal level.
            noise: of the steps, asked for only where ``eta > 0``.
            eta: 0 deterministic steps (DDIM), 1 ancestral ones.
        """
        ...


def start_latent(x_low: Tensor, g: Tensor, noise: Tensor) -> Tensor:
    """Partial start ``x_K = g_K x_LR + sqrt(1 - g_K^2) eps`` (PartDiff Sec. 4.1)."""
    return g * x_low + (1 - g * g).sqrt() * noise


def step(
    x_t: Tensor,
    mean_t: Tensor,
    mean_s: Tensor,
    g_t: Tensor,
    g_s: Tensor,
    *,
    eta: float = 0.0,
    noise: Tensor | None = None,
) -> Tensor:
    """One step from signal level ``g_t`` to the larger ``g_s``: DDIM's (Song et al. 2021, eq. 12 and 16).

    Args:
        mean_t, mean_s: the mean of the latent at both levels.
        eta: 0 deterministic (DDIM), 1 ancestral (the posterior's full variance, PartDiff eq. 7).
        noise: standard normal, needed where ``eta > 0``.

    Raises:
        ValueError: an ancestral step without noise.
    """
    var_t, var_s = 1 - g_t * g_t, (1 - g_s * g_s).clamp(min=0)
    residual = (x_t - g_t * mean_t) / var_t.sqrt()
    fresh = eta * eta * var_s / var_t * (1 - g_t * g_t / (g_s * g_s))
    x_s = g_s * mean_s + (var_s - fresh).clamp(min=0).sqrt() * residual
    if eta > 0 and bool(var_s > 0):
        if noise is None:
            raise ValueError("an ancestral step (eta > 0) needs noise")
        x_s = x_s + fresh.sqrt() * noise
    return x_s


def _sample(
    denoise: Denoise,
    x: Tensor,
    x_low: Tensor,
    levels: Tensor,
    path: Path,
    noise: Noise,
    eta: float = 0.0,
    *,
    moving: bool,
) -> Tensor:
    levels = levels.to(x_low.device)  # float64: the last level before 1 must not round to 1
    for i in range(len(levels) - 1):
        g_t, g_s = levels[i], levels[i + 1]
        estimate = denoise(x, g_t)
        mean_t = mean(path, estimate, x_low, g_t)
        mean_s = mean(path, estimate, x_low, g_s) if moving else mean_t
        x = step(x, mean_t, mean_s, g_t, g_s, eta=eta, noise=noise(i + 1) if eta > 0 else None)
    return x


#: ``corrected`` lets the mean move to where the path has it at the next level; ``published`` keeps it where
#: it was, as DDPM's posterior (PartDiff eq. 5 to 7, 18) does. The two are the same on the plain path.
SAMPLERS: Mapping[SamplerName, Sampler] = MappingProxyType(
    {"corrected": partial(_sample, moving=True), "published": partial(_sample, moving=False)}
)
