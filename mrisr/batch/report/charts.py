"""Distributions of figures over the studies of a batch, drawn as SVG in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mrisr.batch.report.page import fill

#: Colour of what is not the result of anything.
GREY = "var(--soft)"
#: Studies from which on quartiles are drawn.
_QUARTILES_FROM = 5
#: Sizes in pixels: a column, the axis beside the columns, the plot, the room above it, and a line of text.
COLUMN, AXIS, HEIGHT, HEAD, LINE = 89, 62, 180, 26, 14


class Chart(NamedTuple):
    """Groups of values by name over one axis.

    Attributes:
        groups: name -> values; those without any are left out.
        colours: of groups that are not grey.
        limits: of the axis, as far as they are fixed.
    """

    title: str
    axis: str
    caption: str
    groups: Mapping[str, Sequence[float]]
    colours: Mapping[str, str] = {}
    limits: tuple[float | None, float | None] = (None, None)
    logarithmic: bool = False

    def drawn(self) -> str:
        """The chart as one ``<svg>``, the same text for the same values; ``""`` without any."""
        groups = {name: values for name, values in self.groups.items() if values}
        if not groups:
            return ""
        low, high, ticks = self._axis([v for values in groups.values() for v in values])

        def row(value: float) -> float:
            scaled = math.log10(value) if self.logarithmic else value
            return round(HEAD + HEIGHT * (high - scaled) / (high - low), 1)

        columns = []
        for number, (name, values) in enumerate(groups.items()):
            middle, rows = AXIS + COLUMN * (number + 0.5), [row(value) for value in values]
            shifts = np.random.default_rng(0).uniform(-0.16, 0.16, len(rows)) * COLUMN
            places = zip(shifts * (len(rows) > 1), rows, strict=True)
            box = np.percentile(rows, (25, 75)).tolist() if len(rows) >= _QUARTILES_FROM else None
            columns.append(
                {
                    "colour": self.colours.get(name, GREY),
                    "middle": middle,
                    "dots": "".join(f"M{middle + x:.1f} {y}h.01" for x, y in places),
                    "width": 5.2 if len(rows) <= 100 else 2.9,
                    "median": float(np.median(rows)),
                    "box": box,  # the upper and the lower quartile
                    "lines": [*name.split(" "), f"n = {len(rows)}"],
                }
            )
        most = max(len(name.split(" ")) for name in groups)
        return fill(
            "chart.svg",
            chart=self,
            columns=columns,
            ticks=[(f"{tick:g}", row(tick)) for tick in ticks],
            left=AXIS,
            right=AXIS + COLUMN * max(2, len(columns)),
            top=HEAD,
            bottom=HEAD + HEIGHT,
            height=HEAD + HEIGHT + LINE * (2 + most),
            line=LINE,
            half=COLUMN * 0.31,
        ).strip()

    def _axis(self, values: Sequence[float]) -> tuple[float, float, list[float]]:
        """Lower and upper end, as logarithms where the axis is logarithmic, and the values of its ticks."""
        least, most = min(values), max(values)
        if self.logarithmic:
            start, end = math.floor(math.log10(least)), math.ceil(math.log10(most))
            end = max(end, start + 1)
            return start, end, [10.0**power for power in range(start, end + 1)]
        bottom, top = self.limits
        low, high = least if bottom is None else bottom, most if top is None else top
        room = 0.05 * (high - low) or 0.5 * abs(high) or 1.0
        low, high = low - room * (bottom is None), high + room * (top is None)
        about = (high - low) / 5
        size = 10.0 ** math.floor(math.log10(about))
        step = next(size * nice for nice in (1, 2, 5, 10) if size * nice >= about)
        first, last = math.ceil(low / step), math.floor(high / step + 1e-9)
        return low, high, [step * n for n in range(first, last + 1)]
