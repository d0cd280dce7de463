"""Distributions of figures over the studies of a batch, drawn as SVG in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mrisr.batch.report.page import fill

#: Colour of what is not the result of anything.
GREY = "var(--soft)"
#: Studies from which on quartiles are drawn.
_QUARTILES_FROM = 5
#: Sizes in pixels: a column, the axis beside the columns, the plot, the room above it, and a line of text.
COLUMN, AXIS, HEIGHT, HEAD, LINE = 89, 62, 180, 26, 14


class Group(NamedTuple):
    """Values that stand above one name."""

    name: str
    values: Sequence[float]
    colour: str = GREY


class Chart(NamedTuple):
    """Groups over one axis: a title, the axis with its unit, its limits if they are fixed."""

    title: str
    axis: str
    groups: Sequence[Group]
    limits: tuple[float | None, float | None] = (None, None)
    logarithmic: bool = False


class Column(NamedTuple):
    """A group as it is drawn, in pixels; ``box`` are the upper and the lower quartile."""

    colour: str
    middle: float
    dots: str
    width: float
    median: float
    box: tuple[float, float] | None
    lines: list[str]


def draw(chart: Chart) -> str:
    """A chart as one ``<svg>``, the same text for the same values."""
    low, high, ticks = _axis(chart)

    def row(value: float) -> float:
        scaled = math.log10(value) if chart.logarithmic else value
        return round(HEAD + HEIGHT * (high - scaled) / (high - low), 1)

    columns = []
    for number, group in enumerate(g for g in chart.groups if g.values):
        middle, count = AXIS + COLUMN * (number + 0.5), len(group.values)
        shifts = np.random.default_rng(0).uniform(-0.16, 0.16, count) * COLUMN * (count > 1)
        rows = [row(value) for value in group.values]
        dots = "".join(f"M{middle + x:.1f} {y}h.01" for x, y in zip(shifts, rows, strict=True))
        box = np.percentile(rows, (25, 75)) if count >= _QUARTILES_FROM else None
        columns.append(
            Column(
                group.colour,
                middle,
                dots,
                5.2 if count <= 100 else 2.9,
                float(np.median(rows)),
                None if box is None else (float(box[0]), float(box[1])),
                [*group.name.split(" "), f"n = {count}"],
            )
        )
    return fill(
        "chart.svg",
        chart=chart,
        columns=columns,
        ticks=[(f"{tick:g}", row(tick)) for tick in ticks],
        left=AXIS,
        right=AXIS + COLUMN * max(2, len(columns)),
        top=HEAD,
        bottom=HEAD + HEIGHT,
        height=HEAD + HEIGHT + LINE * (1 + max(len(column.lines) for column in columns)),
        line=LINE,
        half=COLUMN * 0.31,
    ).strip()


def _axis(chart: Chart) -> tuple[float, float, list[float]]:
    """Lower and upper end of the axis, as logarithms where it is logarithmic, and the values of its ticks."""
    values = [value for group in chart.groups for value in group.values]
    if chart.logarithmic:
        start, end = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        end = max(end, start + 1)
        return start, end, [10.0**power for power in range(start, end + 1)]
    ends = min(values), max(values)
    low, high = (
        end if given is None else given for end, given in zip(ends, chart.limits, strict=True)
    )
    room = 0.05 * (high - low) or 0.5 * abs(high) or 1.0
    low = low - room if chart.limits[0] is None else low
    high = high + room if chart.limits[1] is None else high
    about = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(about))
    step = next(size * nice for nice in (1, 2, 5, 10) if size * nice >= about)
    return (
        low,
        high,
        [step * n for n in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)],
    )
