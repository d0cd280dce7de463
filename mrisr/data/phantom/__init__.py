"""A digital T2-weighted prostate MRI study, to test and to teach with no patient's data: its scanner.

The anatomy is a function of position, so axial, coronal, oblique, thick and isotropic scans of one
seed show one patient. A voxel's value is the average of the tissue under its slice profile and
over its area in the plane, not a point sample.
"""

from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from mrisr.core import geometry
from mrisr.core.errors import UsageError
from mrisr.core.volume import Storage, Volume
from mrisr.data.phantom.anatomy import RANGE as RANGE
from mrisr.data.phantom.anatomy import Floats, anatomy, gland_distances, intensities, warped

#: Labels of the peripheral and the transition zone; 0 is everything else.
PZ, TZ = 1, 2

_CHUNK = 16384  # points worked on at once: few enough for the processor's cache
_FWHM = float(2 * np.sqrt(2 * np.log(2)))  # of a Gaussian with unit standard deviation
_AXES = {  # directions of the array axes as scanners store the planes: LPS, LIP, PIR
    "axial": ((-1, 0, 0), (0, -1, 0), (0, 0, 1)),
    "coronal": ((-1, 0, 0), (0, 0, -1), (0, -1, 0)),
    "sagittal": ((0, -1, 0), (0, 0, -1), (1, 0, 0)),
}


def tissue(points: ArrayLike, seed: int = 0) -> Floats:
    """Intensities (0 to ``RANGE``) of patient ``seed`` at world points ``(..., 3)``, mm RAS.

    Raises UsageError for points of another shape.
    """
    patient = anatomy(seed)
    return _evaluate(points, lambda p: intensities(p, patient))


def labels(points: ArrayLike, seed: int = 0) -> NDArray[np.uint8]:
    """Zone labels at world points as for :func:`tissue`: 0 background, 1 peripheral, 2 transition zone."""
    patient = anatomy(seed)

    def zones(p: Floats) -> NDArray[np.uint8]:
        gland, tz, _ = gland_distances(warped(p, patient), patient)
        return np.where(gland < 0, np.where(tz < 0, TZ, PZ), 0).astype(np.uint8)

    return _evaluate(points, zones)


def phantom_affine(
    shape: Sequence[int],
    plane: str = "axial",
    spacing: Sequence[float] = (0.75, 0.75, 3.0),
    obliquity: float = 0.0,
) -> geometry.Affine:
    """Affine of a stack centred on the gland, its slices along the last array axis.

    Args:
        shape: voxels along the array axes.
        plane: ``"axial"`` (stored LPS), ``"coronal"`` (LIP) or ``"sagittal"`` (PIR).
        spacing: mm, in the plane twice, then between slices.
        obliquity: degrees of rotation about the R-L axis (about S-I for a sagittal stack).

    Raises:
        UsageError: ``plane`` is none of the three.
    """
    if plane not in _AXES:
        raise UsageError(f"plane: expected one of {', '.join(_AXES)}, found {plane!r}")
    c, s = np.cos(np.radians(obliquity)), np.sin(np.radians(obliquity))
    about_x, about_z = [[1, 0, 0], [0, c, -s], [0, s, c]], [[c, -s, 0], [s, c, 0], [0, 0, 1]]
    turn = np.array(about_z if plane == "sagittal" else about_x, dtype=np.float64)
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.transpose(_AXES[plane]) * np.asarray(spacing, dtype=np.float64)
    affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(shape, dtype=np.float64) - 1) / 2)
    return affine


def phantom(
    shape: tuple[int, int, int] = (192, 192, 20),
    affine: geometry.Affine | None = None,
    *,
    plane: str = "axial",
    spacing: Sequence[float] = (0.75, 0.75, 3.0),
    slice_thickness: float | None = None,
    obliquity: float = 0.0,
    seed: int = 0,
    noise: float = 0.0,
    dtype: DTypeLike = np.uint16,
) -> Volume:
    """Scan patient ``seed``: the tissue averaged under every voxel's profile.

    Args:
        shape: voxels along the array axes.
        affine: any grid; without one, :func:`phantom_affine` makes it from ``plane``, ``spacing``
            and ``obliquity``, which are not used otherwise.
        slice_thickness: mm, full width at half maximum of the Gaussian profile along the coarsest
            axis; without one, the slice spacing.
        noise: standard deviation of the Rician noise as a fraction of ``RANGE``; one seed always
            draws the same noise on the same shape.
        dtype: of the voxels; integers are rounded.

    Raises:
        UsageError: ``plane`` is unknown, or a thickness or noise is out of range.
    """
    grid = phantom_affine(shape, plane, spacing, obliquity) if affine is None else affine
    axis = geometry.slice_axis(grid)
    gap = float(geometry.spacing(grid)[axis])
    thickness = gap if slice_thickness is None else float(slice_thickness)
    if thickness <= 0 or noise < 0:
        raise UsageError(f"expected thickness > 0 and noise >= 0, found {thickness} mm and {noise}")
    values = _scan(shape, grid, axis, _offsets(thickness, gap), seed)
    values = _rician(values, noise * RANGE, seed) if noise else values
    storage = Storage(np.dtype(dtype))
    name = f"phantom-{geometry.plane(grid)}"
    return Volume(storage.encode(values), grid, storage, slice_thickness=thickness, name=name)


def label_volume(shape: tuple[int, int, int], affine: geometry.Affine, seed: int = 0) -> Volume:
    """Zone labels (uint8) of patient ``seed`` at the voxel centres of a grid."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    points = index @ affine[:3, :3].T + affine[:3, 3]
    return Volume(labels(points, seed), affine, Storage(np.dtype(np.uint8)), name="phantom-zones")


def _evaluate(points: ArrayLike, function: Callable[[Floats], NDArray[Any]]) -> NDArray[Any]:
    """Apply a function of points ``(3, n)`` to points ``(..., 3)``, chunk by chunk."""
    p = np.asarray(points, dtype=np.float32)
    if p.ndim == 0 or p.shape[-1] != 3:
        raise UsageError(f"points: expected a last axis of 3 (x, y, z), found shape {p.shape}")
    flat = np.ascontiguousarray(p.reshape(-1, 3).T)
    parts = [function(flat[:, i : i + _CHUNK]) for i in range(0, max(1, flat.shape[1]), _CHUNK)]
    return np.concatenate(parts).reshape(p.shape[:-1])


def _rician(values: Floats, sigma: float, seed: int) -> Floats:
    """Magnitude of the signal with Gaussian noise on its real and its imaginary part."""
    rng = np.random.default_rng((seed, *values.shape))
    real, imaginary = rng.standard_normal((2, *values.shape), dtype=np.float32) * np.float32(sigma)
    return np.asarray(np.hypot(values + real, imaginary))


def _offsets(thickness: float, gap: float) -> NDArray[np.float64]:
    """Sample positions under one voxel, in voxels: two in the plane, then one through it; ``(n, 3)``.

    Positions through the plane carry equal shares of the profile and have its exact standard
    deviation. The four quarters of the pixel take turns, two at every position.
    """
    count = int(np.clip(np.ceil(thickness / 0.5), 2, 6))
    through = np.array([NormalDist().inv_cdf((n + 0.5) / count) for n in range(count)])
    through *= thickness / gap / _FWHM / through.std()
    offsets = np.empty((count, 2, 3))
    offsets[:, :, 2] = through[:, None]
    offsets[:, :, 0] = [-0.25, 0.25]
    offsets[::2, :, 1] = [-0.25, 0.25]
    offsets[1::2, :, 1] = [0.25, -0.25]
    return offsets.reshape(-1, 3)


def _scan(
    shape: tuple[int, int, int],
    affine: geometry.Affine,
    axis: int,
    offsets: NDArray[np.float64],
    seed: int,
) -> Floats:
    """Average the tissue over ``offsets`` at every voxel, slice by slice along ``axis``."""
    world = geometry.world_axes(affine)
    order = [*sorted({0, 1, 2} - {axis}, key=lambda a: world[a]), axis]
    matrix, origin = affine[:3, order], affine[:3, 3:]
    signs = np.sign([affine[world[a], a] for a in order])  # the same samples in a flipped array
    rows, columns, slices = (shape[a] for a in order)
    samples = (signs * offsets) @ matrix.T  # mm from a voxel's centre
    pixels = matrix[:, :2] @ np.indices((rows, columns)).reshape(2, -1)
    values = np.empty((rows, columns, slices), np.float32)
    for k in range(slices):
        centres = (pixels + matrix[:, 2:] * k + origin).T
        parts = tissue(centres + samples[:, None], seed)
        values[:, :, k] = parts.mean(axis=0).reshape(rows, columns)
    return np.ascontiguousarray(np.moveaxis(values, [0, 1, 2], order))
