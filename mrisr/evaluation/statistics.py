"""Means over patients with their intervals, and paired comparisons of two methods.

The unit is the patient: slices of one patient resemble each other, so many slices of few patients are few
observations. Differences per slice are described (mean, spread, share) but not tested.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mrisr.core.statistics import mean_interval
from mrisr.evaluation.case import SLICE_METRICS, Scale, ScoredResult

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
