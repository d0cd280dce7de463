"""How figures are spread over the studies of a batch, drawn as SVG in the colours of the page."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours that matplotlib draws in, and those of the style that take their place.
_INK, _SOFT, _LINE, _PAPER = "#010203", "#010204", "#010205", "#010206"
_STYLE = {_INK: "var(--ink)", _SOFT: "var(--soft)", _LINE: "var(--line)", _PAPER: "var(--paper)"}
_FONT: dict[Any, Any] = {
    "font.size": 9,
    "svg.fonttype": "none",
    "axes.edgecolor": _LINE,
    "text.color": _INK,
}
#: Studies from which on quartiles are drawn.
_QUARTILES_FROM = 5
_SPREAD = 0.16
#: Pixels of the page for a point of the figure.
_ZOOM = 1.3
#: Of volumes that are not the result of anything.
GREY = _SOFT


class Group(NamedTuple):
    """Values that stand above one name."""

    name: str
    values: Sequence[float]
    colour: str = _SOFT


class Chart(NamedTuple):
    """Groups over one axis: a title, the axis with its unit, its limits if they are fixed."""

    title: str
    axis: str
    groups: Sequence[Group]
    limits: tuple[float | None, float | None] = (None, None)
    logarithmic: bool = False


def draw(chart: Chart, salt: str) -> str:
    """A chart as one ``<svg>``, the same text for the same values.

    Args:
        salt: tells the figure from others on the same page.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context({**_FONT, "svg.hashsalt": salt}):
        figure = Figure(figsize=(1.0 + 0.95 * max(2, len(chart.groups)), 2.6), layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_alpha(0)
        _plot(figure.subplots(), chart)
        out = io.StringIO()
        nothing: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(out, format="svg", metadata=nothing)
    return _cleaned(out.getvalue())


def _plot(axis: Axes, chart: Chart) -> None:
    axis.set_facecolor("none")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.tick_params(color=_LINE, labelcolor=_INK)
    axis.grid(axis="y", color=_LINE, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.set_title(chart.title, color=_INK, fontsize=9.5)
    axis.set_ylabel(chart.axis, color=_SOFT)
    if chart.logarithmic:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.yaxis.set_minor_formatter(lambda *_: "")
    for x, group in enumerate(chart.groups):
        _points(axis, x, group)
    axis.set_xlim(-0.5, len(chart.groups) - 0.5)
    axis.set_ylim(*chart.limits)
    axis.set_xticks(range(len(chart.groups)), [_broken(g) for g in chart.groups])


def _points(axis: Axes, x: int, group: Group) -> None:
    """One dot for each study, the median, and the quartiles where there are enough."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    values = np.asarray(group.values, dtype=np.float64)
    if not values.size:
        return
    if values.size >= _QUARTILES_FROM:
        low, high = np.percentile(values, (25, 75))
        axis.bar(x, high - low, 0.62, low, color=group.colour, alpha=0.18, edgecolor=group.colour)
    # All dots are one path of strokes without length, which keeps a page of many studies small.
    at = x + np.random.default_rng(0).uniform(-_SPREAD, _SPREAD, values.size) * (values.size > 1)
    ends = np.repeat(np.stack([at, values], axis=1), 2, axis=0)
    ends[1::2, 0] += 1e-4
    dots = Path(ends, np.tile([Path.MOVETO, Path.LINETO], values.size))
    dots.should_simplify = False
    width = 4.0 if values.size <= 100 else 2.2
    patch = PathPatch(dots, facecolor="none", edgecolor=group.colour, linewidth=width)
    patch.set_capstyle("round")
    axis.add_patch(patch)
    median = float(np.median(values))
    axis.plot([x - 0.31, x + 0.31], [median, median], color=_INK, linewidth=1.6)
    axis.update_datalim(ends)
    axis.autoscale_view()


def _broken(group: Group) -> str:
    """A name that fits below its column, and how many studies there are."""
    return "\n".join([*group.name.split(" "), f"n = {len(group.values)}"])


def _cleaned(svg: str) -> str:
    """The element alone: colours of the style, the page's font, no addresses and no names but those used."""
    text = svg[svg.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\s(?:xmlns(?::\w+)?|version|id)="(?![pm][0-9a-f]{10})[^"]*"', "", text)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="([\d.]+)pt"', _width, text, count=1)
    text = re.sub(r"font:\s*([\d.]+px)[^;\"]*", r"font-size: \1", text)
    text = re.sub(r"font-family:[^;\"]*;?", "", text)
    for drawn, style in _STYLE.items():
        text = text.replace(drawn, style)
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def _width(found: re.Match[str]) -> str:
    """A width for the screen, on which a point of the figure is small."""
    return f'{found[1]} style="width: {_ZOOM * float(found[2]):.0f}px"'
