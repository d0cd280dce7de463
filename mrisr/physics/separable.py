"""The measurement ``y = A x``: separable degradation operators with adjoint and pseudo-inverse.

Every degradation is one matrix ``H`` of shape ``(n_low, n_high)`` per degraded axis
(:mod:`mrisr.physics.rows`). The same object makes training pairs, brings a measurement to the target
grid, tells how well a result agrees with what was measured, and projects it onto the measurement.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from mrisr.core.errors import UsageError
from mrisr.core.options import KINDS, Kind
from mrisr.physics.rows import (
    Interpolation,
    Matrix,
    condition_length,
    degradation_matrix,
    interpolation_matrix,
    pseudo_inverse,
)

#: Rows of a matrix that are applied together.
BLOCK = 64
#: Pixels that differ by a smaller share are one size: over 500 of them a twentieth of a pixel.
SAME_PIXEL = 1e-4
#: A line of voxels that disagrees by less than this share of the tolerance agrees.
_NEGLIGIBLE = 1e-2


@dataclass(frozen=True)
class Axis:
    """Degradation of one axis: sizes in voxels, the rest as in :func:`degradation_matrix`."""

    n_high: int
    n_low: int
    factor: float
    kind: Kind = "bicubic"
    thickness: float = 1.0
    interpolation: Interpolation = "bicubic"


class Block(NamedTuple):
    """Some rows of an axis' matrix, of the columns in which they are not 0: ``(rows, columns)``."""

    columns: slice
    values: torch.Tensor

    def __call__(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        """The rows' products with lines of voxels along a dimension."""
        if dim == -2:
            return self.values @ x[..., self.columns, :]
        lines = x.movedim(dim, -1)[..., self.columns] @ self.values.T
        return lines.movedim(-1, dim)


def blocks_of(matrix: Matrix, dtype: torch.dtype, device: torch.device) -> list[Block]:
    """A matrix in blocks of rows without what is 0 at the precision of a type; the last block's columns end
    with the matrix.

    Degradations reach a few voxels, and their pseudo-inverses fall off exponentially.
    """
    negligible = torch.finfo(dtype).eps / 8 * np.abs(matrix).max()
    blocks = []
    for first in range(0, len(matrix), BLOCK):
        rows = matrix[first : first + BLOCK]
        seen = np.flatnonzero((np.abs(rows) > negligible).any(0))
        start = int(seen[0]) if seen.size else matrix.shape[1] - 1
        stop = int(seen[-1]) + 1 if seen.size else matrix.shape[1]
        stop = matrix.shape[1] if first + BLOCK >= len(matrix) else stop
        values = torch.tensor(np.ascontiguousarray(rows[:, start:stop]), dtype=dtype, device=device)
        blocks.append(Block(slice(start, stop), values))
    return blocks


class SeparableOperator:
    """``A`` as one small matrix per axis, applied to torch tensors of any leading shape.

    Args:
        axes: tensor dimension (negative, counted from the end) to how it is degraded.

    ``op(x)`` is ``A x``, ``op.adjoint(y)`` is ``A^T y``, ``op.pinv(y)`` the minimum-norm ``A^+ y``
    and ``op.interpolate(y)`` the interpolation of ``y`` on the target grid. All work in the
    dtype (at least float32) and on the device of their argument.
    """

    def __init__(self, axes: Mapping[int, Axis]) -> None:
        if not all(dim < 0 for dim in axes):
            raise ValueError(f"axes are counted from the end (negative), got {sorted(axes)}")
        self.axes = dict(axes)
        self._blocks: dict[tuple[str, int, torch.device, torch.dtype], list[Block]] = {}

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """``A x``: the target grid to the measured grid."""
        return self._apply("degrade", x)

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """``A^T y``: the measured grid to the target grid."""
        return self._apply("adjoint", y)

    def pinv(self, y: torch.Tensor) -> torch.Tensor:
        """``A^+ y``; the pseudo-inverse of a Kronecker product is that of its factors."""
        return self._apply("pinv", y)

    def interpolate(self, y: torch.Tensor) -> torch.Tensor:
        """``y`` brought to the target grid by each axis' interpolation: the method's x_LR."""
        return self._apply("interpolate", y)

    def interpolating_by(self, kind: Interpolation) -> SeparableOperator:
        """The same operator with another way to bring measurements to the target grid."""
        return SeparableOperator({d: replace(a, interpolation=kind) for d, a in self.axes.items()})

    def project(self, x: torch.Tensor, y: torch.Tensor, weight: float = 1.0) -> torch.Tensor:
        """``x + weight A^+ (y - A x)``: data consistency, exact at weight 1 where A has full row rank."""
        return x if weight == 0 else x + weight * self.pinv(y - self(x))

    def project_within(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        bounds: tuple[float, float],
        *,
        tolerance: float,
        rounds: int = 200,
    ) -> torch.Tensor:
        """Data consistency among images with values inside ``bounds`` (an unsigned file holds no
        negative overshoot): projected iterations with Nesterov's momentum (FISTA, Beck and
        Teboulle 2009) until the RMS of ``A x - y`` is at most ``tolerance``, does not fall any more or
        ``rounds`` are done.

        An operator along one axis treats every line of voxels by itself, and lines that agree already
        would stay as they are; only the others are iterated, which are few.
        """
        x = x.clamp(*bounds)
        if len(self.axes) > 1:
            return self.iterated(x, y, bounds, tolerance, rounds)
        ((dim, axis),) = self.axes.items()
        lines = x.movedim(dim, -1)
        measured = y.movedim(dim, -1).to(lines)
        along = SeparableOperator({-1: axis})
        apart = (measured - along(lines)).abs().amax(-1) > _NEGLIGIBLE * tolerance
        share = math.sqrt(float(apart.float().mean()))  # RMS over all lines against that over these
        if share == 0:
            return x
        lines = lines.clone()
        limit = tolerance / share
        lines[apart] = along.iterated(lines[apart], measured[apart], bounds, limit, rounds)
        return lines.movedim(-1, dim).contiguous()

    def iterated(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        bounds: tuple[float, float],
        tolerance: float,
        rounds: int,
    ) -> torch.Tensor:
        """The iterations of :meth:`project_within` on all lines, from an ``x`` inside the bounds."""
        ahead, momentum = x, 1.0
        residual = y - self(x)
        earlier = math.inf
        for i in range(rounds):
            error = float(residual.square().mean().sqrt())
            if error <= tolerance or (i % 20 == 0 and error > 0.95 * earlier):
                break
            earlier = error if i % 20 == 0 else earlier
            following = (ahead + self.pinv(y - self(ahead))).clamp(*bounds)
            grown = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead = following + (momentum - 1) / grown * (following - x)
            x, momentum, residual = following, grown, y - self(following)
        return x

    def matrix(self, role: str, dim: int) -> Matrix:
        """The matrix of one axis: ``role`` is ``degrade``, ``adjoint``, ``pinv`` or ``interpolate``."""
        a = self.axes[dim]
        if role == "interpolate":
            return interpolation_matrix(a.interpolation, a.n_low, a.factor, a.n_high)
        if role == "pinv":
            return pseudo_inverse(a.kind, a.n_high, a.factor, a.thickness, a.n_low)
        h = degradation_matrix(a.kind, a.n_high, a.factor, a.thickness, a.n_low)
        return h.T if role == "adjoint" else h

    def _apply(self, role: str, x: torch.Tensor) -> torch.Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        x = x.to(dtype)
        for dim in self.axes:
            key = (role, dim, x.device, dtype)
            if key not in self._blocks:
                self._blocks[key] = blocks_of(self.matrix(role, dim), dtype, x.device)
            blocks = self._blocks[key]
            if x.shape[dim] != blocks[-1].columns.stop:
                expected, found = blocks[-1].columns.stop, x.shape[dim]
                raise ValueError(f"dimension {dim}: expected {expected} voxels, got {found}")
            x = (
                torch.cat([block(x, dim) for block in blocks], dim)
                if blocks[1:]
                else blocks[0](x, dim)
            )
        return x


def in_plane_operator(
    low: tuple[int, int], high: tuple[int, int], factor: float, kind: Kind = "bicubic"
) -> SeparableOperator:
    """Degradation of both axes of images ``(..., rows, columns)`` by ``factor``."""
    return SeparableOperator({dim: Axis(high[dim], low[dim], factor, kind) for dim in (-2, -1)})


def through_plane_operator(
    low: int,
    high: int,
    factor: float,
    *,
    kind: Kind = "gaussian",
    thickness: float = 1.0,
    dim: int = -2,
) -> SeparableOperator:
    """Slice profile along one axis (``dim``); ``thickness`` is slice thickness over slice spacing."""
    return SeparableOperator({dim: Axis(high, low, factor, kind, thickness, "bspline")})


def resample_pixels(
    levels: torch.Tensor, spacing_mm: tuple[float, float], pixel_mm: float
) -> torch.Tensor:
    """Resample images to square pixels over the same field of view, by cubic convolution (Keys 1981).

    Where pixels become coarser, the kernel is widened by the factor.

    Args:
        levels: images ``(..., rows, columns)`` of any type.
        spacing_mm: mm between rows and between columns.
        pixel_mm: mm between rows and between columns of the result.

    Returns:
        float32 ``(..., round(rows * spacing / pixel), ...)``; overshoot at edges is kept.
    """
    levels = levels.to(torch.float32)
    for dim, old in zip((-2, -1), spacing_mm, strict=True):
        factor, n = old / pixel_mm, levels.shape[dim]
        if abs(factor - 1) < SAME_PIXEL:
            continue
        size = max(1, round(n * factor))
        if factor > 1:
            rows = interpolation_matrix("bicubic", n, factor, size)
        else:
            rows = degradation_matrix("bicubic", n, 1 / factor, n_low=size)
        weights = torch.tensor(rows.T, dtype=torch.float32, device=levels.device)
        levels = (levels.movedim(dim, -1) @ weights).movedim(-1, dim)
    return levels


#: The length for models that are trained on all kinds there are.
CONDITION = condition_length(KINDS)


def describe(operator: SeparableOperator, kinds: Sequence[Kind] = KINDS) -> torch.Tensor:
    """The degradation as a vector for the network, shape ``(condition_length(kinds),)``.

    log2 of the row and column factors (0 where not degraded), the kind as one-hot over ``kinds`` (a model's
    card holds its own list, so that a new kind leaves it as it was), log2 of thickness over spacing.

    Raises:
        ValueError: another axis than rows and columns is degraded.
        UsageError: the degradation is none of ``kinds``.
    """
    if not set(operator.axes) <= {-2, -1}:
        raise ValueError(
            f"only rows and columns can be described, got axes {sorted(operator.axes)}"
        )
    vector = torch.zeros(condition_length(kinds))
    for dim, axis in operator.axes.items():
        if axis.kind not in kinds:
            known = ", ".join(kinds)
            raise UsageError(f"degradation: the model knows {known}, not {axis.kind}")
        vector[dim + 2] = np.log2(axis.factor)
        vector[2 + kinds.index(axis.kind)] = 1.0
        vector[-1] = np.log2(axis.thickness)
    return vector
