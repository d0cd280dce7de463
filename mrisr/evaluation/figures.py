"""Pictures of the evaluations as PNG: zoomed slices with their errors, and error against steps; Dice against
scale, and slices with outlines (PartDiff's Fig. 14, 15)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from mrisr.evaluation.case import METRICS, ORIGINAL, Scale, ScoredResult
from mrisr.evaluation.experiment import Evaluation, Picture
from mrisr.evaluation.methods import Method
from mrisr.evaluation.statistics import Row
from mrisr.view.pages import new_figure, png
from mrisr.zones.labels import TITLES, ZONES
from mrisr.zones.picture import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Colours of the difference maps span plus and minus this share of the intensity range.
DIFFERENCE = 0.2
#: Methods in a picture unless the settings name them, without and with outlines, and panels in a row.
SHOWN, OUTLINED, ACROSS = 7, 6, 4
#: Evaluations that are marked on the axis.
TICKS = (1, 2, 5, 10, 20, 50, 100)
#: Width of a panel in inches, and of one with outlines.
WIDTH, SQUARE = 2.45, 2.1
CHART = (
    "Mean over patients; whiskers are the 95% interval over patients, where there is more than one. Dashed: "
    "the image that was not restored."
)
OUTLINES = (
    "Outlines of the segmentation: peripheral zone orange, transition zone blue; of the labels: white. "
    "Below each method its Dice of PZ and TZ over the whole stack."
)
_DASHES = ((0, (5, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1)), (0, (10, 3)), (0, (3, 1, 1, 1, 1, 1)))


def marks() -> Iterator[dict[str, Any]]:
    """Colour and mark of each method of a chart, without end."""
    from matplotlib import colormaps

    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    pairs = zip(cycle([*colours[::2], *colours[1::2]]), cycle("os^Dvp<>*hX"), strict=False)
    return ({"color": colour, "marker": mark} for colour, mark in pairs)


def add_legend(figure: Figure) -> None:
    """Name the methods of a chart beside its panels."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)


def stacks(evaluation: Evaluation, scale: Scale) -> dict[str, list[ScoredResult]]:
    """Patient and series -> their results at one scale whose picture has the size of the first one's."""
    found: dict[str, list[ScoredResult]] = {}
    for r in (r for r in evaluation.results if r.scale == scale):
        group = found.setdefault(f"{r.case}, {r.series}", [r])
        pictures = r.scored.pictures["result"], group[0].scored.pictures["reference"]
        if group[0] is not r and pictures[0].shape == pictures[1].shape:
            group.append(r)
    return found


def shown_methods(evaluation: Evaluation) -> list[str]:
    """The methods of the pictures: those of the settings, or the baseline, the reference and the best in
    PSNR."""
    experiment = evaluation.experiment
    if experiment.settings.pictures:
        return list(experiment.settings.pictures)
    rows = [r for r in evaluation.at(evaluation.scales[-1]) if "psnr" in r.means]
    ranked = sorted(rows, key=lambda r: -r.means["psnr"].value) or evaluation.at(
        evaluation.scales[-1]
    )
    first = [n for n in (experiment.baseline, experiment.reference) if n is not None]
    return list(dict.fromkeys([*first, *(r.method for r in ranked)]))[:SHOWN]


def comparison(evaluation: Evaluation, results: Sequence[ScoredResult]) -> Figure:
    """One slice of a stack at one factor by each shown method, what it is compared with first, and below
    each the difference from that."""
    by_name = {r.method: r.scored for r in results}
    names = [n for n in shown_methods(evaluation) if n in by_name]
    truth = results[0].scored.pictures["reference"]
    # The picture's aspect decides the height of a panel; all panels of a stack have the same.
    bands = math.ceil((len(names) + 1) / ACROSS)
    height = WIDTH * truth.shape[0] / truth.shape[1]
    figure = new_figure(WIDTH * ACROSS + 1.1, bands * (2 * height + 0.65))
    axes = figure.subplots(2 * bands, ACROSS, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    low = float(truth.min())
    grey = {"cmap": "gray", "vmin": low, "vmax": max(np.percentile(truth, 99.8), low + 1e-3)}
    titles = {"degraded": "reference", "measured": "interpolated", "reference": "other scan"}
    title = titles[results[0].scale.scoring]
    axes[0, 0].imshow(truth, interpolation="nearest", **grey)
    axes[0, 0].set_title(title, fontsize=8.5)
    signed = {"cmap": "RdBu_r", "vmin": -DIFFERENCE, "vmax": DIFFERENCE}
    map_ = None
    for k, name in enumerate(names, start=1):
        image, means = by_name[name].pictures["result"], by_name[name].means()
        upper, lower = axes[2 * (k // ACROSS) :, k % ACROSS][:2]
        upper.imshow(image, interpolation="nearest", **grey)
        told = f"noise {means.get('noise', math.nan):.2f} of the scan's"
        if "psnr" in means:
            told = f"{means['psnr']:.2f} dB, spectrum {means.get('spectrum', math.nan):.2f} dB"
        upper.set_title(f"{name}\n{told}", fontsize=8.5)
        map_ = lower.imshow(image - truth, interpolation="nearest", **signed)
    if map_ is not None:
        label = "difference, share of the intensity range"
        figure.colorbar(map_, ax=axes, location="right", shrink=0.5, aspect=40, label=label)
    return figure


def against_steps(evaluation: Evaluation, scale: Scale) -> Figure:
    """PSNR and spectrum error against evaluations of the network: a line for each model that is sampled
    with several numbers of steps, a mark for each other method, a level for each interpolation."""
    from matplotlib.ticker import NullFormatter

    rows = {row.method: row for row in evaluation.at(scale)}
    lines = _lines([m for m in evaluation.methods if m.name in rows])
    figure = new_figure(11, 4.6)
    better = {"psnr": "higher", "spectrum": "lower"}
    for axis, metric in zip(figure.subplots(1, 2), better, strict=True):
        dashes = cycle(_DASHES)
        for (label, group), mark in zip(lines.items(), marks(), strict=False):
            points = [(m.evaluations, rows[m.name].means.get(metric)) for m in group]
            known = [(x, mean.value) for x, mean in points if mean is not None]
            if known and not group[0].evaluations:
                axis.axhline(known[0][1], label=label, color="0.45", lw=1, ls=next(dashes))
            elif known:
                join = "-" if len(known) > 1 else "none"
                axis.plot(
                    *zip(*known, strict=True), markersize=5, linestyle=join, label=label, **mark
                )
        axis.set_xscale("log")
        axis.set_xticks(TICKS, labels=[str(t) for t in TICKS])
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlim(0.8, 130)
        axis.set_xlabel("evaluations of the network per slice")
        axis.set_ylabel(METRICS[metric].title)
        axis.grid(alpha=0.3, which="both", linewidth=0.5)
        axis.set_title(f"{scale}: {better[metric]} is better", fontsize=10)
    add_legend(figure)
    return figure


def _lines(methods: Sequence[Method]) -> dict[str, list[Method]]:
    """Label -> methods that differ in their steps alone, by rising evaluations."""
    models = {m.entry.model: m.model.card.name for m in methods if m.model is not None}
    groups: dict[tuple[object, ...], list[Method]] = {}
    for m in (m for m in methods if m.model is not None):
        entry = m.entry
        alike = (entry.model, entry.eta or 0.0, entry.sampler, entry.consistency)
        key = (*alike, entry.start, entry.seed) if m.evaluations else (m.name,)
        groups.setdefault(key, []).append(m)
    found = {}
    for group in groups.values():
        group.sort(key=lambda m: m.evaluations)
        label, entry = group[0].name, group[0].entry
        if len(group) > 1:
            label = f"{models[entry.model]}, "
            label += f"eta {entry.eta:g}" if entry.eta else "deterministic"
            label += ", published sampler" if entry.sampler == "published" else ""
        while label in found:
            label += " "
        found[label] = group
    return found


# --- zones ----------------------------------------------------------------------------------------


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
    shown = named or [m.name for m in evaluation.methods][:OUTLINED]
    for group, results in groups.items():
        title, file = ", ".join(group), re.sub(r"[^\w.+-]+", "-", "-".join(group))
        drawn = png(outlines(results, shown))
        found.append(Picture(title, f"{title}. {OUTLINES}", drawn, file))
    return found


def dice_chart(rows: Sequence[Row]) -> Figure:
    """Dice of each zone at every scale: a mark with whiskers for each method, a level for the original."""
    scales = list(dict.fromkeys(r.scale for r in rows))
    methods = list(dict.fromkeys(r.method for r in rows if r.method not in ORIGINAL.values()))
    figure = new_figure(5.5 + 1.6 * len(scales), 4.4)
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
    scales = list(dict.fromkeys(r.scale for r in results))
    by_place = {(r.scale, r.method): r.scored for r in results}
    figure = new_figure(SQUARE * (len(methods) + 1), (SQUARE + 0.5) * len(scales))
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
