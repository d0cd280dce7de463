"""The figure and the picture of ``mrisr analyze latents``."""

from __future__ import annotations

import numpy as np
import torch

from mrisr.analysis.latents import PUBLISHED, Latents, Suggestion, shares
from mrisr.analysis.output import BLUE, GREEN, GREY, ORANGE, new_figure, patients, png
from mrisr.core.random import seeded
from mrisr.diffusion.samplers import start_latent

#: Steps that the picture shows, as the published one does.
SHOWN = (0, 25, 50, 75, 100)


def latents_figure(latents: Latents, suggestion: Suggestion, threshold: float) -> bytes:
    """PSNR between the latents (after PartDiff Fig. 3) and the share of the missing detail, per step."""
    figure = new_figure(11, 4.4)
    left, right = figure.subplots(1, 2)
    t, last = np.arange(len(latents.g)), len(latents.g) - 1
    curves = (latents.same, BLUE, "same noise"), (latents.independent, ORANGE, "independent noise")
    for curve, colour, label in curves:
        left.plot(t, curve.mean, color=colour, lw=2, label=label)
        left.fill_between(t, curve.low, curve.high, color=colour, alpha=0.25, lw=0)
    left.plot(t[1:], latents.noise_only[1:], ":", color=GREY, label="one image twice (expected)")
    left.set(ylim=(0, None), ylabel="PSNR between the latents (dB)")
    left.set_title(f"mean and 95% interval, {patients(latents.same.n)}", fontsize=10)
    left.legend(frameon=False)
    for power in latents.patients.values():
        right.semilogy(t, shares(power, latents.g).max(axis=1), color=GREEN, lw=0.6, alpha=0.5)
    share = shares(latents.power, latents.g).max(axis=1)
    right.semilogy(t, share, color=GREEN, lw=2, label="largest band: mean; thin: each patient")
    right.axhline(threshold, color="black", lw=0.8, ls="--")
    right.annotate(f"threshold {threshold:.2g}", (1, threshold), va="bottom", fontsize=8)
    k = suggestion.k
    right.plot([k], [share[k]], "o", color="black")
    right.annotate(f" K = {k} (g = {suggestion.g:.3f})", (k, share[k]), va="bottom")
    right.set(ylim=(1e-6, 1.5), ylabel="share of the missing detail in the latent")
    right.legend(frameon=False, loc="lower left")
    for axes in (
        left,
        right,
    ):  # steps below, signal levels above, and the published starts as lines
        axes.set(xlim=(0, last), xlabel="step t of the inference schedule")
        for start in PUBLISHED:
            axes.axvline(start, color=GREY, lw=0.7, alpha=0.6)
        above = axes.twiny()
        above.set(xlim=(0, last), xticks=SHOWN, xlabel="signal level g")
        above.set_xticklabels([f"{latents.g[s]:.3g}" for s in SHOWN])
    return png(figure)


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
