"""The figure and the picture of ``mrisr analyze latents``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from mrisr.analysis.figures import BLUE, GREEN, GREY, ORANGE, new_figure, png
from mrisr.analysis.latents import PUBLISHED, Latents, Suggestion, shares
from mrisr.analysis.output import patients
from mrisr.core.random import seeded
from mrisr.diffusion.sampler import start_latent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mrisr.analysis.slices import Interval

#: Steps that the picture shows, as the published one does.
SHOWN = (0, 25, 50, 75, 100)


def latents_figure(latents: Latents, suggestion: Suggestion, threshold: float) -> bytes:
    """PSNR between the latents (after PartDiff Fig. 3) and the share of the missing detail, per step."""
    figure = new_figure(11, 4.4)
    left, right = figure.subplots(1, 2)
    t = np.arange(len(latents.g))
    _band(left, t, latents.same, BLUE, "same noise")
    _band(left, t, latents.independent, ORANGE, "independent noise")
    left.plot(t[1:], latents.noise_only[1:], ":", color=GREY, label="one image twice (expected)")
    left.set(ylim=(0, None), ylabel="PSNR between the latents (dB)")
    left.set_title(f"mean and 95% interval, {patients(latents.same.patients)}", fontsize=10)
    left.legend(frameon=False)
    for power in latents.patients.values():
        right.semilogy(t, shares(power, latents.g).max(axis=1), color=GREEN, lw=0.6, alpha=0.5)
    share = shares(latents.power, latents.g).max(axis=1)
    right.semilogy(t, share, color=GREEN, lw=2, label="largest band: mean; thin: each patient")
    right.axhline(threshold, color="black", lw=0.8, ls="--")
    right.annotate(f"threshold {threshold:.2g}", (1, threshold), va="bottom", fontsize=8)
    right.plot([suggestion.k], [share[suggestion.k]], "o", color="black")
    right.annotate(
        f" K = {suggestion.k} (g = {suggestion.g:.3f})",
        (suggestion.k, share[suggestion.k]),
        va="bottom",
    )
    right.set(ylim=(1e-6, 1.5), ylabel="share of the missing detail in the latent")
    right.legend(frameon=False, loc="lower left")
    for axes in (left, right):
        _steps_axis(axes, latents)
    return png(figure)


def _band(axes: Axes, t: np.ndarray, curve: Interval, colour: str, label: str) -> None:
    axes.plot(t, curve.mean, color=colour, lw=2, label=label)
    axes.fill_between(t, curve.low, curve.high, color=colour, alpha=0.25, lw=0)


def _steps_axis(axes: Axes, latents: Latents) -> None:
    """Steps below, noise scales above, and the published starts as lines."""
    last = len(latents.g) - 1
    axes.set(xlim=(0, last), xlabel="step t of the inference schedule")
    for k in PUBLISHED:
        axes.axvline(k, color=GREY, lw=0.7, alpha=0.6)
    above = axes.twiny()
    above.set(xlim=(0, last), xticks=SHOWN, xlabel="noise scale g")
    above.set_xticklabels([f"{latents.g[k]:.3g}" for k in SHOWN])


def latents_picture(latents: Latents, seed: int = 0) -> bytes:
    """One slice's latents (after PartDiff Fig. 2): x_HR above, x_LR below, noise drawn for each on its own.

    Both images of a column share one grey scale, which widens from -1..1 to two standard deviations of noise.
    """
    figure = new_figure(2.1 * len(SHOWN), 4.6)
    rows = figure.subplots(2, len(SHOWN))
    generator = seeded("cpu", seed)
    names = ("diffused $x_{HR}$", "diffused $x_{LR}$")
    for row, (panels, image) in enumerate(zip(rows, latents.example, strict=True)):
        for axes, t in zip(panels, SHOWN, strict=True):
            g = latents.g[t]
            noise = torch.randn(image.shape, generator=generator)
            shown = start_latent(image, image.new_tensor(g), noise)
            reach = g + 2 * np.sqrt(1 - g * g)
            axes.imshow(shown.numpy(), cmap="gray", vmin=-reach, vmax=reach)
            axes.set(xticks=(), yticks=())
            if row == 0:
                axes.set_title(f"t = {t}, g = {g:.3g}", fontsize=10)
        panels[0].set_ylabel(names[row])
    return png(figure, dpi=150)
