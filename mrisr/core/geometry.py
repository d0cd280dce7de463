"""Voxel grids in world space: affine, spacing, plane, and the grid of an upsampled volume.

Every affine here is 4x4, float64, and maps voxel indices ``(i, j, k)`` (voxel centres at integers)
to world coordinates in **RAS millimetres**, as NIfTI does. DICOM and ITK are LPS; their readers and
writers convert. Nothing in this module assumes an order or a direction of the array axes.
"""

from collections.abc import Sequence
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Affine: TypeAlias = NDArray[np.float64]
Scalar = TypeVar("Scalar", bound=np.generic)

#: World coordinates in LPS (DICOM, ITK) to RAS; its own inverse.
LPS_TO_RAS: Affine = np.diag([-1.0, -1.0, 1.0, 1.0])

#: Voxels nearer to each other than this share of one are in the same place: converters round.
SAME_VOXEL = 1e-2

#: Plane that a stack shows when its slices are stacked along the world axis R-L, A-P or S-I.
PLANES = ("sagittal", "coronal", "axial")
#: Directions of the slices, rows and columns of each plane as pictures show them.
DISPLAYED = {"sagittal": "RIP", "coronal": "PIL", "axial": "SPL"}


def spacing(affine: Affine) -> NDArray[np.float64]:
    """Distance in mm between neighbouring voxel centres along each array axis, shape ``(3,)``."""
    return np.asarray(np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0))


def directions(affine: Affine) -> NDArray[np.float64]:
    """Unit vectors of the array axes as columns of a 3x3 matrix, in RAS."""
    return np.asarray(affine, dtype=np.float64)[:3, :3] / spacing(affine)


def world_axes(affine: Affine) -> tuple[int, int, int]:
    """World axis (0 R-L, 1 A-P, 2 S-I) that each array axis runs along most closely, each used once.

    The assignment maximises the summed absolute cosine, so oblique stacks (even near 45 degrees)
    get three different axes.
    """
    from itertools import permutations

    cosines = np.abs(directions(affine))
    best = max(permutations(range(3)), key=lambda p: sum(cosines[p[a], a] for a in range(3)))
    return best[0], best[1], best[2]


def axis_codes(affine: Affine) -> str:
    """Orientation such as ``"LPS"``: the direction in which each array axis increases."""
    axes = world_axes(affine)
    d = directions(affine)
    return "".join(("LR", "PA", "IS")[w][int(d[w, a] > 0)] for a, w in enumerate(axes))


def reoriented(
    array: NDArray[Scalar], affine: Affine, codes: str
) -> tuple[NDArray[Scalar], Affine]:
    """A view of the same voxels in the same places with array axes along ``codes`` such as ``"LPS"``.

    >>> coronal = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    >>> reoriented(np.zeros((2, 3, 4)), coronal, "LPS")[0].shape
    (2, 4, 3)
    """
    from nibabel import orientations

    turn = orientations.ornt_transform(
        orientations.axcodes2ornt(axis_codes(affine)), orientations.axcodes2ornt(codes)
    )
    moved = affine @ orientations.inv_ornt_aff(turn, array.shape)
    return orientations.apply_orientation(array, turn), moved


def slice_axis(affine: Affine) -> int:
    """Array axis along which the slices are stacked: the one with the coarsest spacing.

    Spacings within 1% of the coarsest count as equal, and the last such axis wins, because
    stacks are stored slice by slice along the last axis.
    """
    s = spacing(affine)
    return int(np.flatnonzero(s >= 0.99 * s.max())[-1])


def plane(affine: Affine, axis: int | None = None) -> str:
    """``"axial"``, ``"coronal"`` or ``"sagittal"``: the plane of slices stacked along ``axis``."""
    return PLANES[world_axes(affine)[slice_axis(affine) if axis is None else axis]]


def resampled_size(size: int, factor: float) -> int:
    """Voxels along an axis of ``size`` voxels after upsampling by ``factor``: ``round(size * factor)``."""
    return max(1, int(np.floor(size * factor + 0.5)))


def resampled_grid(
    shape: Sequence[int], affine: Affine, factors: Sequence[float]
) -> tuple[tuple[int, int, int], Affine]:
    """Grid upsampled by ``factors`` (one for each array axis; < 1 coarsens) over the same field of view.

    ``A_new = A @ [[diag(1/s), (1/s - 1)/2], [0, 1]]``: the first voxel's *edge* stays where it was,
    its centre moves, so structures keep their world position. The spacing is exactly the old
    spacing divided by the factor; with a fractional factor the far edge moves by less than half a
    new voxel.
    """
    inverse = 1.0 / np.asarray(factors, dtype=np.float64)
    step = np.diag([*inverse, 1.0])
    step[:3, 3] = (inverse - 1.0) / 2.0
    sizes = [resampled_size(n, f) for n, f in zip(shape, factors, strict=True)]
    return (sizes[0], sizes[1], sizes[2]), np.asarray(affine, dtype=np.float64) @ step


def same_grid(
    shape: Sequence[int], affine: Affine, other_shape: Sequence[int], other_affine: Affine
) -> bool:
    """Tell whether two grids have the same voxels: equal shapes, and no corner moved by more than a hundredth
    of a voxel along any axis."""
    if tuple(shape) != tuple(other_shape):
        return False
    apart = np.linalg.inv(affine) @ other_affine - np.eye(4)
    return bool(np.abs(_corners(shape) @ apart.T).max() <= SAME_VOXEL)


def apart_mm(shape: Sequence[int], affine: Affine, other_affine: Affine) -> float:
    """The largest distance in mm between the same corners of two grids of one shape."""
    apart = _corners(shape) @ (np.asarray(affine) - np.asarray(other_affine)).T
    return float(np.linalg.norm(apart[:, :3], axis=1).max())


def placed(
    array: NDArray[Scalar], affine: Affine, target: Affine
) -> tuple[NDArray[Scalar], tuple[int, int, int]] | None:
    """Voxels with the array axes of another grid on whose voxels they lie, within a hundredth of one.

    Returns:
        A view of the array, its axes exchanged and flipped, and the index of its first voxel in the grid
        ``target``, which may lie outside of it; `None` where voxels lie between those of the grid.
    """
    relative = np.linalg.inv(target) @ affine
    exact = np.rint(relative)
    turn = exact[:3, :3]
    if (np.abs(turn).sum(0) != 1).any() or (np.abs(turn).sum(1) != 1).any():
        return None
    if np.abs(_corners(array.shape) @ (relative - exact).T).max() > SAME_VOXEL:
        return None
    ends = np.array([exact[:3, 3], exact[:3, 3] + turn @ (np.array(array.shape) - 1)])
    order = [int(axis) for axis in np.abs(turn).argmax(axis=1)]
    flips = tuple(i for i, axis in enumerate(order) if turn[i, axis] < 0)
    i, j, k = (int(n) for n in ends.min(axis=0))
    return np.flip(array.transpose(order), flips), (i, j, k)


def _corners(shape: Sequence[int]) -> NDArray[np.float64]:
    """Indices of the corner voxels of a grid, ``(8, 4)``, homogeneous."""
    ends = [(0.0, n - 1.0) for n in shape]
    return np.array([(i, j, k, 1.0) for i in ends[0] for j in ends[1] for k in ends[2]])
