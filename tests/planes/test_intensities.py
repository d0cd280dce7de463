"""Fields that bring one stack's intensities to another's."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mrisr.planes.intensities import LEAST, Field, matched_field

SHAPE = (20, 60, 60)
AFFINE = np.diag([4.0, 3.0, 3.0, 1.0])
CENTRE = np.array([40.0, 90.0, 90.0])


def _distance() -> NDArray[np.float64]:
    at = np.moveaxis(np.indices(SHAPE), 0, -1) @ AFFINE[:3, :3].T
    return np.asarray(np.linalg.norm(at - CENTRE, axis=-1))


def _tissue() -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.uniform(0.2, 0.6, SHAPE).astype(np.float32))


def _fitted(y: torch.Tensor, expected: torch.Tensor) -> Field:
    return matched_field(y, expected, torch.ones(SHAPE) > 0, SHAPE, AFFINE, CENTRE)


def test_shading_and_an_offset_are_undone() -> None:
    expected, shading = _tissue(), torch.linspace(0.8, 1.3, SHAPE[1])[:, None]
    found = _fitted((expected - 0.05) / shading, expected)
    near = _distance() < 25
    off = found((expected - 0.05) / shading, SHAPE, AFFINE) - expected
    assert np.abs(off.numpy()[near]).mean() < 0.005


def test_the_gland_decides_where_its_surroundings_are_of_another_gain() -> None:
    expected, away = _tissue(), torch.from_numpy(_distance())
    y = torch.where(away < 40, expected / 1.2, expected / 0.7).float()
    gland = (away < 20).numpy()
    assert gland.mean() < 0.05
    off = _fitted(y, expected)(y, SHAPE, AFFINE) - expected
    assert np.abs(off.numpy()[gland]).mean() < 0.03


def test_no_contrast_is_inverted_far_away() -> None:
    falling = np.array([0.5, 0, 1.0, 0, 0, 0, 0, 0, 0, 0, 0])  # 0 at 22.5 mm towards P
    gain = Field(CENTRE, falling)(torch.ones(SHAPE), SHAPE, AFFINE)
    assert gain.min() == pytest.approx(LEAST)
    assert gain[10, 30, 30] == pytest.approx(0.5)
