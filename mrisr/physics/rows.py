"""The rows of ``H``: one matrix per axis for every degradation and every interpolation.

Grids: voxel centres at integers. Low-resolution voxel ``i`` of an axis degraded by ``factor``
covers the high-resolution interval ``[i * factor - 1/2, (i + 1) * factor - 1/2]``, so both grids
share their first edge (see :func:`mrisr.core.geometry.resampled_grid`).
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mrisr.core.options import KINDS, Kind

Interpolation: TypeAlias = Literal["bicubic", "bicubic-sharp", "bspline", "lanczos", "linear"]
Matrix: TypeAlias = NDArray[np.float64]

#: Singular values of an axis matrix below this fraction of the largest are not inverted: they carry
#: more noise than signal. Every default operator of the project lies far above it.
PINV_RCOND = 1e-3


# --- kernels, as functions of the distance in units of their own grid ---------------------------


def keys_cubic(t: Matrix, a: float = -0.5) -> Matrix:
    """Keys' cubic convolution kernel (Keys 1981), the one of "bicubic" in Pillow and PyTorch's antialias."""
    t = np.abs(t)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.asarray(np.where(t < 1, near, np.where(t < 2, far, 0.0)), dtype=np.float64)


def _lanczos3(t: Matrix) -> Matrix:
    return np.where(np.abs(t) < 3, np.sinc(t) * np.sinc(t / 3), 0.0)


def _triangle(t: Matrix) -> Matrix:
    return np.maximum(0.0, 1.0 - np.abs(t))


def _cubic_bspline(t: Matrix) -> Matrix:
    t = np.abs(t)
    near = 2 / 3 - t * t + t**3 / 2
    return np.where(t < 1, near, np.where(t < 2, (2 - t) ** 3 / 6, 0.0))


def _centres(n: int, factor: float) -> Matrix:
    """Centres of ``n`` low-resolution voxels in high-resolution index units, shape ``(n, 1)``."""
    return (np.arange(n, dtype=np.float64)[:, None] + 0.5) * factor - 0.5


def _normalised(weights: Matrix) -> Matrix:
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)


# --- rows of H ----------------------------------------------------------------------------------


def _kspace_rows(n_low: int, n_high: int, factor: float) -> Matrix:
    """Windowless crop of the spectrum to ``|k| <= n_low / 2``, same (periodic) field of view.

    The limit is ``n_high / (2 factor)`` where the factor divides; elsewhere it keeps as many
    frequencies as there are samples, so the rows stay independent.
    """
    limit = n_low / 2
    k = np.arange(1, int(np.floor(limit)) + 1)
    weight = np.where(np.isclose(k, limit), 0.5, 1.0)  # a Nyquist line is shared by both signs
    phase = 2 * np.pi * (np.arange(n_high) - _centres(n_low, factor)) / n_high
    return (1.0 + 2.0 * np.cos(phase[..., None] * k) @ weight) / n_high


def _gaussian_rows(n_low: int, n_high: int, factor: float, fwhm: float) -> Matrix:
    """Gaussian slice profile, integrated over each high-resolution voxel; ``fwhm`` in those voxels."""
    from scipy.special import erf

    sigma = fwhm / np.sqrt(8 * np.log(2))
    edges = (np.arange(n_high + 1) - 0.5 - _centres(n_low, factor)) / (np.sqrt(2) * sigma)
    return _normalised(np.diff(erf(edges), axis=1))


def _box_rows(n_low: int, n_high: int, factor: float, width: float) -> Matrix:
    """Box slice profile: the overlap of each high-resolution voxel with a slab of ``width`` voxels.

    A voxel that is covered in part counts at the centre of that part, between it and its
    neighbour, so a slab's first moment is exact also where its edges fall inside voxels.
    """
    centre = _centres(n_low, factor)
    edges = np.clip(np.arange(n_high + 1) - 0.5, centre - width / 2, centre + width / 2)
    covered = np.diff(edges, axis=1)
    offset = (edges[:, 1:] + edges[:, :-1]) / 2 - np.arange(n_high)
    offset = np.where(covered > 0, offset, 0.0)
    offset[:, 0] = offset[:, 0].clip(min=0)
    offset[:, -1] = offset[:, -1].clip(max=0)
    rows = covered * (1 - np.abs(offset))
    rows[:, 1:] += (covered * offset.clip(min=0))[:, :-1]
    rows[:, :-1] += (covered * (-offset).clip(min=0))[:, 1:]
    return _normalised(rows)


@lru_cache(maxsize=512)
def degradation_matrix(
    kind: Kind, n_high: int, factor: float, thickness: float = 1.0, n_low: int | None = None
) -> Matrix:
    """``H`` of one axis, shape ``(n_low, n_high)``, float64, read-only; rows sum to one.

    Args:
        kind: ``bicubic`` is the anti-aliased Keys kernel widened by the factor (equal to
            PyTorch's ``interpolate(mode="bicubic", antialias=True)``); ``kspace`` truncates the
            spectrum, as a scanner does; ``gaussian`` (FWHM) and ``box`` are slice profiles.
        n_high: voxels of the high-resolution axis.
        factor: spacing of the low-resolution axis over that of the high-resolution axis, >= 1.
        thickness: slice thickness over slice *spacing* (1: contiguous; < 1: gap; > 1: overlap).
            Only slice profiles use it.
        n_low: voxels of the low-resolution axis; by default ``round(n_high / factor)``.

    Raises:
        ValueError: for an unknown kind, a factor below 1 or a thickness that is not positive.
    """
    if factor < 1 or thickness <= 0:
        raise ValueError(f"factor must be >= 1 and thickness > 0, got {factor} and {thickness}")
    low = n_low or max(1, round(n_high / factor))
    if kind == "bicubic":
        rows = _normalised(keys_cubic((np.arange(n_high) - _centres(low, factor)) / factor))
    elif kind == "kspace":
        rows = _kspace_rows(low, n_high, factor)
    elif kind == "gaussian":
        rows = _gaussian_rows(low, n_high, factor, thickness * factor)
    elif kind == "box":
        rows = _box_rows(low, n_high, factor, max(thickness * factor, 1.0))
    else:
        raise ValueError(f"unknown degradation {kind!r}, expected one of {', '.join(KINDS)}")
    rows.setflags(write=False)
    return rows


# --- rows of the interpolation matrices ---------------------------------------------------------


@lru_cache(maxsize=512)
def interpolation_matrix(kind: Interpolation, n_low: int, factor: float, n_high: int) -> Matrix:
    """Matrix ``(n_high, n_low)`` that evaluates an interpolant of ``n_low`` samples on the fine grid.

    ``bicubic`` (Keys, a = -1/2), ``lanczos`` (3 lobes) and ``linear`` renormalise their weights at
    the border; ``bicubic-sharp`` (Keys, a = -3/4, edge voxels repeated) is what PyTorch's
    ``interpolate(mode="bicubic")`` and OpenCV do; ``bspline`` is the interpolating cubic B-spline
    with half-sample mirror borders, equal to ``scipy.ndimage`` with ``order=3, mode="reflect"``.
    """
    position: Matrix = (np.arange(n_high, dtype=np.float64)[:, None] + 0.5) / factor - 0.5
    if kind == "bspline":
        samples = np.arange(n_low, dtype=np.float64)[:, None]
        rows = _spline_rows(position, n_low) @ np.linalg.inv(_spline_rows(samples, n_low))
    elif kind == "bicubic-sharp":
        rows = _folded(
            keys_cubic(position - _reach(n_low), a=-0.75), np.clip(_reach(n_low), 0, n_low - 1)
        )
    else:
        kernels: dict[str, Callable[[Matrix], Matrix]] = {
            "bicubic": keys_cubic,
            "lanczos": _lanczos3,
            "linear": _triangle,
        }
        position = np.clip(position, 0.0, n_low - 1.0)
        rows = _normalised(kernels[kind](position - np.arange(n_low)))
    rows.setflags(write=False)
    return rows


def _spline_rows(position: Matrix, n: int) -> Matrix:
    """Cubic B-spline basis at ``position`` (m, 1) over ``n`` coefficients mirrored at both edges."""
    folded = np.mod(_reach(n), 2 * n)
    folded = np.where(folded >= n, 2 * n - 1 - folded, folded)
    return _folded(_cubic_bspline(position - _reach(n)), folded)


def _reach(n: int) -> NDArray[np.int64]:
    """Indices of ``n`` samples and of three beyond either edge."""
    return np.arange(-3, n + 3)


def _folded(weights: Matrix, target: NDArray[np.int64]) -> Matrix:
    """Weights of samples beyond the edges added to the samples inside that stand for them."""
    rows = np.zeros((len(weights), int(target.max()) + 1))
    np.add.at(rows.T, target, weights.T)
    return rows


@lru_cache(maxsize=512)
def pseudo_inverse(kind: Kind, n_high: int, factor: float, thickness: float, n_low: int) -> Matrix:
    """``H^+`` of one axis, shape ``(n_high, n_low)``; arguments as :func:`degradation_matrix`."""
    h = degradation_matrix(kind, n_high, factor, thickness, n_low)
    return np.asarray(np.linalg.pinv(h, rcond=PINV_RCOND), dtype=np.float64)


def condition_length(kinds: Sequence[str], noise: bool = False) -> int:
    """Length of the vector by which a network conditioned on ``kinds``, and on the noise or not, is told the
    degradation (:func:`mrisr.physics.separable.describe`)."""
    return 2 + len(kinds) + 1 + noise
