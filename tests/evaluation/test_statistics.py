"""Means over patients and paired comparisons against closed forms."""

import math
from collections.abc import Sequence

import pytest
from scipy import stats

from mrisr.evaluation.case import Scale, Scored, ScoredResult
from mrisr.evaluation.statistics import patient_means, summarise


def result(
    method: str, case: str, psnr: Sequence[float], series: str = "t2w", factor: float = 4.0
) -> ScoredResult:
    scored = Scored({}, {"psnr": psnr, "spectrum": [40 - v for v in psnr]})
    return ScoredResult(case, series, Scale("degraded", factor), method, scored)


def test_means_are_over_patients_not_over_slices_or_stacks() -> None:
    rows = [
        result("m", "a", [20.0] * 100),
        result("m", "b", [30.0], "s1"),
        result("m", "b", [40.0], "s2"),
    ]
    assert {k: v["psnr"] for k, v in patient_means(rows).items()} == {"a": 20, "b": 35}
    (row,) = summarise(rows, ["m"], "none")
    assert row.means["psnr"].value == pytest.approx((20 + 35) / 2)
    assert (row.means["psnr"].n, row.gain, row.paired) == (2, None, {})


def test_gain_and_paired_differences() -> None:
    rows = [
        result("base", "a", [20.0, 22.0]),
        result("base", "b", [30.0, 30.0]),
        result("base", "c", [25.0, 25.0]),
        result("mine", "a", [21.0, 25.0]),  # +1 and +3
        result("mine", "b", [31.0, 30.0]),  # +1 and 0
        result("other", "a", [20.0, 22.0], factor=2.0),
    ]
    found = {
        (r.scale.factor, r.method): r
        for r in summarise(rows, ["mine", "base", "other"], "base", "base")
    }
    assert list(found) == [(2.0, "other"), (4.0, "mine"), (4.0, "base")]
    assert [r.patients for r in found.values()] == [1, 2, 3]
    mine = found[4.0, "mine"]
    assert mine.gain is not None
    assert mine.gain.value == pytest.approx((2 + 0.5) / 2)
    assert found[4.0, "base"].paired == {}
    assert found[2.0, "other"].gain is None
    paired = mine.paired["psnr"]
    assert paired.patients.value == pytest.approx(1.25)
    assert paired.p == pytest.approx(stats.ttest_rel([23, 30.5], [21, 30]).pvalue)
    assert paired.p_wilcoxon is None
    assert (paired.slices, paired.slice_share) == (4, 0.75)
    assert paired.slice_mean == pytest.approx(5 / 4)
    assert paired.slice_sd == pytest.approx(math.sqrt((0.0625 * 2 + 1.75**2 + 1.25**2) / 3))
    assert mine.paired["spectrum"].patients.value == pytest.approx(-1.25)


def test_one_patient_has_no_test_and_alike_differences_have_none() -> None:
    one = [result("base", "a", [20.0, 21.0]), result("mine", "a", [21.0, 24.0])]
    (_, mine) = summarise(one, ["base", "mine"], "base", "base")
    assert mine.paired["psnr"].p is None
    assert mine.paired["psnr"].patients.half is None
    alike = [*one, result("base", "b", [20.0]), result("mine", "b", [22.0])]
    (_, mine) = summarise(alike, ["base", "mine"], "base", "base")
    assert mine.paired["psnr"].p is None  # both +2: a t test would divide by zero


def test_wilcoxon_from_six_patients_on() -> None:
    gains = [0.1, 0.2, 0.3, 0.4, 0.5, 0.7]
    rows = [result("base", str(k), [20.0]) for k in range(6)]
    rows += [result("mine", str(k), [20.0 + g]) for k, g in enumerate(gains)]
    (_, mine) = summarise(rows, ["base", "mine"], "base", "base")
    assert mine.paired["psnr"].p_wilcoxon == pytest.approx(2 / 2**6)
    assert mine.paired["psnr"].slice_share == 1
