"""Pictures of the experiment as PNG: Dice against scale, slices with outlines (PartDiff's Fig. 14, 15)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from mrisr.evaluation.case import Scale, ScoredResult
from mrisr.evaluation.experiment import Evaluation, Picture
from mrisr.evaluation.figures import png
from mrisr.evaluation.statistics import Row
from mrisr.evaluation.zones.score import ORIGINAL
from mrisr.zones.labels import TITLES, ZONES
from mrisr.zones.picture import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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
    for seen in (False, True):
        rows = [row for row in evaluation.rows if row.seen == seen]
        if rows:
            title = "Dice against scale" + (
                " of patients that models were trained on" if seen else ""
            )
            file = "dice-trained" if seen else "dice"
            found.append(Picture(title, f"{title}. {CHART}", png(dice_chart(rows)), file))
    groups: dict[tuple[str, str], list[ScoredResult]] = {}
    for result in evaluation.results:
        groups.setdefault((result.case, result.series), []).append(result)
    shown = shown_methods(evaluation)
    for group, results in groups.items():
        title, file = ", ".join(group), re.sub(r"[^\w.+-]+", "-", "-".join(group))
        drawn = png(outlines(results, shown))
        found.append(Picture(title, f"{title}. {OUTLINES}", drawn, file))
    return found


def shown_methods(evaluation: Evaluation) -> list[str]:
    """The methods of the pictures: those of the settings, or the first ones."""
    return list(evaluation.settings.pictures or [m.name for m in evaluation.methods][:SHOWN])


def dice_chart(rows: Sequence[Row]) -> Figure:
    """Dice of each zone at every scale: a mark with whiskers for each method, a level for the original."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    scales = list(dict.fromkeys(r.scale for r in rows))
    methods = list(dict.fromkeys(r.method for r in rows if r.method not in ORIGINAL.values()))
    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    figure = Figure(figsize=(5.5 + 1.6 * len(scales), 4.4), layout="constrained")
    axes = figure.subplots(1, len(ZONES), sharey=True, squeeze=False)[0]
    for axis, zone in zip(axes, ZONES, strict=True):
        for k, method in enumerate(methods):
            offset = 0.7 * ((k + 0.5) / len(methods) - 0.5)
            mine = {r.scale: r.means.get(f"{zone}.dice") for r in rows if r.method == method}
            known = [(scales.index(s) + offset, m) for s, m in mine.items() if m is not None]
            axis.errorbar(
                [x for x, _ in known],
                [m.value for _, m in known],
                yerr=[m.half or 0.0 for _, m in known],
                color=colours[(2 * k) % 20 + (k // 10) % 2],
                marker="os^Dvp<>*hX"[k % 11],
                linestyle="none",
                capsize=2,
                label=method,
            )
        _draw_ceilings(axis, rows, scales, zone)
        axis.set_xticks(range(len(scales)), labels=[str(s) for s in scales])
        axis.set_title(f"{zone}, {TITLES[zone]}", fontsize=10)
        axis.grid(alpha=0.3, axis="y", linewidth=0.5)
    axes[0].set_ylabel("Dice against the labels")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    return figure


def _draw_ceilings(axis: Axes, rows: Sequence[Row], scales: Sequence[Scale], zone: str) -> None:
    for row in rows:
        mean = row.means.get(f"{zone}.dice")
        if row.method in ORIGINAL.values() and mean is not None:
            x = scales.index(row.scale)
            axis.hlines(mean.value, x - 0.45, x + 0.45, colors="0.2", linestyles="dashed")


def outlines(results: Sequence[ScoredResult], methods: Sequence[str]) -> Figure:
    """One patient: a row for each scale, a column for the original and each method."""
    from matplotlib.figure import Figure

    scales = list(dict.fromkeys(r.scale for r in results))
    by_place = {(r.scale, r.method): r for r in results}
    size = (WIDTH * (len(methods) + 1), (WIDTH + 0.5) * len(scales))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(scales), len(methods) + 1, squeeze=False)
    for line, scale in zip(axes, scales, strict=True):
        for axis, method in zip(line, [ORIGINAL[scale.scoring], *methods], strict=True):
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_frame_on(False)
            result = by_place.get((scale, method))
            if result is None:
                axis.set_title(f"{method}\nnot scored", fontsize=8)
                continue
            draw_outlined(axis, result.scored.pictures)
            dice = [result.scored.figures[f"{zone}.dice"] for zone in ZONES]
            axis.set_title(f"{method}\n{' / '.join(f'{d:.2f}' for d in dice)}", fontsize=8)
        line[0].set_ylabel(str(scale), fontsize=9)
    return figure


def draw_outlined(axis: Axes, picture: Mapping[str, NDArray[Any]]) -> None:
    """An image with the outlines of both segmentations."""
    axis.imshow(picture["image"], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    for zone, label in ZONES.items():
        for name, colour, width in (("wanted", "white", 0.7), ("found", COLOURS[zone], 1.1)):
            mask = picture[name] == label
            if mask.any() and not mask.all():
                axis.contour(mask, levels=[0.5], colors=[colour], linewidths=width)
