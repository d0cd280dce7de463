"""Degrade held-out slices, restore them with the product's own engine, and score them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mrisr import cache, metrics, pairs
from mrisr.config import DegradationSettings, Job
from mrisr.evaluation.settings import EvaluationSettings, Sampler
from mrisr.inference.engine import Engine
from mrisr.matrices import Interpolation
from mrisr.operators import SeparableOperator

#: The interpolation that results are compared with.
BASELINE: dict[Job, Interpolation] = {"inplane": "bicubic-sharp", "throughplane": "bspline"}


class Score(NamedTuple):
    """Means over the slices of one stack; PSNR in dB on intensities 0..1, texture in dB, seconds per slice.

    ``interpolated`` is bicubic (in-plane, a = -3/4 as PyTorch's) or cubic B-spline (through-plane)
    interpolation;
    ``projected`` is the same after data consistency, which tells the network's share of a gain.
    ``residual`` is the RMS of ``A x_hat - y`` over the intensity range.
    """

    case: str
    series: str
    factor: float
    slices: int
    psnr: float
    ssim: float
    texture: float
    psnr_interpolated: float
    ssim_interpolated: float
    texture_interpolated: float
    psnr_projected: float
    ssim_projected: float
    texture_projected: float
    residual: float
    seconds: float

    @property
    def gain(self) -> float:
        """PSNR over interpolation, dB."""
        return self.psnr - self.psnr_interpolated


class Case(NamedTuple):
    """A held-out stack: its slices ``(n, 1, h, w)`` in -1..1, clipped to the volume's 0..99.5 percentile
    range."""

    name: str
    series: str
    images: Tensor


def held_out(
    stacks: Sequence[cache.Stack], settings: EvaluationSettings, cases: Sequence[str]
) -> list[Case]:
    """The stacks to score, centre-cropped, at each scanner's own pixel size."""
    chosen = [s for s in stacks if s.case in cases]
    images = pairs.validation_images(chosen, settings.planes, settings.crop)
    return [Case(stack.case, stack.series, x) for stack, x in images]


def operator_for(
    settings: EvaluationSettings, factor: float, shape: Sequence[int]
) -> SeparableOperator:
    """The degradation of images ``(..., rows, columns)`` of this shape."""
    drawn = pairs.Drawn(_degradation(settings), factor, settings.thickness, 0.0)
    return pairs.pair_operator(settings.job, drawn, (shape[-2], shape[-1]))


def score_case(engine: Engine, case: Case, settings: EvaluationSettings, factor: float) -> Score:
    """Score one stack at one factor."""
    operator = operator_for(settings, factor, case.images.shape)
    bands = (1.0 if -2 not in operator.axes else factor, 1.0 if -1 not in operator.axes else factor)
    size = engine.batch_size((case.images.shape[-2], case.images.shape[-1]))
    parts: list[Tensor] = []
    seconds = 0.0
    for x_high in case.images.split(size):
        y = operator(x_high)
        began = time.perf_counter()
        x = operator.project(engine.restore(y, operator), y, settings.consistency)
        seconds += time.perf_counter() - began
        base = operator.interpolating_by(BASELINE[settings.job]).interpolate(y)
        compared = (x, base, operator.project(base, y))
        residual = (operator(x) - y).square().mean((-3, -2, -1))
        parts.append(torch.cat([_figures(compared, x_high, bands), residual[None]]))
    columns = torch.cat(parts, dim=1)
    rms = float(columns[-1].mean().sqrt()) / 2  # images span -1..1, the range is 2
    means = dict(zip(Score._fields[4:13], columns[:-1].mean(dim=1).tolist(), strict=True))
    n = len(case.images)
    return Score(case.name, case.series, factor, n, **means, residual=rms, seconds=seconds / n)


def _figures(images: Sequence[Tensor], x_high: Tensor, bands: tuple[float, float]) -> Tensor:
    """PSNR, SSIM and texture of each of ``images``, in this order: ``(3 * len(images), b)``."""
    reference = (x_high + 1) / 2
    rows = []
    for image in images:
        scaled = ((image + 1) / 2).clamp(0, 1)
        rows += [
            metrics.psnr(scaled, reference),
            metrics.ssim(scaled, reference),
            metrics.texture(scaled, reference, bands),
        ]
    return torch.stack(rows)


def with_sampler(engine: Engine, sampler: Sampler) -> Engine:
    """The same model sampled another way."""
    return engine.resampled(steps=sampler.steps, churn=sampler.churn, update=sampler.update)


def _degradation(settings: EvaluationSettings) -> DegradationSettings:
    thickness = (settings.thickness, settings.thickness)
    return DegradationSettings(kind=settings.kind, factors=settings.factors, thickness=thickness)
