"""Samplers as plain functions: ``(denoise, x_low, levels, path) -> x_high``.

A partial start is nothing but a first level above pure noise. ``denoise(x_t, g)`` returns the
estimate of x_HR (the network, its parameterisation and its tiling are the caller's business).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from torch import Tensor

from mrisr.diffusion.path import Path, mean

Denoise: TypeAlias = Callable[[Tensor, Tensor], Tensor]
#: Standard normal noise of a step: index of the step (0 is the start) -> tensor that broadcasts
#: against the images. Sharing it between slices and tiles is the caller's choice.
Noise: TypeAlias = Callable[[int], Tensor]
Update: TypeAlias = Literal["corrected", "published"]


def start_latent(x_low: Tensor, g: Tensor, noise: Tensor) -> Tensor:
    """Partial start ``x_K = g_K x_LR + sqrt(1 - g_K^2) eps`` (PartDiff Sec. 4.1)."""
    return g * x_low + (1 - g * g).sqrt() * noise


def step(
    x_t: Tensor,
    x_high: Tensor,
    x_low: Tensor,
    g_t: Tensor,
    g_s: Tensor,
    path: Path,
    *,
    update: Update = "corrected",
    churn: float = 0.0,
    noise: Tensor | None = None,
) -> Tensor:
    """One step from noise scale ``g_t`` to the larger ``g_s``, given the estimate ``x_high``.

    Args:
        update: ``corrected`` lets the mean move to where the path has it at ``g_s``;
            ``published`` keeps it at ``m_t``, as DDPM's posterior (eq. 5 to 7, 18) does. The two
            are the same on the plain path.
        churn: 0 deterministic (DDIM), 1 ancestral (the posterior's full variance, eq. 7).
        noise: standard normal, needed where ``churn > 0``.
    """
    mean_t = mean(path, x_high, x_low, g_t)
    mean_s = mean(path, x_high, x_low, g_s) if update == "corrected" else mean_t
    var_t, var_s = 1 - g_t * g_t, (1 - g_s * g_s).clamp(min=0)
    residual = (x_t - g_t * mean_t) / var_t.sqrt()
    fresh = churn * churn * var_s / var_t * (1 - g_t * g_t / (g_s * g_s))
    x_s = g_s * mean_s + (var_s - fresh).clamp(min=0).sqrt() * residual
    if churn > 0 and bool(var_s > 0):
        if noise is None:
            raise ValueError("an ancestral step (churn > 0) needs noise")
        x_s = x_s + fresh.sqrt() * noise
    return x_s


def sample(
    denoise: Denoise,
    x_low: Tensor,
    levels: Tensor,
    path: Path,
    noise: Noise,
    *,
    update: Update = "corrected",
    churn: float = 0.0,
    from_noise: bool = False,
    constrain: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Sample x_HR given ``x_low`` ``(b, c, h, w)`` along ``levels`` (increasing noise scales, the last 1).

    Args:
        from_noise: start from pure noise instead of the partial start: SR3.
        constrain: applied to every estimate of x_HR, e.g. data consistency inside the loop.

    One level step (``levels`` of length two) returns the first estimate itself: regression.
    """
    levels = levels.to(x_low.device)  # float64: the last level before 1 must not round to 1
    x = noise(0).expand_as(x_low) if from_noise else start_latent(x_low, levels[0], noise(0))
    for i in range(len(levels) - 1):
        estimate = denoise(x, levels[i])
        if constrain is not None:
            estimate = constrain(estimate)
        fresh = noise(i + 1) if churn > 0 else None
        x = step(
            x,
            estimate,
            x_low,
            levels[i],
            levels[i + 1],
            path,
            update=update,
            churn=churn,
            noise=fresh,
        )
    return x
