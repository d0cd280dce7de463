"""Likeness of the diffused low- and high-resolution images (PartDiff Sec. 4.1, Fig. 2 and 3).

Both images of a pair are diffused by the inference schedule, ``g x + sqrt(1 - g^2) eps`` with the signal
level ``g = sqrt(alpha_bar)``. What tells the two latents apart is ``g d`` with ``d = x_HR - x_LR``, under
noise of variance ``1 - g^2`` that is the same at every spatial frequency. In a band where ``d`` has power
``P`` per Fourier coefficient, the signal-to-noise ratio is ``s = P g^2 / (1 - g^2)``, and the best linear
(Wiener) denoiser takes the share ``s / (1 + s)`` of that band's missing detail out of the latent. Partial
diffusion starts from a latent without that detail, so K is suggested where the largest share of all bands has
fallen to a stated threshold: a denoiser would hardly have read there what the start lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mrisr.analysis.output import command, markdown, number, write_analysis
from mrisr.analysis.slices import (
    Array,
    Selection,
    Slices,
    drawn_for,
    per_patient,
    read_slices,
)
from mrisr.config import Job
from mrisr.core.errors import UsageError
from mrisr.core.statistics import Interval, mean_interval
from mrisr.data import pairs
from mrisr.diffusion.schedule import INFERENCE
from mrisr.io.atomic import make_folder

#: Spatial frequencies are taken in bands this wide, cycles per pixel, up to Nyquist's 0.5.
BAND = 0.02
BANDS = 25
#: The published starts; K of 100 steps.
PUBLISHED = (25, 50, 75)
#: Images span -1..1, so PSNR counts against a range of 2.
_RANGE_SQUARED = 4.0


@dataclass(frozen=True, kw_only=True)
class LatentSettings(Selection):
    """Images to diffuse.

    Attributes:
        job: in-plane or through-plane.
        cases: patients; all of the cache if empty (no model is involved, so none must be held out).
        threshold: of the largest band's share of the missing detail, 0..1.
    """

    job: Job
    cases: tuple[str, ...] = ()
    threshold: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise UsageError(f"threshold: expected between 0 and 1, found {self.threshold:g}")


class Latents(NamedTuple):
    """Likeness of the latents at every level of the schedule.

    Attributes:
        g: signal levels ``g_0 .. g_T``, ``(T + 1,)``.
        same: PSNR in dB of the two latents with the same noise, per level.
        independent: the same with independent noise, expected.
        noise_only: the PSNR of two latents of *one* image; infinite at ``g = 1``.
        power: power of ``d`` per Fourier coefficient in each band, mean over patients, ``(BANDS,)``.
        square: mean of ``d^2`` over pixels, and its sum over a slice, mean over patients.
        patients: patient to its own band power.
        example: x_HR and x_LR ``(h, w)`` of one slice, in -1..1.
    """

    g: Array
    same: Interval
    independent: Interval
    noise_only: Array
    power: Array
    square: Array
    patients: dict[str, Array]
    example: tuple[Tensor, Tensor]


class Suggestion(NamedTuple):
    """K by the threshold: for the mean over patients, and the smallest and largest of single patients."""

    k: int
    g: float
    lowest: int
    highest: int


def latent_psnr(square: Array, g: Array) -> tuple[Array, Array]:
    """PSNR in dB between the latents of images whose difference has the mean squares ``square`` ``(n,)``, at
    signal levels ``g`` ``(m,)``.

    Returns:
        With the same noise, of which nothing remains in ``g d``, and with independent noise, expected: ``(n,
        m)`` each.
    """
    signal = np.multiply.outer(square, g * g)
    with np.errstate(divide="ignore"):
        same, independent = (
            10 * np.log10(_RANGE_SQUARED / error) for error in (signal, signal + 2 * (1 - g * g))
        )
    return same, independent


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
    total = signal + (1 - g * g)[:, None]
    return np.asarray(np.divide(signal, total, out=np.ones_like(signal), where=total > 0))


def smallest_k(power: Array, g: Array, threshold: float) -> int:
    """First level at which no band's share is above the threshold; the last level where there is none."""
    below = shares(power, g).max(axis=1) <= threshold
    return int(np.argmax(below)) if below.any() else len(g) - 1


def suggest(latents: Latents, threshold: float) -> Suggestion:
    """Suggest K for a threshold on the largest band's share."""
    k = smallest_k(latents.power, latents.g, threshold)
    single = [smallest_k(power, latents.g, threshold) for power in latents.patients.values()]
    return Suggestion(k, float(latents.g[k]), min(single), max(single))


def measure_latents(
    slices: Sequence[Slices],
    job: Job,
    factor: float,
    report: Callable[[str], None] = lambda line: None,
) -> Latents:
    """Degrade the slices, diffuse the pairs by the inference schedule and compare their latents."""
    g = INFERENCE.noise_scales().numpy()
    found: dict[str, list[tuple[str, Array]]] = {}
    examples = []
    for part in slices:
        y, operator = pairs.measure(part.images, job, drawn_for(job, factor))
        x_low = operator.interpolate(y)
        difference = part.images - x_low
        square = difference.double().square().mean((1, 2, 3)).numpy()
        same, independent = (psnr.mean(0) for psnr in latent_psnr(square, g))
        figures = {
            "same": same,
            "independent": independent,
            "power": band_power(difference, job).numpy(),
            "square": square.mean() * np.array([1, difference[0].numel()]),
        }
        for name, figure in figures.items():
            found.setdefault(name, []).append((part.case, figure))
        middle = len(part.images) // 2
        examples.append((part.images[middle, 0], x_low[middle, 0]))
        report(f"{part.case} {part.series}: {len(part.images)} slices")
    each = {name: per_patient(rows) for name, rows in found.items()}
    means = {name: mean_interval(list(rows.values())) for name, rows in each.items()}
    return Latents(
        g,
        means["same"],
        means["independent"],
        latent_psnr(np.zeros(1), g)[1][0],
        means["power"].mean,
        means["square"].mean,
        each["power"],
        examples[0],
    )


def as_rows(latents: Latents) -> list[dict[str, float | None]]:
    """One row per step of the schedule; `None` where a figure is infinite or unknown.

    ``share`` is that of the band which has most. ``kl_per_pixel`` and ``kl_per_slice`` are the
    Kullback-Leibler divergence of the two latents' distributions given both images,
    ``g^2 d^2 / (2 (1 - g^2))`` in nats: what an observer could use who knows both.
    """
    g, same, independent = latents.g, latents.same, latents.independent
    with np.errstate(divide="ignore"):
        ratio = g * g / (2 * (1 - g * g))
    columns = {
        "t": np.arange(len(g)),
        "g": g,
        "psnr_same_noise": same.mean,
        "psnr_same_noise_low": same.low,
        "psnr_same_noise_high": same.high,
        "psnr_independent_noise": independent.mean,
        "psnr_independent_noise_low": independent.low,
        "psnr_independent_noise_high": independent.high,
        "psnr_one_image_twice": latents.noise_only,
        "share": shares(latents.power, g).max(axis=1),
        "kl_per_pixel": ratio * latents.square[0],
        "kl_per_slice": ratio * latents.square[1],
    }
    return [{name: number(column[t]) for name, column in columns.items()} for t in range(len(g))]


def as_markdown(latents: Latents, suggestion: Suggestion, threshold: float) -> str:
    """The steps that matter as a table, and the suggestion as a sentence."""
    rows = as_rows(latents)
    header = [
        "K",
        "g",
        "PSNR, same noise",
        "PSNR, independent noise",
        "the same of one image twice",
    ]
    header += ["share of the missing detail", "KL per slice"]
    formats = {
        "g": ".4g",
        "psnr_same_noise": ".2f",
        "psnr_independent_noise": ".3f",
        "psnr_one_image_twice": ".3f",
        "share": ".2g",
        "kl_per_slice": ".2g",
    }
    table = []
    for k in sorted({*PUBLISHED, suggestion.k}):
        name = f"{k} (published)" if k in PUBLISHED else str(k)
        table.append([name, *(format(rows[k][column], f) for column, f in formats.items())])
    return (
        f"{markdown(header, table)}\n"
        f"Suggested: K = {suggestion.k} (g = {suggestion.g:.4g}), the first step at which no band's share is "
        f"above {threshold:g}; {suggestion.lowest} to {suggestion.highest} for single patients "
        f"({len(latents.patients)}).\n"
    )


def analyze_latents(
    data: Path,
    output: Path,
    settings: LatentSettings,
    report: Callable[[str], None] = lambda line: None,
) -> str:
    """Write ``latents.csv``, ``.json``, ``.md``, ``.png`` and ``latents_picture.png`` into ``output``.

    Returns:
        The Markdown text.

    Raises:
        InputError: the cache cannot be read or lacks a patient.
        UsageError: the factor does not suit the images.
        OutputError: the folder cannot be written.
    """
    from mrisr.analysis.latents_figures import latents_figure, latents_picture

    job, factor, threshold = settings.job, settings.factor, settings.threshold
    slices = read_slices(data, job, settings.cases, settings)
    make_folder(output)
    found = measure_latents(slices, job, factor, report)
    suggestion = suggest(found, threshold)
    text, rows = as_markdown(found, suggestion, threshold), as_rows(found)
    content = {
        "command": command("latents", settings),
        "patients": sorted(found.patients),
        "suggestion": suggestion._asdict(),
        "threshold": threshold,
        "curve": rows,
    }
    pictures = {
        "latents.png": latents_figure(found, suggestion, threshold),
        "latents_picture.png": latents_picture(found),
    }
    write_analysis(output, "latents", rows, content, text, pictures)
    return text
