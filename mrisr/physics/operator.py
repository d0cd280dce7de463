"""Linear operators ``A`` of the measurement ``y = A x + n``, whatever they are made of.

:class:`~mrisr.physics.separable.SeparableOperator` is one case; :class:`Stacked` takes several
measurements of one volume together, :class:`Moved` brings a volume to another grid under a rigid motion, and
:class:`Composed` applies one operator after another. All work in torch, on the device of their argument, and
are tested for adjointness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from mrisr.core.geometry import Affine

#: A measurement: one tensor, or one for each of several.
Y = TypeVar("Y")


class LinearOperator(Protocol[Y]):
    """Interface of a linear operator: ``A``, its adjoint, and a first guess on the target grid."""

    def __call__(self, x: Tensor) -> Y:
        """``A x``: the target grid to the measured one."""
        ...

    def adjoint(self, y: Y) -> Tensor:
        """``A^T y``: the measured grid to the target one."""
        ...

    def interpolate(self, y: Y) -> Tensor:
        """``y`` brought to the target grid by interpolation."""
        ...


def difference(a: Y, b: Y) -> Y:
    """``a - b`` of two measurements, tensors or tuples of them."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return tuple(p - q for p, q in zip(a, b, strict=True))  # type: ignore[return-value]
    return a - b  # type: ignore[operator,no-any-return]


def conjugate_gradients(
    operator: LinearOperator[Y],
    y: Y,
    start: Tensor,
    *,
    regularisation: float = 0.0,
    tolerance: float = 1e-5,
    rounds: int = 100,
) -> Tensor:
    """Minimiser of ``|A x - y|^2 + regularisation |x - start|^2``, by conjugate gradients.

    They run on the normal equations (Hestenes and Stiefel 1952). With ``regularisation = 0`` and a start of
    zeros they approach the minimum-norm solution ``A^+ y``.

    Args:
        operator: ``A``.
        y: the measurement.
        start: where to begin, on the target grid; with a regularisation the mean of the prior.
        regularisation: variance of the noise over that of the prior.
        tolerance: iterations end when the residual of the normal equations has fallen by this factor.
        rounds: the most iterations.
    """
    x = torch.zeros_like(start)  # the step away from the start
    residual = operator.adjoint(difference(y, operator(start)))
    direction = residual
    power = float(residual.double().square().sum())
    goal = tolerance**2 * power
    for _ in range(rounds):
        if power <= goal:
            break
        image = operator.adjoint(operator(direction)) + regularisation * direction
        length = power / float((direction.double() * image.double()).sum())
        x = x + length * direction
        residual = residual - length * image
        earlier, power = power, float(residual.double().square().sum())
        direction = residual + (power / earlier) * direction
    return start + x


@dataclass(frozen=True, eq=False)
class Stacked:
    """Several measurements of one volume, ``y_i = A_i x``.

    Least squares weighs them alike; where their noise differs, each is :class:`Weighted` by ``1 / sigma_i``.

    Attributes:
        operators: the ``A_i``, one at least.
    """

    operators: Sequence[LinearOperator[Tensor]]

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """``(A_i x)``."""
        return tuple(a(x) for a in self.operators)

    def adjoint(self, y: tuple[Tensor, ...]) -> Tensor:
        """``sum_i A_i^T y_i``."""
        first, *others = zip(self.operators, y, strict=True)
        total = first[0].adjoint(first[1])
        for a, one in others:
            total = total + a.adjoint(one)
        return total

    def interpolate(self, y: tuple[Tensor, ...]) -> Tensor:
        """Mean of the interpolated measurements."""
        every = zip(self.operators, y, strict=True)
        return torch.stack([a.interpolate(one) for a, one in every]).mean(0)


@dataclass(frozen=True, eq=False)
class Composed(Generic[Y]):
    """``A = outer inner``: first the inner operator, then the outer one."""

    outer: LinearOperator[Y]
    inner: LinearOperator[Tensor]

    def __call__(self, x: Tensor) -> Y:
        """``outer(inner(x))``."""
        return self.outer(self.inner(x))

    def adjoint(self, y: Y) -> Tensor:
        """``inner^T outer^T y``."""
        return self.inner.adjoint(self.outer.adjoint(y))

    def interpolate(self, y: Y) -> Tensor:
        """The outer interpolation, then the inner one."""
        return self.inner.interpolate(self.outer.interpolate(y))


@dataclass(frozen=True, eq=False)
class Weighted:
    """An operator whose measurements are multiplied by weights: ``diag(weight) A``."""

    operator: LinearOperator[Tensor]
    weight: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """``weight A x``."""
        return self.weight * self.operator(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^T weight y``."""
        return self.operator.adjoint(self.weight * y)

    def interpolate(self, y: Tensor) -> Tensor:
        """The operator's interpolation of ``y / weight``, 0 where the weight is."""
        return self.operator.interpolate(torch.where(self.weight > 0, y / self.weight, 0.0))


class Sloped:
    """A volume ``(i, j, k)`` and its differences to the next voxel along each axis: ``(4, i, j, k)``.

    As a measurement it is the prior of errors that are smooth rather than white.
    """

    def __call__(self, x: Tensor) -> Tensor:
        """``(x, dx/di, dx/dj, dx/dk)``; the last difference along an axis is 0."""
        out = x.new_zeros(4, *x.shape)
        out[0] = x
        for dim in range(3):
            n = x.shape[dim] - 1
            out[dim + 1].narrow(dim, 0, n).copy_(torch.diff(x, dim=dim))
        return out

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^T y``."""
        out = y[0].clone()
        for dim in range(3):
            n = out.shape[dim] - 1
            slope = y[dim + 1].narrow(dim, 0, n)
            out.narrow(dim, 1, n).add_(slope)
            out.narrow(dim, 0, n).sub_(slope)
        return out

    def interpolate(self, y: Tensor) -> Tensor:
        """The volume itself."""
        return y[0]


class Moved:
    """A volume under a rigid motion, sampled on another grid by trilinear interpolation; 0 outside it.

    Volumes are tensors ``(i, j, k)`` or ``(..., i, j, k)``.

    Args:
        shape, affine: of the grid that ``x`` lies on (voxel indices to mm, RAS).
        onto_shape, onto_affine: of the grid that it is sampled on.
        motion: 4x4, mm RAS to mm RAS: where a point of the sampled grid lies in the frame of ``x``.
    """

    def __init__(
        self,
        shape: Sequence[int],
        affine: Affine,
        onto_shape: Sequence[int],
        onto_affine: Affine,
        motion: Affine | None = None,
    ) -> None:
        self.shape, self.onto_shape = tuple(shape), tuple(onto_shape)
        between = np.eye(4) if motion is None else np.asarray(motion, dtype=np.float64)
        self.to_index = np.linalg.inv(np.asarray(affine)) @ between @ np.asarray(onto_affine)
        self._grids: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """The volume on the other grid."""
        images = _as_batch(x, self.shape)
        out = [self._sampled(image[None]) for image in images]
        return torch.stack(out).reshape(*x.shape[:-3], *self.onto_shape)

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^T y``: every sample is handed back to the eight voxels that it was interpolated from."""
        images = _as_batch(y, self.onto_shape)
        back = [self._handed_back(image[None]) for image in images]
        return torch.stack(back).reshape(*y.shape[:-3], *self.shape)

    def _sampled(self, image: Tensor) -> Tensor:
        """One volume ``(1, 1, i, j, k)`` on the other grid; its parts in parallel, which torch does for
        batches only."""
        grid = self._grid(image)
        return torch.grid_sampler(image.expand(len(grid), -1, -1, -1, -1), grid, 0, 0, True)

    def _handed_back(self, image: Tensor) -> Tensor:
        grid = self._grid(image)
        parts = image.reshape(len(grid), 1, *grid.shape[1:4])
        zeros = image.new_zeros(1, 1, *self.shape).expand(len(grid), -1, -1, -1, -1)
        back: Tensor
        back, _ = torch.ops.aten.grid_sampler_3d_backward(
            parts, zeros, grid, 0, 0, True, [True, False]
        )
        return back.sum(0)

    def interpolate(self, y: Tensor) -> Tensor:
        """``A^T y`` over ``A^T 1``: the mean of the samples near each voxel; 0 where there are none."""
        reached = self.adjoint(torch.ones_like(y))
        return torch.where(reached > 1e-3, self.adjoint(y) / reached.clamp(min=1e-3), 0.0)

    def _grid(self, images: Tensor) -> Tensor:
        """Positions of the samples in grid_sample's -1..1 over voxel centres, ``(parts, i, j, k, 3)``."""
        key = (images.device, images.dtype)
        if key not in self._grids:
            rows, columns = (torch.arange(n, dtype=torch.float64) for n in self.onto_shape[1:])
            matrix = torch.from_numpy(self.to_index)
            last = torch.tensor([max(n - 1, 1) for n in self.shape], dtype=torch.float64)
            grid = torch.empty(*self.onto_shape, 3, dtype=key[1], device=key[0])
            for i in range(self.onto_shape[0]):  # plane by plane to save memory
                index = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1)
                at = matrix[:3, 0] * i + index @ matrix[:3, 1:3].T + matrix[:3, 3]
                grid[i] = (2 * at / last - 1).flip(-1)
            parts = gcd(self.onto_shape[0], torch.get_num_threads())
            self._grids[key] = grid.reshape(parts, -1, *grid.shape[1:])
        return self._grids[key]


def _as_batch(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``(..., i, j, k)`` as ``(n, 1, i, j, k)``. Raises ValueError for another shape."""
    if tuple(x.shape[-3:]) != shape:
        raise ValueError(f"expected a volume of {shape}, got {tuple(x.shape[-3:])}")
    return x.reshape(-1, 1, *shape)
