"""Tables of figures, and their cells, ready to print in any form."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from mrisr.evaluation.case import Metric
from mrisr.evaluation.statistics import Mean, Row


@dataclass(frozen=True)
class Table:
    """A table ready to print; ``best`` are rows and columns of its best cells."""

    title: str
    columns: list[str]
    cells: list[list[str]]
    best: frozenset[tuple[int, int]] = frozenset()

    def as_markdown(self) -> str:
        """The table in Markdown, the best in bold."""
        lines = [f"| {' | '.join(self.columns)} |", f"|{'---|' * len(self.columns)}"]
        for index, row in enumerate(self.cells):
            marked = [f"**{c}**" if (index, k) in self.best else c for k, c in enumerate(row)]
            lines.append(f"| {' | '.join(c.replace('|', '/') for c in marked)} |")
        return "\n".join([f"### {self.title}", "", *lines, ""])

    def as_csv(self) -> str:
        """The table as comma-separated values, without its title."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *self.cells])
        return text.getvalue()


@dataclass(frozen=True)
class Column:
    """A column of a table; ``best`` are the rows of its best cells."""

    title: str
    cells: list[str]
    best: Sequence[int] = ()


def table_of(title: str, columns: Sequence[Column]) -> Table:
    """A table of columns."""
    cells = [list(row) for row in zip(*(c.cells for c in columns), strict=True)]
    best = {(row, k) for k, c in enumerate(columns) for row in c.best}
    return Table(title, [c.title for c in columns], cells, frozenset(best))


def metric_column(
    rows: Sequence[Row], name: str, metric: Metric, beside: Sequence[str] = ()
) -> Column:
    """The means of a figure; the methods named ``beside`` are not in the competition for the best."""
    means = [row.means.get(name) for row in rows]
    cells = [cell(mean, metric.format, metric.interval) for mean in means]
    values = {k: m.value for k, m in enumerate(means) if m and rows[k].method not in beside}
    rank = {
        k: abs(v) if metric.better == 0 else -(metric.better or 0) * v for k, v in values.items()
    }
    best = [k for k in rank if rank[k] == min(rank.values()) < max(rank.values())]
    return Column(metric.title, cells, best)


def cell(mean: Mean | None, form: str, interval: bool = False) -> str:
    """A mean, with half its interval where that is asked for and there is one."""
    if mean is None:
        return ""
    text = f"{mean.value:{form}}"
    half = mean.half if interval else None
    return text if half is None else f"{text} ± {half:{form.lstrip('+')}}"


def patients_in(rows: Sequence[Row]) -> str:
    """The number of patients of a table, in words.

    Interpolations and methods have the same patients unless one failed; the largest number counts.
    """
    n = max((row.patients for row in rows), default=0)
    return f"mean over {n} patient{'s' * (n != 1)}"
