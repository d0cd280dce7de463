"""Agreement of labels of the zones: Dice, surface distances in mm, volumes in ml."""

import math
import warnings
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.labels import BACKGROUND, ZONES, grid_of, misplaced, zone_labels
from mrisr.core.volume import Storage, Volume

#: Weight by which one half of a voxel counts more along each axis in :func:`to_grid`: far less than matters,
#: enough to settle ties, and different so that the corners of a square differ too. Own choice, as is the rule
#: of even and odd voxels, after rounding half to even (IEEE 754-2019, 4.3.1), which has no drift either.
TIE_WEIGHTS = (1e-3, 1.3e-3, 1.7e-3)

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class ZoneScore:
    """Scores of one zone; NaN where a figure is not defined: distances where either has nothing of it."""

    dice: float  #: NaN where the reference has nothing of the zone, 0 where only the result has nothing
    hd95_mm: float  #: 95th percentile of the symmetric Hausdorff distance
    asd_mm: float  #: symmetric average surface distance
    volume_ml: float  #: of the result
    reference_ml: float
    volume_bias_ml: float  #: the result's less the reference's

    def as_json(self) -> dict[str, float | None]:
        """The figures, `None` in the place of those that are not defined."""
        return {k: v if math.isfinite(v) else None for k, v in asdict(self).items()}


def score_zones(labels: Volume, reference: Volume) -> dict[str, ZoneScore]:
    """Scores of each zone, by its short name. Distances are between the surfaces' voxel centres, in mm.

    Raises:
        InputError: the two lie on different grids, or one holds other labels than those of the zones.
    """
    check_same_grid(labels, reference)
    labels, reference = zone_labels(labels)[0], zone_labels(reference)[0]
    here, wanted = zone_volumes_ml(labels), zone_volumes_ml(reference)
    found = {}
    for zone, label in ZONES.items():
        figures = _figures(labels.array == label, reference.array == label, labels.spacing)
        found[zone] = ZoneScore(*figures, here[zone], wanted[zone], here[zone] - wanted[zone])
    return found


def zone_volumes_ml(labels: Volume) -> dict[str, float]:
    """Volume of each zone in ml. Raises InputError where there are other labels than those of the zones."""
    labels, _ = zone_labels(labels)
    voxel = abs(float(np.linalg.det(labels.affine[:3, :3]))) / 1000
    return {zone: voxel * int(np.count_nonzero(labels.array == n)) for zone, n in ZONES.items()}


def check_same_grid(labels: Volume, image: Volume) -> None:
    """Refuse labels that do not lie on the voxels of an image. Raises InputError naming both grids."""
    if not geometry.same_grid(image.shape, image.affine, labels.shape, labels.affine):
        raise misplaced(image, labels)


def to_grid(labels: Volume, grid: Volume) -> Volume:
    """Labels brought to another grid over the same field of view: the one that holds most of each voxel.

    The grids' array axes must run along each other; factors may be fractional. Of two labels that hold a
    voxel alike the one farther along the axes has it in even voxels, the other in odd ones: always the one,
    or always the background, would move what is labelled or make it smaller.

    Args:
        labels: for example of a super-resolved volume.
        grid: for example the measured volume.

    Raises:
        InputError: the axes or the fields of view differ.
    """
    labels, _ = zone_labels(labels)
    steps = _steps(labels, grid)
    matrices = [
        _overlap(*step, n, m, more)
        for step, n, m, more in zip(steps, grid.shape, labels.shape, TIE_WEIGHTS, strict=True)
    ]
    shares = []
    for label in (BACKGROUND, *ZONES.values()):
        share: Matrix = (labels.array == label).astype(np.float32)
        for axis in (2, 1, 0):  # that of the slices first, which reduces most
            matrix = matrices[axis]
            if matrix is not None:
                share = np.moveaxis(np.tensordot(matrix, share, (1, axis)), 0, axis)
        shares.append(share)
    array = np.argmax(shares, axis=0).astype(np.uint8)
    return replace(grid, array=array, storage=Storage(array.dtype), name=labels.name)


def _figures(
    result: NDArray[np.bool_], reference: NDArray[np.bool_], spacing: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Dice, 95% Hausdorff distance and average surface distance of two masks."""
    import torch
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.meandice import compute_dice
    from monai.metrics.surface_distance import compute_average_surface_distance

    if not reference.any():
        return math.nan, math.nan, math.nan
    if not result.any():
        return 0.0, math.nan, math.nan
    box = tuple(slice(at.min(), at.max() + 1) for at in np.nonzero(result | reference))
    a, b = (
        torch.from_numpy(np.ascontiguousarray(m[box]))[None, None].float()
        for m in (result, reference)
    )
    mm: Any = {"include_background": True, "spacing": [float(s) for s in spacing]}
    with warnings.catch_warnings():
        # MONAI 1.6 warns of an argument that its own functions hand on.
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        dice = compute_dice(a, b, include_background=True)
        hausdorff = compute_hausdorff_distance(a, b, percentile=95.0, **mm)
        average = compute_average_surface_distance(a, b, symmetric=True, **mm)
    return float(dice), float(hausdorff), float(average)


def _steps(labels: Volume, grid: Volume) -> list[tuple[float, float]]:
    """Along each axis the labels' voxel size and their first voxel's centre, in voxels of the grid."""
    relative = np.linalg.inv(grid.affine) @ labels.affine
    size, start = np.diag(relative)[:3], relative[:3, 3]
    # A voxel at the far corner may not leave its row: what is off the diagonal, over all voxels.
    turned = np.abs(relative[:3, :3] - np.diag(size)) @ np.array(labels.shape)
    ends = np.array([start - size / 2, start + size * (np.array(labels.shape) - 0.5)])
    wanted = np.array([[-0.5] * 3, np.array(grid.shape) - 0.5])
    if (size <= 0).any() or (turned > 0.05).any():
        found = f"axes {geometry.axis_codes(labels.affine)}, or turned"
    elif (np.abs(ends - wanted) > np.maximum(0.5, size / 2) + 1e-3).any():
        found = grid_of(labels)
    else:
        return [(float(s), float(o)) for s, o in zip(size, start, strict=True)]
    where = f"{grid_of(grid)}, axes {geometry.axis_codes(grid.affine)}"
    expected = f"labels over the field of view of {grid.name} ({where})"
    raise InputError(labels.name, expected=expected, found=found)


def _overlap(size: float, start: float, n: int, m: int, more: float) -> Matrix | None:
    """Share ``(n, m)`` of each of ``n`` voxels that each of ``m`` voxels of the labels covers, whose ``size``
    and first centre ``start`` are in voxels of the grid; `None` where they are one by one. One half of a
    voxel counts ``more`` than the other, to settle ties."""
    if n == m and abs(size - 1) * n < 1e-3 and abs(start) < 1e-3:
        return None
    voxels = np.arange(n)[:, None]
    left = start + size * (np.arange(m)[None, :] - 0.5)

    def covered(low: NDArray[np.floating[Any]], width: float) -> NDArray[np.float64]:
        common: NDArray[np.float64] = np.minimum(low + width, left + size) - np.maximum(low, left)
        return np.maximum(common, 0)

    half = np.where(voxels % 2 == 0, voxels, voxels - 0.5)
    return (covered(voxels - 0.5, 1.0) + more * covered(half, 0.5)).astype(np.float32)
