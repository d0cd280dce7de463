"""Where the diffused low- and high-resolution images become alike (PartDiff Sec. 4.1, Fig. 2 and 3).

Both images of a pair are diffused by the inference schedule, ``g x + sqrt(1 - g^2) eps``. What tells the
two latents apart is ``g d`` with ``d = x_HR - x_LR``, under noise of variance ``1 - g^2`` that is the same
at every spatial frequency. In a band where ``d`` has power ``P`` per Fourier coefficient, the signal-to-noise
ratio is ``s = P g^2 / (1 - g^2)``, and the best linear (Wiener) denoiser takes the share ``s / (1 + s)`` of
that band's missing detail out of the latent. Partial diffusion starts from a latent without that detail, so K
is suggested where the largest share of all bands has fallen to a stated threshold: a denoiser would
hardly have read there what the start lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrisr.analysis.output import number
from mrisr.analysis.slices import Interval, Slices, operator_for, over_patients, per_patient
from mrisr.config import Job
from mrisr.core.errors import UsageError
from mrisr.core.random import seeded
from mrisr.diffusion.schedule import INFERENCE

#: Spatial frequencies are taken in bands this wide, cycles per pixel, up to Nyquist's 0.5.
BAND = 0.02
BANDS = 25
#: The published starts; K of 100 steps.
PUBLISHED = (25, 50, 75)
#: Images span -1..1, so PSNR counts against a range of 2.
_RANGE_SQUARED = 4.0

Array = NDArray[np.float64]


class Pair(NamedTuple):
    """One slice to show: x_HR and x_LR ``(h, w)`` in -1..1."""

    x_high: Tensor
    x_low: Tensor


class Latents(NamedTuple):
    """What :func:`measure_latents` found.

    Attributes:
        g: noise scales ``g_0 .. g_T``, ``(T + 1,)``.
        same: PSNR in dB of the two latents with the same noise, per level.
        independent: the same with independent noise.
        noise_only: the PSNR of two latents of *one* image, expected; infinite at ``g = 1``.
        power: power of ``d`` per Fourier coefficient in each band, mean over patients, ``(BANDS,)``.
        square: mean of ``d^2`` over pixels, and its sum over a slice, mean over patients.
        patients: patient to its own band power.
        example: a slice to draw.
    """

    g: Array
    same: Interval
    independent: Interval
    noise_only: Array
    power: Array
    square: tuple[float, float]
    patients: dict[str, Array]
    example: Pair


class Suggestion(NamedTuple):
    """K by the threshold: for the mean over patients, and the smallest and largest of single patients."""

    k: int
    g: float
    lowest: int
    highest: int


def latent_psnr(x_high: Tensor, x_low: Tensor, g: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """PSNR in dB between the latents of images ``(n, 1, h, w)`` at noise scales ``g`` ``(m,)``.

    Returns:
        With the same and with independent noise, ``(n, m)`` each. Every slice has its own noise, drawn once
        for all levels.
    """
    generator = seeded("cpu", seed)
    first, second = (torch.randn(x_high.shape, generator=generator) for _ in range(2))
    rows: list[list[Tensor]] = [[], []]
    for scale in g.float():
        sigma = (1 - scale * scale).clamp(min=0).sqrt()
        high = scale * x_high + sigma * first
        for row, noise in zip(rows, (first, second), strict=True):
            error = (high - (scale * x_low + sigma * noise)).double()
            row.append(10 * torch.log10(_RANGE_SQUARED / error.square().mean((-3, -2, -1))))
    return torch.stack(rows[0], 1), torch.stack(rows[1], 1)


def band_power(difference: Tensor, job: Job) -> Tensor:
    """Power of images ``(n, 1, h, w)`` per coefficient of the orthonormal Fourier transform, mean over
    images and over each band of frequencies, ``(BANDS,)``; white noise of variance v has v in each.

    Bands are rings in-plane; through-plane they follow the frequency along the rows' axis alone, the
    one that was degraded. Frequencies above 0.5 in the corners are left out.
    """
    h, w = difference.shape[-2:]
    power = torch.fft.fft2(difference.double(), norm="ortho").abs().square().mean((0, 1))
    rows = torch.fft.fftfreq(h).abs()[:, None]
    columns = torch.fft.fftfreq(w).abs()[None, :] if job == "inplane" else torch.zeros(1, w)
    frequency = (rows.square() + columns.square()).sqrt()
    inside = frequency <= 0.5
    band = (frequency[inside] / BAND).long().clamp(max=BANDS - 1)
    total = torch.zeros(BANDS, dtype=torch.float64).index_add_(0, band, power[inside])
    return total / torch.bincount(band, minlength=BANDS)


def shares(power: Array, g: Array) -> Array:
    """The Wiener share of the missing detail per level and band, ``(levels, bands)``; 1 without noise."""
    signal = np.multiply.outer(g * g, power)
    noise = (1 - g * g)[:, None]
    return np.divide(signal, signal + noise, out=np.ones_like(signal), where=signal + noise > 0)


def smallest_k(power: Array, g: Array, threshold: float) -> int:
    """First level at which no band's share is above the threshold; the last level where there is none."""
    below = shares(power, g).max(axis=1) <= threshold
    return int(np.argmax(below)) if below.any() else len(g) - 1


def suggest(latents: Latents, threshold: float) -> Suggestion:
    """K for a threshold 0..1 on the largest band's share. Raises UsageError if it lies outside."""
    check_threshold(threshold)
    k = smallest_k(latents.power, latents.g, threshold)
    single = [smallest_k(power, latents.g, threshold) for power in latents.patients.values()]
    return Suggestion(k, float(latents.g[k]), min(single), max(single))


def check_threshold(threshold: float) -> None:
    """Raise UsageError unless the threshold is a share between 0 and 1."""
    if not 0 < threshold < 1:
        raise UsageError(f"threshold: expected between 0 and 1, found {threshold:g}")


def measure_latents(
    slices: Sequence[Slices],
    job: Job,
    factor: float,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> Latents:
    """Degrade the slices, diffuse the pairs by the inference schedule and compare their latents.

    Raises:
        UsageError: the factor does not suit the images.
    """
    g = INFERENCE.noise_scales()
    curves: dict[str, list[tuple[str, Array]]] = {"same": [], "independent": []}
    powers, squares, example = [], [], None
    for index, part in enumerate(slices):
        operator = operator_for(job, factor, part.images)
        x_low = operator.interpolate(operator(part.images))
        difference = part.images - x_low
        found = latent_psnr(part.images, x_low, g, seed + index)
        for name, curve in zip(curves, found, strict=True):
            curves[name].append((part.case, curve.mean(0).numpy()))
        powers.append((part.case, band_power(difference, job).numpy()))
        square = difference.double().square().sum((1, 2, 3))
        size = difference[0].numel()
        squares.append((part.case, torch.stack([square.mean() / size, square.mean()]).numpy()))
        middle = len(part.images) // 2
        example = example or Pair(part.images[middle, 0], x_low[middle, 0])
        report(f"{part.case} {part.series}: {len(part.images)} slices")
    if example is None:
        raise ValueError("there are no slices to measure")
    power = per_patient(powers)
    per_pixel, per_slice = over_patients(per_patient(squares)).mean
    levels = g.numpy()
    with np.errstate(divide="ignore"):
        noise_only = 10 * np.log10(_RANGE_SQUARED / (2 * (1 - levels * levels)))
    return Latents(
        levels,
        over_patients(per_patient(curves["same"])),
        over_patients(per_patient(curves["independent"])),
        noise_only,
        over_patients(power).mean,
        (float(per_pixel), float(per_slice)),
        power,
        example,
    )


def as_rows(latents: Latents) -> list[dict[str, float | None]]:
    """One row per step of the schedule; None where a figure is infinite or unknown.

    ``share`` is that of the band which has most. ``kl_per_pixel`` and ``kl_per_slice`` are the
    Kullback-Leibler divergence of the two latents' distributions given both images,
    ``g^2 d^2 / (2 (1 - g^2))`` in nats: what an observer could use who knows both.
    """
    share = shares(latents.power, latents.g).max(axis=1)
    rows = []
    for t, g in enumerate(latents.g):
        ratio = g * g / (2 * (1 - g * g)) if g < 1 else np.inf
        figures = {
            "t": t,
            "g": g,
            "psnr_same_noise": latents.same.mean[t],
            "psnr_same_noise_low": latents.same.low[t],
            "psnr_same_noise_high": latents.same.high[t],
            "psnr_independent_noise": latents.independent.mean[t],
            "psnr_independent_noise_low": latents.independent.low[t],
            "psnr_independent_noise_high": latents.independent.high[t],
            "psnr_one_image_twice": latents.noise_only[t],
            "share": share[t],
            "kl_per_pixel": ratio * latents.square[0],
            "kl_per_slice": ratio * latents.square[1],
        }
        rows.append({name: number(value) for name, value in figures.items()})
    return rows


def as_markdown(latents: Latents, suggestion: Suggestion, threshold: float) -> str:
    """The steps that matter as a table, and the suggestion as a sentence."""
    rows = as_rows(latents)
    lines = [
        "| K | g | PSNR, same noise | PSNR, independent noise | the same of one image twice "
        "| share of the missing detail | KL per slice |",
        "|---|---|---|---|---|---|---|",
    ]
    for k in sorted({*PUBLISHED, suggestion.k}):
        r = rows[k]
        name = f"{k} (published)" if k in PUBLISHED else str(k)
        lines.append(
            f"| {name} | {r['g']:.4g} | {r['psnr_same_noise']:.2f} | {r['psnr_independent_noise']:.3f} "
            f"| {r['psnr_one_image_twice']:.3f} | {r['share']:.2g} | {r['kl_per_slice']:.2g} |"
        )
    lines += [
        "",
        f"Suggested: K = {suggestion.k} (g = {suggestion.g:.4g}), the first step at which no band's share is "
        f"above {threshold:g}; {suggestion.lowest} to {suggestion.highest} for single patients "
        f"({len(latents.patients)}).",
    ]
    return "\n".join(lines) + "\n"
