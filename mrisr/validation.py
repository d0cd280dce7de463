"""Validation during training: held-out patients, few evaluations from the start, against interpolation."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mrisr import cache, metrics, pairs
from mrisr.config import Config
from mrisr.diffusion.denoiser import Denoiser
from mrisr.diffusion.sampler import sample
from mrisr.diffusion.schedule import LinearSchedule, sampling_levels
from mrisr.io.atomic import make_folder, write_bytes

#: Steps of the figures during training. A network that predicts x_HR is a regression in one step; one
#: that predicts the noise says nothing of x_HR at the aligned start, so one step would return x_LR.
STEPS = {"high": 1, "noise": 10}


class Example(NamedTuple):
    """Interpolated, restored and reference slice ``(h, w)`` on 0..1."""

    interpolated: Tensor
    restored: Tensor
    reference: Tensor


def restore(
    denoiser: Denoiser,
    x_low: Tensor,
    condition: Tensor,
    schedule: LinearSchedule,
    *,
    steps: int = 1,
    seed: int = 0,
    from_noise: bool = False,
) -> Tensor:
    """x_HR of images ``(b, 1, h, w)`` in -1..1 by ``steps`` deterministic steps from the partial start
    (or from pure noise)."""
    noise = torch.randn(1, 1, *x_low.shape[-2:], generator=pairs.seeded("cpu", seed)).to(x_low)

    def denoise(x: Tensor, g: Tensor) -> Tensor:
        return denoiser(x, x_low, g.float().expand(len(x)), condition.expand(len(x), -1))

    levels = sampling_levels(schedule, denoiser.path.start, steps)
    return sample(denoise, x_low, levels, denoiser.path, lambda step: noise, from_noise=from_noise)


def _factors(config: Config) -> list[tuple[pairs.Drawn, str]]:
    """The exact factors of the first degradation kind, without blur: what the figures are quoted for."""
    first = config.data.degradations[0]
    factors = first.factors or (first.range[0], first.range[1])
    return [(pairs.Drawn(first, f, 1.0, 0.0), f"x{f:g}") for f in dict.fromkeys(factors)]


def validation_planes(config: Config) -> list[str]:
    """In-plane models are validated on axial slices, through-plane models on coronal ones."""
    return ["axial"] if config.job == "inplane" else ["coronal"]


@torch.no_grad()
def validate(
    denoiser: Denoiser, stacks: Sequence[cache.Stack], config: Config, slices: int = 8
) -> tuple[dict[str, float], list[Example]]:
    """PSNR and SSIM per factor, and their gains over interpolation, averaged over patients.

    ``slices`` central slices of every validation stack are restored at full size (cropped to 320).
    """
    device = next(denoiser.parameters()).device
    clock = LinearSchedule(**config.diffusion.inference.model_dump())
    rows: dict[str, list[float]] = {}
    examples = []
    images = list(pairs.validation_images(stacks, validation_planes(config)))
    for _, stack_images in images:
        first = max(0, (len(stack_images) - slices) // 2)
        x_high = stack_images[first : first + slices].to(device)
        reference = (x_high + 1) / 2
        for drawn, label in _factors(config):
            x_low, condition = pairs.degrade(x_high, config.job, drawn)
            restored = restore(
                denoiser,
                x_low,
                condition,
                clock,
                steps=STEPS[denoiser.prediction],
                from_noise=config.diffusion.from_noise,
            )
            base, result = ((x + 1).div(2).clamp(0, 1) for x in (x_low, restored))
            figures = {
                f"{label}_psnr": metrics.psnr(result, reference),
                f"{label}_gain": metrics.psnr(result, reference) - metrics.psnr(base, reference),
                f"{label}_ssim": metrics.ssim(result, reference),
                f"{label}_ssim_gain": metrics.ssim(result, reference)
                - metrics.ssim(base, reference),
            }
            for key, value in figures.items():
                rows.setdefault(key, []).append(float(value.mean()))
            middle = len(x_high) // 2
            examples.append(Example(*(x[middle, 0].cpu() for x in (base, result, reference))))
    return {k: float(np.mean(v)) for k, v in rows.items()}, examples


def write_examples(path: Path, examples: Sequence[Example]) -> None:
    """One PNG: a row per example with the interpolated, the restored and the reference slice."""
    if not examples:
        return
    from matplotlib.image import imsave

    width = max(e.reference.shape[1] for e in examples)
    rows = []
    for example in examples:
        row = np.concatenate(
            [np.pad(x.numpy(), ((0, 0), (0, width - x.shape[1]))) for x in example], axis=1
        )
        rows.append(row)
    make_folder(path.parent)
    picture = io.BytesIO()
    imsave(picture, np.concatenate(rows), cmap="gray", vmin=0, vmax=1, format="png")
    write_bytes(path, picture.getvalue())
