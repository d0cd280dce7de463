"""Likeness of the diffused low- and high-resolution images (PartDiff Sec. 4.1, Fig. 2 and 3).

Both images of a pair are diffused by the inference schedule, ``g x + sqrt(1 - g^2) eps`` with the signal
level ``g = sqrt(alpha_bar)``. What tells the two latents apart is ``g d`` with ``d = x_HR - x_LR``, under
noise of variance ``1 - g^2`` that is the same at every spatial frequency. In a band where ``d`` has power
``P`` per Fourier coefficient, the signal-to-noise ratio is ``s = P g^2 / (1 - g^2)``, and the best linear
(Wiener) denoiser takes the share ``s / (1 + s)`` of that band's missing detail out of the latent. Partial
diffusion starts from a latent without that detail, so K is suggested where the largest share of all bands has
fallen to a stated threshold: a denoiser would hardly have read there what the start lacks.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mrisr.analysis import scoring
from mrisr.analysis.options import LatentSettings, command, names_of
from mrisr.analysis.scoring import PROTOCOL, Array, Report, Slices, per_patient, read_slices
from mrisr.config import Job
from mrisr.core.statistics import Interval, mean_interval, seeded
from mrisr.data import pairs
from mrisr.diffusion import INFERENCE, start_latent
from mrisr.io.atomic import make_folder
from mrisr.view.pages import new_figure, png

#: Spatial frequencies are taken in bands this wide, cycles per pixel, up to Nyquist's 0.5.
BAND = 0.02
BANDS = 25
#: The published starts, K of 100 steps, and the steps that the picture shows as the published one does.
PUBLISHED = (25, 50, 75)
SHOWN = (0, *PUBLISHED, 100)


class Latents(NamedTuple):
    """Likeness of the latents at every level of the schedule."""

    g: Array  #: signal levels ``g_0 .. g_T``, ``(T + 1,)``
    same: Interval  #: PSNR in dB of the two latents with the same noise, per level
    independent: Interval  #: the same with independent noise, expected
    power: Array  #: power of ``d`` per Fourier coefficient in each band, mean over patients, ``(BANDS,)``
    square: Array  #: mean of ``d^2`` over pixels, and its sum over a slice, mean over patients
    patients: dict[str, Array]  #: patient to its own band power
    example: tuple[Tensor, Tensor]  #: x_HR and x_LR ``(h, w)`` of one slice, in -1..1


class Suggestion(NamedTuple):
    """K by the threshold: for the mean over patients, and the smallest and largest of single patients."""

    k: int
    g: float
    lowest: int
    highest: int


def latent_psnr(square: Array, g: Array) -> tuple[Array, Array]:
    """PSNR in dB ``(n, m)`` between the latents of images whose difference has the mean squares ``square``
    ``(n,)``, at signal levels ``g`` ``(m,)``: with the same noise, of which nothing remains in ``g d``, and
    with independent noise, expected."""
    signal = np.multiply.outer(square, g * g)
    with np.errstate(divide="ignore"):  # images span -1..1, a range of 2
        same, independent = (
            10 * np.log10(2**2 / error) for error in (signal, signal + 2 * (1 - g * g))
        )
    return same, independent


def band_power(difference: Tensor, job: Job) -> Tensor:
    """Power of images ``(n, 1, h, w)`` per coefficient of the orthonormal Fourier transform, mean over
    images and over each band of frequencies, ``(BANDS,)``; white noise of variance v has v in each.

    Bands are rings in-plane; through-plane they follow the frequency along the rows' axis alone, the
    one that was degraded. Frequencies above 0.5 in the corners are left scoring.
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
    slices: Sequence[Slices], job: Job, factor: float, report: Report = lambda line: None
) -> Latents:
    """Degrade the slices, diffuse the pairs by the inference schedule and compare their latents."""
    g = INFERENCE.noise_scales().numpy()
    found: dict[str, list[tuple[str, Array]]] = {}
    examples = []
    for part in slices:
        y, operator = pairs.measure(part.images, job, pairs.Drawn(PROTOCOL[job][1], factor))
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
    power, square = means["power"].mean, means["square"].mean
    return Latents(
        g, means["same"], means["independent"], power, square, each["power"], examples[0]
    )


def as_rows(latents: Latents) -> list[dict[str, float | None]]:
    """One row per step of the schedule; `None` where a figure is infinite or unknown.

    ``share`` is that of the band which has most. ``kl_per_pixel`` and ``kl_per_slice`` are the
    Kullback-Leibler divergence of the two latents' distributions given both images,
    ``g^2 d^2 / (2 (1 - g^2))`` in nats: what an observer could use who knows both.
    """
    g = latents.g
    with np.errstate(divide="ignore"):
        ratio = g * g / (2 * (1 - g * g))
    columns = {"t": np.arange(len(g)), "g": g}
    for name in ("same", "independent"):
        psnr: Interval = getattr(latents, name)
        parts = {"": psnr.mean, "_low": psnr.low, "_high": psnr.high}
        columns |= {f"psnr_{name}_noise{end}": part for end, part in parts.items()}
    columns |= {
        "psnr_one_image_twice": latent_psnr(np.zeros(1), g)[1][0],
        "share": shares(latents.power, g).max(axis=1),
        "kl_per_pixel": ratio * latents.square[0],
        "kl_per_slice": ratio * latents.square[1],
    }
    return [
        {name: scoring.number(column[t]) for name, column in columns.items()} for t in range(len(g))
    ]


def as_markdown(latents: Latents, suggestion: Suggestion, threshold: float) -> str:
    """The steps that matter as a table, and the suggestion as a sentence."""
    rows = as_rows(latents)
    columns = {
        "g": ("g", ".4g"),
        "PSNR, same noise": ("psnr_same_noise", ".2f"),
        "PSNR, independent noise": ("psnr_independent_noise", ".3f"),
        "the same of one image twice": ("psnr_one_image_twice", ".3f"),
        "share of the missing detail": ("share", ".2g"),
        "KL per slice": ("kl_per_slice", ".2g"),
    }
    table = []
    for k in sorted({*PUBLISHED, suggestion.k}):
        name = f"{k} (published)" if k in PUBLISHED else str(k)
        table.append([name, *(format(rows[k][column], f) for column, f in columns.values())])
    return (
        f"{scoring.markdown(['K', *columns], table)}\n"
        f"Suggested: K = {suggestion.k} (g = {suggestion.g:.4g}), the first step at which no band's share is "
        f"above {threshold:g}; {suggestion.lowest} to {suggestion.highest} for single patients "
        f"({len(latents.patients)}).\n"
    )


def latents_figure(latents: Latents, suggestion: Suggestion, threshold: float) -> bytes:
    """PSNR between the latents (after PartDiff Fig. 3) and the share of the missing detail, per step."""
    figure = new_figure(11, 4.4)
    left, right = figure.subplots(1, 2)
    t, last = np.arange(len(latents.g)), len(latents.g) - 1
    curves = (
        (latents.same, scoring.BLUE, "same noise"),
        (latents.independent, scoring.ORANGE, "independent noise"),
    )
    for curve, colour, label in curves:
        left.plot(t, curve.mean, color=colour, lw=2, label=label)
        left.fill_between(t, curve.low, curve.high, color=colour, alpha=0.25, lw=0)
    twice = latent_psnr(np.zeros(1), latents.g)[1][0, 1:]
    left.plot(t[1:], twice, ":", color=scoring.GREY, label="one image twice (expected)")
    left.set(ylim=(0, None), ylabel="PSNR between the latents (dB)")
    left.set_title(f"mean and 95% interval, {scoring.patients(latents.same.n)}", fontsize=10)
    left.legend(frameon=False)
    for power in latents.patients.values():
        right.semilogy(
            t, shares(power, latents.g).max(axis=1), color=scoring.GREEN, lw=0.6, alpha=0.5
        )
    share = shares(latents.power, latents.g).max(axis=1)
    right.semilogy(
        t, share, color=scoring.GREEN, lw=2, label="largest band: mean; thin: each patient"
    )
    right.axhline(threshold, color="black", lw=0.8, ls="--")
    right.annotate(f"threshold {threshold:.2g}", (1, threshold), va="bottom", fontsize=8)
    k = suggestion.k
    right.plot([k], [share[k]], "o", color="black")
    right.annotate(f" K = {k} (g = {suggestion.g:.3f})", (k, share[k]), va="bottom")
    right.set(ylim=(1e-6, 1.5), ylabel="share of the missing detail in the latent")
    right.legend(frameon=False, loc="lower left")
    for axes in (left, right):  # steps below, signal levels above, the published starts as lines
        axes.set(xlim=(0, last), xlabel="step t of the inference schedule")
        for start in PUBLISHED:
            axes.axvline(start, color=scoring.GREY, lw=0.7, alpha=0.6)
        above = axes.twiny()
        above.set(xlim=(0, last), xticks=SHOWN, xlabel="signal level g")
        above.set_xticklabels([f"{latents.g[s]:.3g}" for s in SHOWN])
    return png(figure, dpi=120)


def latents_picture(latents: Latents) -> bytes:
    """One slice's latents (after PartDiff Fig. 2): x_HR above, x_LR below, noise drawn for each on its own.

    Both images of a column share one grey scale, which widens from -1..1 to two standard deviations of noise.
    """
    figure = new_figure(2.1 * len(SHOWN), 4.6)
    rows = figure.subplots(2, len(SHOWN))
    generator = seeded("cpu", 0)
    names = ("diffused $x_{HR}$", "diffused $x_{LR}$")
    for panels, image, name in zip(rows, latents.example, names, strict=True):
        for axes, t in zip(panels, SHOWN, strict=True):
            g = latents.g[t]
            noise = torch.randn(image.shape, generator=generator)
            shown = start_latent(image, image.new_tensor(g), noise)
            reach = g + 2 * np.sqrt(1 - g * g)
            axes.imshow(shown.numpy(), cmap="gray", vmin=-reach, vmax=reach)
            axes.set(xticks=(), yticks=())
            if panels is rows[0]:
                axes.set_title(f"t = {t}, g = {g:.3g}", fontsize=10)
        panels[0].set_ylabel(name)
    return png(figure, dpi=150)


def analyze_latents(
    data: Path, output: Path, how: LatentSettings, report: Report = lambda line: None
) -> str:
    """Write ``latents.csv``, ``.json``, ``.md``, ``.png`` and ``latents_picture.png`` into ``output``;
    returns the Markdown text.

    Raises:
        InputError: the cache cannot be read or lacks a patient.
        UsageError: the factor does not suit the images.
        OutputError: the folder cannot be written.
    """
    cases = names_of(how.cases)
    slices = read_slices(data, how.job, cases, factor=how.factor, count=how.slices)
    make_folder(output)
    found = measure_latents(slices, how.job, how.factor, report)
    suggestion = suggest(found, how.threshold)
    text, rows = as_markdown(found, suggestion, how.threshold), as_rows(found)
    content = {
        "command": command("latents", how),
        "patients": sorted(found.patients),
        "suggestion": suggestion._asdict(),
        "threshold": how.threshold,
        "curve": rows,
    }
    pictures = {
        "latents.png": latents_figure(found, suggestion, how.threshold),
        "latents_picture.png": latents_picture(found),
    }
    scoring.write_analysis(output, "latents", rows, content, text, pictures)
    return text
