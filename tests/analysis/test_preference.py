"""The automated reader: its order agrees with both measures, and nobody's share is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrisr.analysis.scoring import distance, preferred, win_rates

UNIT = st.floats(0, 0.999)
DECIBEL = st.floats(0.001, 40)


@given(st.lists(st.tuples(UNIT, DECIBEL), min_size=2, max_size=6))
def test_nearer_by_both_measures_is_never_less_preferred(points: list[tuple[float, float]]) -> None:
    ssim, spectrum = np.array(points).T[:, :, None]
    shares = preferred(distance(ssim, spectrum))
    for i in range(len(points)):
        for j in range(len(points)):
            if ssim[i] >= ssim[j] and spectrum[i] <= spectrum[j]:
                assert shares[i, j] >= 0.5
    assert shares + shares.T == pytest.approx(1)
    assert win_rates(shares).mean() == pytest.approx(0.5)


def test_where_they_disagree_the_scale_of_interpolation_decides() -> None:
    ssim, spectrum = np.array([[0.6], [0.8], [0.7]]), np.array([[20.0], [16.0], [8.0]])
    # The second is at (0.5, 0.8), the third at (0.75, 0.4): 0.94 and 0.85 from the origin.
    assert preferred(distance(ssim, spectrum))[2, 1] == 1.0
    # Neither measure's unit matters.
    assert preferred(distance(ssim, 100 * spectrum))[2, 1] == 1.0
    # Interpolation that is nearer in the spectrum makes its errors weigh more: (0.5, 2.0), (0.75, 1.0).
    spectrum[0] = 8.0
    ssim[2] = 0.0
    assert preferred(distance(ssim, spectrum))[1, 2] == 1.0


def test_shares_and_win_rates() -> None:
    shares = preferred(np.array([[1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 0.5], [1.0, 3.0, 3.0, 3.0]]))
    assert shares[0].tolist() == [0.5, 0.75, 0.875]
    assert win_rates(shares)[0] == (0.75 + 0.875) / 2
