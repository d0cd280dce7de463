"""Pictures of an evaluation as PNG: zoomed slices with their errors, and error against steps."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mrisr.evaluation.case import METRICS, Scale, ScoredResult
from mrisr.evaluation.experiment import Evaluation
from mrisr.evaluation.methods import Method
from mrisr.evaluation.statistics import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours of the difference maps span plus and minus this share of the intensity range.
DIFFERENCE = 0.2
#: Methods in a picture unless the settings name them, and panels in a row.
SHOWN, ACROSS = 7, 4
#: Evaluations that are marked on the axis.
TICKS = (1, 2, 5, 10, 20, 50, 100)
#: Width of a panel in inches.
WIDTH = 2.45


def png(figure: Figure) -> bytes:
    """A figure as PNG, the same bytes for the same figure."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()


def stacks(evaluation: Evaluation, scale: Scale) -> dict[str, list[ScoredResult]]:
    """Patient and series -> their results at one scale whose picture has the size of the first one's."""
    found: dict[str, list[ScoredResult]] = {}
    for r in evaluation.results:
        if r.scale != scale:
            continue
        group = found.setdefault(f"{r.case}, {r.series}", [])
        if not group or r.scored.pictures["result"].shape == _reference(group).shape:
            group.append(r)
    return found


def _reference(results: Sequence[ScoredResult]) -> NDArray[np.float32]:
    return results[0].scored.pictures["reference"]


def shown_methods(evaluation: Evaluation) -> list[str]:
    """The methods of the pictures: those of the settings, or the baseline, the reference and the best in
    PSNR."""
    experiment = evaluation.experiment
    if experiment.settings.pictures:
        return list(experiment.settings.pictures)
    ranked = sorted(evaluation.at(evaluation.scales[-1]), key=lambda r: -r.means["psnr"].value)
    first = [n for n in (experiment.baseline, experiment.reference) if n is not None]
    return list(dict.fromkeys([*first, *(r.method for r in ranked)]))[:SHOWN]


def comparison(evaluation: Evaluation, results: Sequence[ScoredResult]) -> Figure:
    """One slice of a stack at one factor by each shown method, what it is compared with first, and below
    each the difference from that."""
    from matplotlib.figure import Figure

    by_name = {r.method: r for r in results}
    names = [n for n in shown_methods(evaluation) if n in by_name]
    truth = _reference(results)
    # The picture's aspect decides the height of a panel; all panels of a stack have the same.
    bands = -(-(len(names) + 1) // ACROSS)
    height = WIDTH * truth.shape[0] / truth.shape[1]
    size = (WIDTH * ACROSS + 1.1, bands * (2 * height + 0.65))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(2 * bands, ACROSS, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    limits = (float(truth.min()), max(float(np.percentile(truth, 99.8)), float(truth.min()) + 1e-3))
    title = "reference" if results[0].scale.scoring == "degraded" else "other scan"
    _show(axes[0, 0], truth, title, limits)
    map_ = None
    for k, name in enumerate(names, start=1):
        image = by_name[name].scored.pictures["result"]
        top, column = 2 * (k // ACROSS), k % ACROSS
        _show(axes[top, column], image, f"{name}\n{_figures_of(by_name[name])}", limits)
        difference = image - truth
        map_ = axes[top + 1, column].imshow(
            difference, cmap="RdBu_r", vmin=-DIFFERENCE, vmax=DIFFERENCE, interpolation="nearest"
        )
    if map_ is not None:
        label = "difference, share of the intensity range"
        figure.colorbar(map_, ax=axes, location="right", shrink=0.5, aspect=40, label=label)
    return figure


def _figures_of(result: ScoredResult) -> str:
    means = result.scored.means()
    return f"{means['psnr']:.2f} dB, spectrum {means.get('spectrum', float('nan')):.2f} dB"


def _show(axis: Axes, image: NDArray[np.float32], title: str, limits: tuple[float, float]) -> None:
    axis.imshow(image, cmap="gray", vmin=limits[0], vmax=limits[1], interpolation="nearest")
    axis.set_title(title, fontsize=8.5)


def against_steps(evaluation: Evaluation, scale: Scale) -> Figure:
    """PSNR and spectrum error against evaluations of the network: a line for each model that is sampled
    with several numbers of steps, a mark for each other method, a level for each interpolation."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    rows = {row.method: row for row in evaluation.at(scale)}
    lines = _lines([m for m in evaluation.methods if m.name in rows])
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, metric in zip(axes, ("psnr", "spectrum"), strict=True):
        _draw_lines(axis, metric, lines, rows)
        axis.set_xscale("log")
        axis.set_xticks(TICKS, labels=[str(t) for t in TICKS])
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlim(0.8, 130)
        axis.set_xlabel("evaluations of the network per slice")
        axis.set_ylabel(METRICS[metric].title)
        axis.grid(alpha=0.3, which="both", linewidth=0.5)
    axes[0].set_title(f"{scale}: higher is better", fontsize=10)
    axes[1].set_title(f"{scale}: lower is better", fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    return figure


def _lines(methods: Sequence[Method]) -> dict[str, list[Method]]:
    """Label -> methods that differ in their steps alone, by rising evaluations."""
    groups: dict[tuple[object, ...], list[Method]] = {}
    for m in methods:
        if m.model is not None:
            entry = m.entry
            alike = (entry.model, entry.eta or 0.0, entry.sampler, entry.consistency)
            key = (*alike, entry.start, entry.seed) if m.evaluations else (m.name,)
            groups.setdefault(key, []).append(m)
    found = {}
    for group in groups.values():
        group.sort(key=lambda m: m.evaluations)
        label, entry = group[0].name, group[0].entry
        if len(group) > 1:
            label = f"{group[0].restorer.card.name}, "
            label += f"eta {entry.eta:g}" if entry.eta else "deterministic"
            label += ", published sampler" if entry.sampler == "published" else ""
        while label in found:
            label += " "
        found[label] = group
    return found


def _draw_lines(
    axis: Axes, metric: str, lines: dict[str, list[Method]], rows: dict[str, Row]
) -> None:
    from matplotlib import colormaps

    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    marks = "os^Dvp<>*hX"
    styles = ((0, (5, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1)), (0, (10, 3)), (0, (3, 1, 1, 1, 1, 1)))
    level = 0
    for k, (label, group) in enumerate(lines.items()):
        points = [(m.evaluations, rows[m.name].means.get(metric)) for m in group]
        known = [(x, mean.value) for x, mean in points if mean is not None]
        if not known:
            continue
        if group[0].evaluations == 0:
            style = styles[level % len(styles)]
            level += 1
            axis.axhline(known[0][1], color="0.45", linewidth=1, linestyle=style, label=label)
            continue
        x, y = zip(*known, strict=True)
        colour = colours[(2 * k) % 20 + (k // 10) % 2]
        (line,) = axis.plot(x, y, color=colour, marker=marks[k % len(marks)], label=label)
        line.set_markersize(5)
        line.set_linestyle("-" if len(x) > 1 else "none")
