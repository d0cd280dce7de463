"""The figure of ``mrisr analyze steps``."""

from __future__ import annotations

from collections.abc import Sequence

from mrisr.analysis.figures import BLUE, GREY, new_figure, png
from mrisr.analysis.output import patients
from mrisr.analysis.steps import Quality, Setting

TITLES = {
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "spectrum": "spectrum error (dB)",
    "win_rate": "preferred (share)",
}


def steps_figure(settings: Sequence[Setting], found: Quality) -> bytes:
    """Each figure against the steps: mean over patients, thin lines for each, interpolation as a line."""
    figure = new_figure(12, 3.4)
    sampled = [i for i, s in enumerate(settings) if s.steps > 0]
    steps = [settings[i].steps for i in sampled]
    for number, (axes, (name, title)) in enumerate(
        zip(figure.subplots(1, len(TITLES)), TITLES.items(), strict=True)
    ):
        interval = getattr(found, name)
        for figures in found.patients.values():
            axes.plot(steps, figures[number][sampled], color=BLUE, lw=0.7, alpha=0.5)
        axes.plot(steps, interval.mean[sampled], "o-", color=BLUE, lw=2, ms=4)
        for i in set(range(len(settings))) - set(sampled):
            axes.axhline(interval.mean[i], ls="--", color=GREY, lw=1)
            axes.annotate(
                settings[i].name, (steps[0], interval.mean[i]), va="bottom", color=GREY, fontsize=8
            )
        axes.set(xscale="log", xlabel="steps", title=title)
        axes.set_xticks(steps, [str(s) for s in steps])
        axes.minorticks_off()
        if name == "win_rate":
            axes.set_ylim(0, 1)
        axes.margins(y=0.15)
    figure.suptitle(f"mean over {patients(found.psnr.patients)}; thin: each patient", fontsize=10)
    return png(figure)
