"""Means with Student's intervals, against scipy's."""

import numpy as np
import pytest
from scipy import stats

from mrisr.core.statistics import mean_interval


def test_the_interval_is_student_s() -> None:
    values = np.array([[3.0, 5.0, 4.5, 7.0], [1.0, 1.5, 0.5, 2.0]]).T
    found = mean_interval(values)
    for k, column in enumerate(values.T):
        wanted = stats.t.interval(0.95, 3, loc=column.mean(), scale=stats.sem(column))
        assert (found.low[k], found.high[k]) == pytest.approx(wanted)
    assert found.n == 4


def test_a_single_value_has_no_interval() -> None:
    alone = mean_interval([3.0])
    assert (float(alone.mean), alone.n) == (3.0, 1)
    assert np.isnan([alone.low, alone.high]).all()
