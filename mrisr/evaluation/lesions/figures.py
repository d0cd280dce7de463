"""Pictures of the experiment: what is left of lesions against their size and contrast, and lesions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mrisr.evaluation.case import ORIGINAL, ScoredResult
from mrisr.evaluation.experiment import Evaluation, Picture
from mrisr.evaluation.figures import add_legend, marks
from mrisr.evaluation.settings import LesionsSettings
from mrisr.evaluation.statistics import Row
from mrisr.view.pages import new_figure, png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Side of a panel, inches.
SQUARE = 1.5
CHART = "Mean over patients; whiskers are the 95% interval, where there is more than one patient."
WINDOWS = (
    "One lesion of {diameter:g} mm for each contrast: above without it, below with it, by every method. All "
    "panels of a patient have the same grey scale."
)


def pictures_of(done: Evaluation, settings: LesionsSettings) -> list[Picture]:
    """For each scale the chart, then the lesions of every patient."""
    found = []
    for scale in done.scales:
        title = f"What is left of lesions, {scale}"
        drawn = png(chart(done.at(scale), settings))
        found.append(Picture(title, f"{title}. {CHART}", drawn, f"lesions-{scale}"))
        results = [r for r in done.results if r.scale == scale]
        shown = settings.pictures or [m.name for m in done.methods]
        for case in dict.fromkeys(r.case for r in results):
            title, file = f"Lesions of {case}, {scale}", re.sub(r"[^\w.+-]+", "-", case)
            own = [
                r for r in results if r.case == case and r.method in {*shown, *ORIGINAL.values()}
            ]
            text = f"{title}. {WINDOWS.format(diameter=settings.shown)}"
            found.append(Picture(title, text, png(windows(own)), f"{file}-{scale}"))
    return found


def chart(rows: Sequence[Row], settings: LesionsSettings) -> Figure:
    """Contrast kept and area under the ROC curve against diameter and contrast, a line for each method."""
    figure = new_figure(11, 6)
    axes = figure.subplots(2, 2, sharey="row", sharex="col")
    across = (
        {d: f"{d:g} mm" for d in sorted(settings.diameters)},
        {100 * c: f"{c:.0%}" for c in sorted(settings.contrasts)},
    )
    for line, (kind, title) in zip(
        axes, {"recovery": "contrast kept", "auc": "AUC"}.items(), strict=True
    ):
        for axis, named in zip(line, across, strict=True):
            for row, mark in zip(rows, marks(), strict=False):
                means = {x: row.means.get(f"{kind}.{name}") for x, name in named.items()}
                points = [(x, m.value, m.half or 0.0) for x, m in means.items() if m is not None]
                if points:
                    x, y, half = zip(*points, strict=True)
                    axis.errorbar(x, y, half, capsize=2, lw=1, label=row.method, **mark)
            axis.grid(alpha=0.3, linewidth=0.5)
        line[0].set_ylabel(title)
        top = max(
            (m.value for r in rows for n, m in r.means.items() if n.startswith(kind)), default=1
        )
        line[0].set_ylim(
            min(0.4, 0.4 * top), 1.15 * top
        )  # whiskers of two patients leave the panel
    axes[1][0].set_xlabel("diameter, mm")
    axes[1][1].set_xlabel("contrast, %")
    add_legend(figure)
    return figure


def windows(results: Sequence[ScoredResult]) -> Figure:
    """A row of lesions for each method, a column for each contrast, without the lesion above it."""
    names = sorted(results[0].scored.pictures, key=lambda k: float(k.rstrip("%")))
    figure = new_figure(SQUARE * (len(names) + 0.8), 2 * SQUARE * len(results))
    axes = figure.subplots(2 * len(results), max(len(names), 1), squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], frame_on=False)
    for k, result in enumerate(results):
        for column, name in enumerate(names):
            for row, image in enumerate(result.scored.pictures[name]):
                axes[2 * k + row, column].imshow(image, cmap="gray", vmin=0, vmax=1)
            axes[0, column].set_title(name, fontsize=9)
        axes[2 * k + 1, 0].set_ylabel(result.method, fontsize=8)
    return figure
