"""Slice profiles: thickness, spacing and gap are three different numbers."""

from __future__ import annotations

import numpy as np
import pytest

from mrisr.core.options import Kind
from mrisr.physics.rows import degradation_matrix


def width_at_half_maximum(row: np.ndarray) -> float:
    """Full width at half maximum of one row, in voxels, by linear interpolation."""
    fine = np.linspace(0, len(row) - 1, 100 * len(row))
    return float((np.interp(fine, np.arange(len(row)), row) >= row.max() / 2).sum()) / 100


@pytest.mark.parametrize("thickness", [0.5, 0.8, 1.0, 1.5])
@pytest.mark.parametrize("kind", ["gaussian", "box"])
def test_thickness_is_not_spacing(kind: Kind, thickness: float) -> None:
    """Spacing places the slices; thickness alone says how wide each one is."""
    high, factor = 320, 16.0
    rows = degradation_matrix(kind, high, factor, thickness)
    centroids = rows @ np.arange(high)
    inner = slice(3, -3)
    np.testing.assert_allclose(
        centroids[inner], ((np.arange(20) + 0.5) * factor - 0.5)[inner], atol=1e-9
    )
    assert width_at_half_maximum(rows[10]) == pytest.approx(thickness * factor, abs=0.6)


def test_box_leaves_the_gap_unmeasured() -> None:
    rows = degradation_matrix("box", 60, 6.0, 2 / 3)
    seen = rows.sum(axis=0) > 0
    np.testing.assert_array_equal(seen, np.tile([False, True, True, True, True, False], 10))
    contiguous = degradation_matrix("box", 60, 6.0)
    np.testing.assert_allclose(contiguous, np.kron(np.eye(10), np.full((1, 6), 1 / 6)))


@pytest.mark.parametrize("factor", [1.98, 2.5, 5.76, 7.3])
@pytest.mark.parametrize("thickness", [0.7, 1.0, 1.2])
def test_box_keeps_its_first_moment(factor: float, thickness: float) -> None:
    n = round(20 * factor)
    rows = degradation_matrix("box", n, factor, thickness)
    centres = (np.arange(len(rows)) + 0.5) * factor - 0.5
    inside = slice(2, -2)
    np.testing.assert_allclose((rows @ np.arange(n))[inside], centres[inside], atol=1e-9)
