"""Soft ellipsoids and band-limited random fields, of which the phantom is drawn.

Points are arrays ``(3, n)``, in mm; everything here is a function of position alone.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]
Vector: TypeAlias = tuple[float, float, float]


class Blob(NamedTuple):
    """A soft ellipsoid: mm, degrees; mirrored to the other side unless it lies on the midline."""

    centre: Vector
    radii: Vector
    value: float
    rim: float = 0.0  # thickness of dark cortical bone or fascia, mm
    tilt: tuple[float, float] = (0.0, 0.0)  # about R-L, then about S-I


class Modes(NamedTuple):
    """A band-limited random field of unit variance: ``sqrt(2 / M) sum cos(k . x + phase)``."""

    vectors: Floats  # (M, 3), rad/mm
    phases: Floats  # (M, 1), rad

    @staticmethod
    def draw(rng: np.random.Generator, count: int, shortest: float, longest: float) -> Modes:
        """``count`` plane waves; wavelengths in mm, log-uniform from shortest to longest."""
        height = (np.arange(count) + 0.5) / count  # directions spread evenly over a half sphere
        turn = np.pi * (3 - np.sqrt(5)) * np.arange(count) + rng.uniform(0, 2 * np.pi)
        ring = np.sqrt(1 - height**2)
        d = np.stack([ring * np.cos(turn), ring * np.sin(turn), height], axis=1)
        wavelengths = np.exp(rng.uniform(np.log(shortest), np.log(longest), (count, 1)))
        phases = rng.uniform(0, 2 * np.pi, (count, 1))
        return Modes((2 * np.pi / wavelengths * d).astype(np.float32), phases.astype(np.float32))

    def waves(self, p: Floats) -> Floats:
        """The single waves ``(M, n)`` at points ``(3, n)``."""
        angle = self.vectors @ p
        angle += self.phases
        return np.cos(angle, out=angle)

    def __call__(self, p: Floats) -> Floats:
        count = len(self.phases)
        return np.full(count, np.sqrt(2 / count), np.float32) @ self.waves(p)


def inside(distance: Floats, edge: float = 0.6) -> Floats:
    """Signed distance (mm, negative inside) to a weight from 0 to 1 over an edge of ``edge`` mm."""
    return np.asarray(np.clip(0.5 - distance * np.float32(1 / edge), 0, 1))


def paint(out: Floats, weight: Floats, value: Any) -> None:
    """Cover ``out`` with ``value`` (number or array) where ``weight`` is 1."""
    out += weight * (value - out)


class _Frame(NamedTuple):
    centre: Floats  # (3, 1), mm
    inverse: Floats  # (3, 3), mm to units of the radii along the tilted axes
    radii: Floats  # (3, 1), mm
    reach: Floats  # (3, 1), mm from the centre: a box around the blob


@lru_cache(maxsize=1024)
def _frame(blob: Blob) -> _Frame:
    (cx, cz), (sx, sz) = np.cos(np.radians(blob.tilt)), np.sin(np.radians(blob.tilt))
    turn = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]]) @ [[1, 0, 0], [0, cx, -sx], [0, sx, cx]]
    radii = np.array(blob.radii, np.float32)[:, None]
    reach = np.full_like(radii, radii.max()) if any(blob.tilt) else radii
    centre = np.array(blob.centre, np.float32)[:, None]
    return _Frame(centre, (turn / blob.radii).T.astype(np.float32), radii, reach + 2)


def ellipsoid(p: Floats, blob: Blob) -> Floats:
    """Approximate signed distance in mm from points ``(3, n)`` to the blob's surface."""
    frame = _frame(blob)
    scaled = frame.inverse @ (p - frame.centre)
    k0 = np.sqrt(np.einsum("an,an->n", scaled, scaled))
    scaled /= frame.radii
    k1 = np.sqrt(np.einsum("an,an->n", scaled, scaled))
    return np.asarray(k0 * (k0 - 1) / np.maximum(k1, np.float32(1e-3)))


def nearby(p: Floats, blob: Blob) -> NDArray[np.intp]:
    """Indices of the points ``(3, n)`` in a box around the blob, with a margin of 2 mm."""
    centre, _, _, reach = _frame(blob)
    low, high = centre - reach, centre + reach
    if p.shape[1] == 0 or any(
        (p[a].min() > high[a, 0]) or (p[a].max() < low[a, 0]) for a in (2, 1, 0)
    ):
        return np.empty(0, np.intp)
    x, y, z = np.abs(p - centre)
    return np.flatnonzero((x < reach[0]) & (y < reach[1]) & (z < reach[2]))


def mirrored(p: Floats) -> Floats:
    """Points ``(3, n)`` with the left side folded onto the right one."""
    return np.stack([np.abs(p[0]), p[1], p[2]])
