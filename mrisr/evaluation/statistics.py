"""Means over patients with their intervals, paired comparisons of two methods, and tables of these.

The unit is the patient: slices of one patient resemble each other, so many slices of few patients are few
observations. Differences per slice are described (mean, spread, share) but not tested.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mrisr.core.statistics import mean_interval
from mrisr.evaluation.case import SLICE_METRICS, Metric, Scale, ScoredResult

#: Patients from which on Wilcoxon's signed rank test can fall below 0.05 at all (two-sided, 2 / 2^6).
WILCOXON_FROM = 6


@dataclass(frozen=True)
class Mean:
    """Mean over ``n`` patients; ``half`` is half the width of its 95% interval, None for one patient."""

    value: float
    half: float | None
    n: int


def mean_of(values: Sequence[float]) -> Mean:
    """Mean with the 95% interval of Student's t.

    >>> mean_of([1.0, 3.0]).value
    2.0
    >>> mean_of([1.0]).half is None
    True
    """
    found = mean_interval(values)
    return Mean(float(found.mean), float(found.half) if found.n > 1 else None, found.n)


@dataclass(frozen=True)
class Paired:
    """A method's figure less the reference method's, on the same patients and slices.

    Attributes:
        patients: mean difference over patients.
        p: of a paired t test over patients, two-sided; None for one patient, or where all differ alike.
        p_wilcoxon: of Wilcoxon's signed rank test, from six patients on.
        slices: number of slices of all patients, which are no independent observations.
        slice_share: share of them on which the difference is above zero.
    """

    patients: Mean
    p: float | None
    p_wilcoxon: float | None
    slices: int
    slice_mean: float
    slice_sd: float
    slice_share: float


@dataclass(frozen=True)
class Row:
    """A method at one scale, over its patients.

    Attributes:
        seen: whether a model was trained on these patients.
        means: name of a figure -> its mean over the patients that have it.
        gain: PSNR over the baseline's, where both have been measured.
        paired: metric of slices -> comparison with the reference method.
    """

    method: str
    scale: Scale
    seen: bool
    patients: int
    means: dict[str, Mean]
    gain: Mean | None = None
    paired: Mapping[str, Paired] = field(default_factory=dict)


def patient_means(results: Iterable[ScoredResult]) -> dict[str, dict[str, float]]:
    """Patient -> figure -> mean over the patient's stacks."""
    stacks: dict[str, dict[str, list[float]]] = {}
    for result in results:
        figures = stacks.setdefault(result.case, {})
        for name, value in result.scored.means().items():
            figures.setdefault(name, []).append(value)
    return {c: {n: float(np.mean(v)) for n, v in found.items()} for c, found in stacks.items()}


def _slices(results: Iterable[ScoredResult], metric: str) -> dict[tuple[str, str, int], float]:
    return {
        (r.case, r.series, k): value
        for r in results
        for k, value in enumerate(r.scored.slices.get(metric, ()))
        if math.isfinite(value)
    }


def _paired(
    mine: Sequence[ScoredResult], others: Sequence[ScoredResult], metric: str
) -> Paired | None:
    """The comparison of one metric on what both have; None where they share nothing."""
    from scipy.stats import ttest_1samp, wilcoxon

    a, b = patient_means(mine), patient_means(others)
    both = [case for case in a if metric in a[case] and metric in b.get(case, {})]
    each = np.array([a[case][metric] - b[case][metric] for case in both])
    left, right = _slices(mine, metric), _slices(others, metric)
    slices = np.array([left[k] - right[k] for k in left if k in right])
    if not len(each) or not len(slices):
        return None
    differ = len(each) > 1 and np.ptp(each) > 1e-9 * np.abs(each).max()
    ranked = len(each) >= WILCOXON_FROM and np.any(each)
    return Paired(
        patients=mean_of(each.tolist()),
        p=float(ttest_1samp(each, 0.0).pvalue) if differ else None,
        p_wilcoxon=float(wilcoxon(each).pvalue) if ranked else None,
        slices=len(slices),
        slice_mean=float(slices.mean()),
        slice_sd=float(slices.std(ddof=1)) if len(slices) > 1 else 0.0,
        slice_share=float((slices > 0).mean()),
    )


def summarise(
    results: Sequence[ScoredResult],
    methods: Sequence[str],
    baseline: str | None = None,
    reference: str | None = None,
) -> list[Row]:
    """A row for each scale and method that has results, in the order of ``methods``; patients that a model
    was trained on come last, in rows of their own."""
    groups: dict[tuple[bool, Scale], dict[str | None, list[ScoredResult]]] = {}
    for r in results:
        group = groups.setdefault((bool(r.seen), r.scale), {})
        group.setdefault(r.method, []).append(r)
    rows = []
    for (seen, scale), by_method in sorted(groups.items(), key=lambda group: group[0]):
        for method in (m for m in methods if m in by_method):
            mine = by_method[method]
            patients = patient_means(mine)
            names = dict.fromkeys(name for figures in patients.values() for name in figures)
            means = {n: mean_of([p[n] for p in patients.values() if n in p]) for n in names}
            base = _paired(mine, by_method.get(baseline, []), "psnr")
            compared = [] if method == reference else by_method.get(reference, [])
            paired = {m: p for m in SLICE_METRICS if (p := _paired(mine, compared, m)) is not None}
            gain = None if base is None else base.patients
            rows.append(Row(method, scale, seen, len(patients), means, gain, paired))
    return rows


# --- tables ---------------------------------------------------------------------------------------


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
    """The number of patients in words: the largest, as methods have the same unless one failed."""
    n = max((row.patients for row in rows), default=0)
    known = " that models were trained on" if rows and rows[0].seen else ""
    return f"mean over {n} patient{'s' * (n != 1)}{known}"
