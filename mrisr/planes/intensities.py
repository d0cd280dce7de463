"""Smooth fields that bring the intensities of one stack to those of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mrisr.core import geometry
from mrisr.planes.registration import Points

#: Unit in mm of the fields' monomials.
UNIT = 45.0
#: Standard deviation in mm of the weight around the gland, and the weight of what lies far from it.
NEAR, FAR = 13.0, 0.002
#: Strength of the prior, no field, as a share of all weights.
RIDGE = 1e-3
#: Gain below which no field falls: far from the gland a polynomial may turn negative.
LEAST = 0.1


@dataclass(frozen=True)
class Field:
    """Smooth field that brings a stack's intensities to those of the axial one: ``v`` to ``b(p) v + c``.

    Attributes:
        centre: RAS mm in the joint frame, around which ``b`` is a polynomial of second degree, where that is
            no less than ``LEAST``.
        coefficients: ``(11,)``: of 1, x, y, z, xx, yy, zz, xy, xz, yz in units of ``UNIT``; and ``c``.
    """

    centre: Points
    coefficients: Points

    def __call__(self, values: Tensor, shape: Sequence[int], affine: geometry.Affine) -> Tensor:
        """Values on a grid of the joint frame, matched; plane by plane to save memory."""
        out = torch.empty(tuple(values.shape), dtype=torch.float32)
        for i in range(shape[0]):
            terms = monomials(_plane_points(i, shape, affine), self.centre)
            gain = np.maximum(terms @ self.coefficients[:10], LEAST).astype(np.float32)
            out[i] = values[i] * torch.from_numpy(gain) + float(self.coefficients[10])
        return out


def _plane_points(i: int, shape: Sequence[int], affine: geometry.Affine) -> Points:
    """World points ``(j, k, 3)`` of a plane of a grid."""
    index = np.moveaxis(np.indices(tuple(shape[1:])), 0, -1)
    return np.asarray(index @ affine[:3, 1:3].T + affine[:3, 0] * i + affine[:3, 3])


def monomials(points: Points, centre: Points) -> Points:
    """Monomials up to second degree ``(..., 10)`` of positions, held where the gland is far away."""
    u = np.clip((points - centre) / UNIT, -2.5, 2.5)
    x, y, z = np.moveaxis(u, -1, 0)
    return np.stack([np.ones_like(x), x, y, z, x * x, y * y, z * z, x * y, x * z, y * z], -1)


def matched_field(
    y: Tensor,
    expected: Tensor,
    covered: Tensor,
    shape: Sequence[int],
    affine: geometry.Affine,
    centre: Points,
) -> Field:
    """The field that brings ``y`` nearest to what is expected, in and around the gland before all; that of
    gain 1 where nothing is ``covered``.

    Weighted least squares, robust by Huber's weights; what lies far away, where fat is shifted and receive
    coils shade the most, only keeps the field from running off.
    """
    rows, wanted, weights = [], [], []
    for i in range(shape[0]):
        points = _plane_points(i, shape, affine)[::3, ::3]
        inside = covered[i, ::3, ::3].numpy()
        near = np.exp(-np.square((points - centre) / NEAR).sum(-1) / 2) + FAR
        v = y[i, ::3, ::3].numpy()[..., None]
        terms = np.concatenate([v * monomials(points, centre), np.ones_like(v)], -1)
        rows.append(terms[inside])
        wanted.append(expected[i, ::3, ::3].numpy()[inside])
        weights.append(near[inside])
    a, b, w = (np.concatenate(part).astype(np.float64) for part in (rows, wanted, weights))
    start = np.zeros(11)
    start[0] = 1.0
    if not len(b):
        return Field(centre, start)
    ridge = RIDGE * w.sum() * np.eye(11)
    close = w > 0.3 * w.max()  # Huber's scale is of the gland: far away residuals are larger
    huber, found = np.ones_like(b), start
    for _ in range(4):
        weighted = a * (w * huber)[:, None]
        found = start + np.linalg.solve(a.T @ weighted + ridge, weighted.T @ (b - a @ start))
        residual = np.abs(b - a @ found)
        huber = np.minimum(1, 2 * np.median(residual[close]) / np.maximum(residual, 1e-9))
    return Field(centre, found)
