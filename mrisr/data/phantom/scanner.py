"""A scanner for the digital prostate: the same patient on any grid, with real slice profiles.

The anatomy is a function of position, so axial, coronal, oblique, thick and isotropic scans of one
seed show one patient. A voxel's value is the average of the tissue under its slice profile and
over its area in the plane, not a point sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from mrisr.core import geometry
from mrisr.core.errors import UsageError
from mrisr.core.volume import Storage, Volume
from mrisr.data.phantom.anatomy import RANGE, anatomy, gland_distances, intensities, warped
from mrisr.data.phantom.shapes import Floats

#: Labels of the peripheral and the transition zone; 0 is everything else.
PZ, TZ = 1, 2

_CHUNK = 16384  # points worked on at once: few enough for the processor's cache
_FWHM = float(2 * np.sqrt(2 * np.log(2)))  # of a Gaussian with unit standard deviation
_STUDY = {"axial": (0.5, 0.5, 3.0), "coronal": (0.6, 0.6, 3.0), "sagittal": (0.5625, 0.5625, 3.6)}
_AXES = {  # directions of the array axes as scanners store the planes: LPS, LIP, PIR
    "axial": ((-1, 0, 0), (0, -1, 0), (0, 0, 1)),
    "coronal": ((-1, 0, 0), (0, 0, -1), (0, -1, 0)),
    "sagittal": ((0, -1, 0), (0, 0, -1), (1, 0, 0)),
}


def tissue(points: ArrayLike, seed: int = 0) -> Floats:
    """Intensities (0 to ``RANGE``) of patient ``seed`` at world points ``(..., 3)``, mm RAS.

    Raises:
        UsageError: the last axis of ``points`` is not 3.
    """
    patient = anatomy(seed)
    return _evaluate(points, lambda p: intensities(p, patient))


def labels(points: ArrayLike, seed: int = 0) -> NDArray[np.uint8]:
    """Zone labels at world points ``(..., 3)``: 0 background, 1 peripheral, 2 transition zone.

    Raises:
        UsageError: the last axis of ``points`` is not 3.
    """
    patient = anatomy(seed)

    def zones(p: Floats) -> NDArray[np.uint8]:
        gland, tz, _ = gland_distances(warped(p, patient), patient)
        return np.where(gland < 0, np.where(tz < 0, TZ, PZ), 0).astype(np.uint8)

    return _evaluate(points, zones)


def lesion(points: ArrayLike, seed: int = 0) -> NDArray[np.bool_]:
    """True where world points ``(..., 3)``, mm RAS, lie in the lesion.

    Raises:
        UsageError: the last axis of ``points`` is not 3.
    """
    patient = anatomy(seed)
    return _evaluate(points, lambda p: gland_distances(warped(p, patient), patient)[2] < 0)


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
    profile: str = "gaussian",
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
        slice_thickness: mm, full width at half maximum along the coarsest axis; without one, the
            slice spacing.
        profile: ``"gaussian"`` or ``"box"``.
        noise: standard deviation of the Rician noise as a fraction of ``RANGE``; one seed always
            draws the same noise on the same shape.
        dtype: of the voxels; integers are rounded.

    Raises:
        UsageError: ``plane`` or ``profile`` is unknown, or a thickness or noise is out of range.
    """
    grid = phantom_affine(shape, plane, spacing, obliquity) if affine is None else affine
    axis = geometry.slice_axis(grid)
    gap = float(geometry.spacing(grid)[axis])
    thickness = gap if slice_thickness is None else float(slice_thickness)
    if thickness <= 0 or noise < 0:
        raise UsageError(f"expected thickness > 0 and noise >= 0, found {thickness} mm and {noise}")
    values = _scan(shape, grid, axis, _offsets(thickness, gap, profile), seed)
    values = _rician(values, noise * RANGE, seed) if noise else values
    storage = Storage(np.dtype(dtype))
    name = f"phantom-{geometry.plane(grid)}"
    return Volume(storage.encode(values), grid, storage, slice_thickness=thickness, name=name)


def phantom_study(
    seed: int = 0,
    *,
    fov: float = 128.0,
    coverage: float = 60.0,
    noise: float = 0.01,
    truth: float | None = None,
) -> dict[str, Volume]:
    """The three planes of a clinical protocol: axial 0.5/3.0, coronal 0.6/3.0, sagittal 0.5625/3.6 mm.

    Args:
        fov: square field of view of the slices, mm.
        coverage: extent of every stack through its slices, mm.
        noise: as in :func:`phantom`.
        truth: spacing in mm of an isotropic, noise-free ``"truth"`` of the axial field of view.
    """
    study = {}
    for plane, step in _STUDY.items():
        shape = _shape(fov, coverage, step)
        study[plane] = phantom(shape, plane=plane, spacing=step, seed=seed, noise=noise)
    if truth is not None:
        step = (truth, truth, truth)
        study["truth"] = phantom(_shape(fov, coverage, step), spacing=step, seed=seed)
    return study


def label_volume(shape: tuple[int, int, int], affine: geometry.Affine, seed: int = 0) -> Volume:
    """Zone labels (uint8) of patient ``seed`` at the voxel centres of a grid."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    points = index @ affine[:3, :3].T + affine[:3, 3]
    return Volume(labels(points, seed), affine, Storage(np.dtype(np.uint8)), name="phantom-zones")


def _shape(fov: float, coverage: float, step: Sequence[float]) -> tuple[int, int, int]:
    return round(fov / step[0]), round(fov / step[1]), round(coverage / step[2])


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


def _offsets(thickness: float, gap: float, profile: str) -> NDArray[np.float64]:
    """Sample positions under one voxel, in voxels: two in the plane, then one through it; ``(n, 3)``.

    Positions through the plane carry equal shares of the profile and have its exact standard
    deviation. The four quarters of the pixel take turns, two at every position.
    """
    count = int(np.clip(np.ceil(thickness / 0.5), 2, 6))
    shares = (np.arange(count) + 0.5) / count
    if profile == "gaussian":
        through = np.array([NormalDist().inv_cdf(s) for s in shares])
        through *= thickness / gap / _FWHM / through.std()
    elif profile == "box":
        through = (shares - 0.5) * thickness / gap
    else:
        raise UsageError(f"profile: expected 'gaussian' or 'box', found {profile!r}")
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
    patient = anatomy(seed)
    world = geometry.world_axes(affine)
    order = sorted((a for a in range(3) if a != axis), key=lambda a: world[a]) + [axis]
    matrix, origin = affine[:3, order], affine[:3, 3:]
    signs = np.sign([affine[world[a], a] for a in order])  # the same samples in a flipped array
    size = [shape[a] for a in order]
    values = np.zeros((size[2], size[0] * size[1]), dtype=np.float32)
    pixels = np.indices((size[0], size[1])).reshape(2, -1)
    for k in range(size[2]):
        for start in range(0, pixels.shape[1], _CHUNK):
            part = pixels[:, start : start + _CHUNK]
            centres = matrix[:, :2] @ part + matrix[:, 2:] * k + origin
            for offset in offsets:
                p = (centres + (matrix @ (signs * offset))[:, None]).astype(np.float32)
                values[k, start : start + _CHUNK] += intensities(p, patient)
    stack = (values / np.float32(len(offsets))).reshape(size[2], size[0], size[1])
    return np.ascontiguousarray(np.moveaxis(np.moveaxis(stack, 0, 2), [0, 1, 2], order))
