"""Distributions of figures over the studies of a batch, as ``chart.svg`` draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

#: Colour of what is not the result of anything.
GREY = "var(--soft)"
#: Studies from which on quartiles are drawn.
_QUARTILES_FROM = 5
#: Sizes in pixels: a column, the axis beside the columns, the plot, the room above it, and a line of text.
COLUMN, AXIS, HEIGHT, HEAD, LINE = 89, 62, 180, 26, 14


def chart(
    title: str,
    axis: str,
    caption: str,
    groups: Mapping[str, Sequence[float]],
    colours: Mapping[str, str] | None = None,
    limits: tuple[float | None, float | None] = (None, None),
    logarithmic: bool = False,
) -> dict[str, Any]:
    """A chart of groups of values over one axis; empty where there are none.

    Args:
        axis: what it shows, with its unit.
        groups: name -> values; those without any are left out.
        colours: of groups that are not grey.
        limits: of the axis, as far as they are fixed.
    """
    groups = {name: values for name, values in groups.items() if values}
    if not groups:
        return {}
    everything = [value for values in groups.values() for value in values]
    low, high, ticks = _logarithmic(everything) if logarithmic else _linear(everything, limits)

    def row(value: float) -> float:
        scaled = math.log10(value) if logarithmic else value
        return round(HEAD + HEIGHT * (high - scaled) / (high - low), 1)

    columns = []
    for number, (name, values) in enumerate(groups.items()):
        middle, rows = AXIS + COLUMN * (number + 0.5), [row(value) for value in values]
        shifts = np.random.default_rng(0).uniform(-0.16, 0.16, len(rows)) * COLUMN
        places = zip(shifts * (len(rows) > 1), rows, strict=True)
        quartiles = np.percentile(rows, (25, 75)).tolist()
        columns.append(
            {
                "colour": (colours or {}).get(name, GREY),
                "middle": middle,
                "dots": "".join(f"M{middle + x:.1f} {y}h.01" for x, y in places),
                "width": 5.2 if len(rows) <= 100 else 2.9,
                "median": float(np.median(rows)),
                "box": quartiles if len(rows) >= _QUARTILES_FROM else None,
                "lines": [*name.split(" "), f"n = {len(rows)}"],
            }
        )
    return {
        "title": title,
        "axis": axis,
        "caption": caption,
        "columns": columns,
        "ticks": [(f"{tick:g}", row(tick)) for tick in ticks],
        "left": AXIS,
        "right": AXIS + COLUMN * max(2, len(columns)),
        "top": HEAD,
        "bottom": HEAD + HEIGHT,
        "height": HEAD + HEIGHT + LINE * (2 + max(name.count(" ") + 1 for name in groups)),
        "line": LINE,
        "half": COLUMN * 0.31,
    }


def _logarithmic(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Lower and upper end of an axis, as logarithms, and the values of its ticks."""
    start, end = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    end = max(end, start + 1)
    return start, end, [10.0**power for power in range(start, end + 1)]


def _linear(
    values: Sequence[float], limits: tuple[float | None, float | None]
) -> tuple[float, float, list[float]]:
    bottom, top = limits
    low, high = min(values) if bottom is None else bottom, max(values) if top is None else top
    room = 0.05 * (high - low) or 0.5 * abs(high) or 1.0
    low, high = low - room * (bottom is None), high + room * (top is None)
    about = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(about))
    step = next(size * nice for nice in (1, 2, 5, 10) if size * nice >= about)
    first, last = math.ceil(low / step), math.floor(high / step + 1e-9)
    return low, high, [step * n for n in range(first, last + 1)]
