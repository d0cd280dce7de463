"""Restore slices as the product does, and score them against the truth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrisr import metrics
from mrisr.analysis.preference import distance
from mrisr.analysis.slices import operator_for
from mrisr.config import Job
from mrisr.models.store import load_model
from mrisr.physics.separable import SeparableOperator
from mrisr.restore.engine import Engine
from mrisr.restore.sampling import Options


class Scores(NamedTuple):
    """One figure per slice ``(n,)``: PSNR and spectrum error in dB, SSIM; of intensities 0..1."""

    psnr: NDArray[np.float64]
    ssim: NDArray[np.float64]
    spectrum: NDArray[np.float64]


class Means(NamedTuple):
    """Means over slices or patients; ``distance`` is that of :mod:`mrisr.analysis.preference`."""

    psnr: float
    ssim: float
    spectrum: float
    distance: float


def interpolation(job: Job, device: str = "auto") -> Engine:
    """What results are compared with: PyTorch's bicubic in-plane, cubic B-spline through-plane."""
    name = "bicubic-sharp" if job == "inplane" else "bspline"
    return Engine(load_model(name), Options(device=device))


def means(scores: Scores, base: Scores) -> Means:
    """Means over slices; ``base`` are the scores of interpolation on the same slices."""
    pairs = zip(base, scores, strict=True)
    _, ssim, spectrum = (np.stack(pair) for pair in pairs)
    found = (*scores, distance(ssim, spectrum)[1])
    return Means(*(float(figure.mean()) for figure in found))


def restore(engine: Engine, images: Tensor, job: Job, factor: float) -> Tensor:
    """Degrade truths ``(n, 1, h, w)`` in -1..1 and restore them, with the model's data consistency."""
    operator = operator_for(job, factor, images)
    size = engine.batch_size((images.shape[-2], images.shape[-1]))
    return torch.cat([_restored(engine, part, operator) for part in images.split(size)])


def _restored(engine: Engine, images: Tensor, operator: SeparableOperator) -> Tensor:
    y = operator(images)
    return operator.project(engine.restore(y, operator), y, engine.consistency)


def unit(images: Tensor) -> Tensor:
    """Images in -1..1 as intensities 0..1, clipped."""
    return ((images + 1) / 2).clamp(0, 1)


def score(result: Tensor, reference: Tensor, job: Job) -> Scores:
    """Score images ``(n, 1, h, w)`` in -1..1, one by one. Through-plane, the spectrum is that along the
    degraded axis."""
    a, b = unit(result), unit(reference)
    dims = (-2, -1) if job == "inplane" else (-2,)
    found = (metrics.psnr(a, b), metrics.ssim(a, b), metrics.spectrum_error(a, b, dims=dims))
    return Scores(*(figure.double().numpy() for figure in found))
