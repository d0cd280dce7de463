"""Restoration of degraded slices as the product does it, their scores, and an automated preference.

On each slice a restoration is a point in a plane: ``1 - SSIM`` (are structures in their places) against the
spectrum error in dB (is there as much detail of each fineness), both divided by those of interpolation on
the same slice. The reference lies at the origin, interpolation at (1, 1), and of two restorations the one
nearer to the origin is preferred; equal ones share the point. A restoration that is nearer by both measures
is then always preferred. Where the two disagree, as they do between few steps and many, the scale decides:
what interpolation lacks by either measure counts the same. That is a convention, not a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from mrisr import metrics
from mrisr.analysis.slices import Array, Slices, drawn_for, job_of
from mrisr.config import Job
from mrisr.core.options import Sampling
from mrisr.data import pairs
from mrisr.models.store import Model, load_model
from mrisr.restore.restore import restore

#: Distances of interpolation below this count as this: SSIM and spectra have single precision.
_LEAST = 1e-6


class Scores(NamedTuple):
    """Figures per slice ``(n,)``: PSNR and spectrum error in dB, SSIM; of intensities 0..1."""

    psnr: Array
    ssim: Array
    spectrum: Array


def interpolation(job: Job) -> Model:
    """The baseline of the comparisons: PyTorch's bicubic in-plane, cubic B-spline through-plane."""
    return load_model("bicubic-sharp" if job == "inplane" else "bspline")


def restored(images: Tensor, job: Job, factor: float, model: Model, sampling: Sampling) -> Tensor:
    """Degrade truths ``(n, 1, h, w)`` in -1..1 and restore them as the product does."""
    measurement = pairs.measurement_of(images, job, drawn_for(job, factor))
    return pairs.as_images(measurement, restore(measurement, model, sampling).stack)


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


class Setting(NamedTuple):
    """One way to restore: its name, the model and how to sample; 0 steps are interpolation."""

    name: str
    steps: int
    model: Model
    sampling: Sampling

    @property
    def evaluations(self) -> int:
        """Evaluations of the network for an image."""
        return self.model.restorer.evaluations(self.sampling)


class RestoredSlices(NamedTuple):
    """A series with its restorations: images ``(n, 1, h, w)`` in -1..1 and figures, one for each setting."""

    slices: Slices
    images: list[Tensor]
    scores: list[Scores]


def restore_all(
    settings: Sequence[Setting],
    slices: Sequence[Slices],
    factor: float,
    report: Callable[[str], None] = lambda line: None,
) -> list[RestoredSlices]:
    """Restore and score every series by every setting, of which the last one tells the job."""
    job = job_of(settings[-1].model)
    out = []
    for part in slices:
        images = [restored(part.images, job, factor, s.model, s.sampling) for s in settings]
        scores = [score(x, part.images, job) for x in images]
        out.append(RestoredSlices(part, images, scores))
        psnr = [float(s.psnr.mean()) for s in scores]
        best = int(np.argmax(psnr))
        report(
            f"{part.case} {part.series}: {len(part.images)} slices, best PSNR "
            f"{psnr[best]:.2f} dB by {settings[best].name}"
        )
    return out


def distance(ssim: Array, spectrum: Array) -> Array:
    """Distance from the reference of figures ``(settings, slices)``, whose first row is interpolation's.

    >>> distance(np.array([[0.5], [0.7]]), np.array([[20.0], [16.0]])).round(6).tolist()
    [[1.414214], [1.0]]
    """
    parts = [d / np.maximum(d[:1], _LEAST) for d in (1 - ssim, spectrum)]
    return np.hypot(parts[0], parts[1])


def preferred(distances: Array) -> Array:
    """``(settings, slices)`` of distances to ``(settings, settings)``: the share of slices on which the
    row's setting is preferred to the column's; one half on the diagonal.

    >>> preferred(np.array([[1.0, 1.0], [2.0, 0.5]])).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    nearer = distances[:, None] < distances[None]
    equal = distances[:, None] == distances[None]
    return np.asarray((nearer + 0.5 * equal).mean(axis=-1))


def win_rates(shares: Array) -> Array:
    """Mean of each row of :func:`preferred` over the other settings ``(settings,)``: how often a setting is
    preferred to another one drawn at random."""
    return np.asarray((shares.sum(axis=1) - 0.5) / (len(shares) - 1))
