"""Operators of several measurements and of moved volumes: adjoint, least squares, positions."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mrisr.core.statistics import seeded
from mrisr.physics.operator import (
    Composed,
    LinearOperator,
    Moved,
    Sloped,
    Stacked,
    Weighted,
    conjugate_gradients,
)
from mrisr.physics.separable import through_plane_operator

SHAPE = (12, 10, 8)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded("cpu", seed), dtype=torch.float64)


def rigid(degrees: float, shift: tuple[float, float, float]) -> np.ndarray:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    motion = np.eye(4)
    motion[:3, :3] = [[c, -s, 0], [s, c, 0], [0, 0, 1]]
    motion[:3, 3] = shift
    return motion


def moved(motion: np.ndarray | None = None) -> Moved:
    onto = np.diag([1.3, 0.9, 1.1, 1.0])
    onto[:3, 3] = (-0.4, 0.2, 0.6)
    return Moved(SHAPE, np.eye(4), (9, 11, 7), onto, motion)


def along(dim: int, factor: float = 2.0) -> LinearOperator[Tensor]:
    n = SHAPE[dim]
    return through_plane_operator(round(n / factor), n, factor, dim=dim)


def three() -> Stacked:
    return Stacked([along(-3), along(-2), Composed(moved(rigid(7, (0.3, -0.5, 0.2))), _same())])


def weighted() -> Stacked:
    """Measurements with noise of 0.5 and 4."""
    return Stacked(
        [Weighted(along(-3), torch.tensor(2.0)), Weighted(along(-1), torch.tensor(0.25))]
    )


def _same() -> Moved:
    return Moved(SHAPE, np.eye(4), SHAPE, np.eye(4))


def inner(a: Tensor | tuple[Tensor, ...], b: Tensor | tuple[Tensor, ...]) -> float:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return sum(inner(p, q) for p, q in zip(a, b, strict=True))
    return float((a * b).sum())  # type: ignore[operator]


OPERATORS = {
    "moved": moved(rigid(11, (1.0, 0.4, -0.7))),
    "composed": Composed(through_plane_operator(4, 9, 2.25, dim=-3), moved()),
    "stacked": three(),
    "weighted by voxel": Weighted(along(-3), draw(6, 10, 8).abs()),
    "sloped": Sloped(),
    "weighted": weighted(),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_adjoint(name: str) -> None:
    operator, device = OPERATORS[name], "cuda" if torch.cuda.is_available() else "cpu"
    x = draw(*SHAPE).to(device)
    image = operator(x)
    parts = image if isinstance(image, tuple) else (image,)
    drawn = tuple(draw(*i.shape, seed=k + 1).to(device) for k, i in enumerate(parts))
    y = drawn if isinstance(image, tuple) else drawn[0]
    assert inner(image, y) == pytest.approx(inner(x, operator.adjoint(y)), rel=1e-10)


def test_a_motion_moves_by_its_millimetres() -> None:
    """The sampled grid sees at p what lies at motion(p): a blob's centroid shows it."""
    x = torch.zeros(SHAPE, dtype=torch.float64)
    x[6, 5, 4] = 1
    motion = rigid(0, (2.0, -1.0, 1.0))
    seen = Moved(SHAPE, np.eye(4), SHAPE, np.eye(4), motion)(x)
    assert seen[4, 6, 3] == pytest.approx(1)
    assert float(seen.sum()) == pytest.approx(1)


def test_nothing_lies_outside() -> None:
    far = Moved(SHAPE, np.eye(4), SHAPE, np.eye(4), rigid(0, (100.0, 0, 0)))
    assert float(far(torch.ones(SHAPE)).abs().max()) == 0
    assert float(far.interpolate(torch.ones(SHAPE)).abs().max()) == 0


def test_interpolation_keeps_a_constant() -> None:
    """Where samples reach; the mean of equal samples is that value."""
    found = moved().interpolate(torch.full((9, 11, 7), 3.0, dtype=torch.float64))
    assert torch.unique(found.round(decimals=9)).tolist() in ([3.0], [0.0, 3.0])
    halved, doubled = (
        torch.full_like(y, v) for y, v in zip(weighted()(found), (4, 0.5), strict=True)
    )
    assert weighted().interpolate((halved, doubled)).mean() == pytest.approx(2.0, abs=1e-5)


def test_conjugate_gradients_give_the_pseudo_inverse() -> None:
    operator = along(-3)
    y = draw(6, 10, 8)
    found = conjugate_gradients(
        operator, y, torch.zeros(SHAPE, dtype=torch.float64), tolerance=1e-12
    )
    assert torch.allclose(found, operator.pinv(y), atol=1e-8)  # type: ignore[attr-defined]


def test_conjugate_gradients_weigh_measurements_by_their_noise() -> None:
    """Two measurements of the identity: the weighted mean, in closed form."""
    deviations = (1.0, 3.0)
    operator = Stacked([Weighted(_same(), torch.tensor(1 / s)) for s in deviations])
    y = (draw(*SHAPE), draw(*SHAPE, seed=1))
    whitened = tuple(one / s for one, s in zip(y, deviations, strict=True))
    found = conjugate_gradients(operator, whitened, torch.zeros(SHAPE).double())
    assert torch.allclose(found, (9 * y[0] + y[1]) / 10, atol=1e-6)


def test_a_regularisation_stays_near_the_start() -> None:
    """argmin |x - y|^2 + r |x - s|^2 = (y + r s) / (1 + r)."""
    y, start = draw(*SHAPE), draw(*SHAPE, seed=1)
    found = conjugate_gradients(_same(), y, start, regularisation=0.25)
    assert torch.allclose(found, (y + 0.25 * start) / 1.25, atol=1e-6)


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a volume of"):
        moved()(torch.zeros(3, 3, 3))
