"""Pictures of the experiment as PNG: Dice against scale, slices with outlines (PartDiff's Fig. 14, 15)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mrisr.evaluation.case import ScoredResult
from mrisr.evaluation.experiment import Evaluation, Picture
from mrisr.evaluation.figures import add_legend, marks, png
from mrisr.evaluation.statistics import Row
from mrisr.evaluation.zones.case import ORIGINAL
from mrisr.zones.labels import TITLES, ZONES
from mrisr.zones.picture import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Methods in a picture unless the settings name them, and width of a panel in inches.
SHOWN, WIDTH = 6, 2.1
CHART = (
    "Mean over patients; whiskers are the 95% interval over patients, where there is more than one. Dashed: "
    "the image that was not restored."
)
OUTLINES = (
    "Outlines of the segmentation: peripheral zone orange, transition zone blue; of the labels: white. "
    "Below each method its Dice of PZ and TZ over the whole stack."
)


def pictures_of(evaluation: Evaluation) -> list[Picture]:
    """The charts, then every patient."""
    found = []
    for file, tail in (("dice", ""), ("dice-trained", " of patients that models were trained on")):
        rows = [row for row in evaluation.rows if row.seen == bool(tail)]
        if rows:
            title = f"Dice against scale{tail}"
            found.append(Picture(title, f"{title}. {CHART}", png(dice_chart(rows)), file))
    groups: dict[tuple[str, str], list[ScoredResult]] = {}
    for result in evaluation.results:
        groups.setdefault((result.case, result.series), []).append(result)
    named = evaluation.experiment.settings.pictures
    shown = named or [m.name for m in evaluation.methods][:SHOWN]
    for group, results in groups.items():
        title, file = ", ".join(group), re.sub(r"[^\w.+-]+", "-", "-".join(group))
        drawn = png(outlines(results, shown))
        found.append(Picture(title, f"{title}. {OUTLINES}", drawn, file))
    return found


def dice_chart(rows: Sequence[Row]) -> Figure:
    """Dice of each zone at every scale: a mark with whiskers for each method, a level for the original."""
    from matplotlib.figure import Figure

    scales = list(dict.fromkeys(r.scale for r in rows))
    methods = list(dict.fromkeys(r.method for r in rows if r.method not in ORIGINAL.values()))
    figure = Figure(figsize=(5.5 + 1.6 * len(scales), 4.4), layout="constrained")
    axes = figure.subplots(1, len(ZONES), sharey=True, squeeze=False)[0]
    for axis, zone in zip(axes, ZONES, strict=True):
        places: dict[str, list[tuple[float, float, float]]] = {m: [] for m in methods}
        for row in rows:
            mean, x = row.means.get(f"{zone}.dice"), scales.index(row.scale)
            if mean is not None and row.method in places:
                offset = 0.7 * ((methods.index(row.method) + 0.5) / len(methods) - 0.5)
                places[row.method].append((x + offset, mean.value, mean.half or 0.0))
            elif mean is not None:
                axis.hlines(mean.value, x - 0.45, x + 0.45, colors="0.2", linestyles="dashed")
        for (method, points), mark in zip(places.items(), marks(), strict=False):
            known = zip(*points, strict=True) if points else ((), (), ())
            axis.errorbar(*known, linestyle="none", capsize=2, label=method, **mark)
        axis.set_xticks(range(len(scales)), labels=[str(s) for s in scales])
        axis.set_title(f"{zone}, {TITLES[zone]}", fontsize=10)
        axis.grid(alpha=0.3, axis="y", linewidth=0.5)
    axes[0].set_ylabel("Dice against the labels")
    add_legend(figure)
    return figure


def outlines(results: Sequence[ScoredResult], methods: Sequence[str]) -> Figure:
    """One patient: a row for each scale, a column for the original and each method, each with the outlines
    of both segmentations."""
    from matplotlib.figure import Figure

    scales = list(dict.fromkeys(r.scale for r in results))
    by_place = {(r.scale, r.method): r.scored for r in results}
    size = (WIDTH * (len(methods) + 1), (WIDTH + 0.5) * len(scales))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(scales), len(methods) + 1, squeeze=False)
    for line, scale in zip(axes, scales, strict=True):
        for axis, method in zip(line, [ORIGINAL[scale.scoring], *methods], strict=True):
            axis.set(xticks=[], yticks=[], frame_on=False)
            scored = by_place.get((scale, method))
            if scored is None:
                axis.set_title(f"{method}\nnot scored", fontsize=8)
                continue
            image = scored.pictures["image"]
            axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            for zone, label in ZONES.items():
                lines = ("wanted", "white", 0.7), ("found", COLOURS[zone], 1.1)
                for name, colour, width in lines:
                    mask = scored.pictures[name] == label
                    if mask.any() and not mask.all():
                        axis.contour(mask, levels=[0.5], colors=[colour], linewidths=width)
            dice = " / ".join(f"{scored.figures[f'{zone}.dice']:.2f}" for zone in ZONES)
            axis.set_title(f"{method}\n{dice}", fontsize=8)
        line[0].set_ylabel(str(scale), fontsize=9)
    return figure
