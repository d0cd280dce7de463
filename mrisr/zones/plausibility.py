"""Doubts about zones: whether what was found lies where a prostate lies, and has its size and order.

The limits are own choices, and wide. Zones beyond them were not found well, or are worth a look for another
reason; zones within them may still be wrong.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrisr.core.volume import Volume
from mrisr.zones.labels import TITLES, ZONES
from mrisr.zones.score import zone_volumes_ml

#: Farthest that the gland's middle may lie from the middle of the field within axial slices, mm.
OFF_CENTRE_MM = 40.0
#: Smallest and largest gland, ml.
SIZES_ML = (10.0, 250.0)
#: Share of the gland that may lie apart from its largest piece.
STRAY = 0.1
#: How far the peripheral zone's middle may lie in front of the transition zone's, mm.
IN_FRONT_MM = 5.0
#: Glands found in two volumes of one study: the larger over the smaller, and mm between their middles.
SIZE_RATIO, APART_MM = 1.6, 12.0

Point = NDArray[np.float64]


def doubts(labels: Volume) -> tuple[str, ...]:
    """Reasons to look at zones, in words; none where they are plausible."""
    from scipy import ndimage

    gland = labels.array != 0
    middle = centroid(labels, gland)
    if middle is None:
        return ("no prostate was found",)
    found = []
    field = labels.affine[:3, :3] @ ((np.array(labels.shape) - 1) / 2) + labels.affine[:3, 3]
    away = float(np.hypot(*(middle - field)[:2]))
    if away > OFF_CENTRE_MM:
        found.append(f"the zones lie {away:.0f} mm from the middle of the field")
    ml, (low, high) = sum(zone_volumes_ml(labels).values()), SIZES_ML
    if not low <= ml <= high:
        found.append(f"a gland of {ml:.1f} ml, where {low:g} to {high:g} are usual")
    pieces = np.bincount(ndimage.label(gland)[0].ravel())[1:]
    stray = 1 - pieces.max() / pieces.sum()
    if stray > STRAY:
        found.append(f"{100 * stray:.0f}% of the gland lies in pieces apart from it")
    middles = {zone: centroid(labels, labels.array == n) for zone, n in ZONES.items()}
    found += [f"no {TITLES[zone]} was found" for zone, at in middles.items() if at is None]
    peripheral, transition = middles["PZ"], middles["TZ"]
    if peripheral is not None and transition is not None:
        front = float(peripheral[1] - transition[1])
        if front > IN_FRONT_MM:
            found.append(f"the peripheral zone lies {front:.0f} mm in front of the transition zone")
    return tuple(found)


def disagreements(labels: Volume, measured: Volume) -> tuple[str, ...]:
    """Contradictions between zones found in a volume and in the measured one it was made of, in words."""
    volumes = labels, measured
    here, there = (centroid(v, v.array != 0) for v in volumes)
    if here is None or there is None:
        return ()
    found = []
    ml, before = (sum(zone_volumes_ml(v).values()) for v in volumes)
    if max(ml, before) > SIZE_RATIO * min(ml, before):
        found.append(f"a gland of {ml:.1f} ml, in the measured volume {before:.1f} ml")
    apart = float(np.linalg.norm(here - there))
    if apart > APART_MM:
        found.append(f"the gland lies {apart:.0f} mm from the one in the measured volume")
    return tuple(found)


def centroid(labels: Volume, mask: NDArray[np.bool_]) -> Point | None:
    """The middle of a mask, world mm, RAS; None where it is empty."""
    at = np.argwhere(mask)
    if not len(at):
        return None
    middle: Point = labels.affine[:3, :3] @ at.mean(axis=0) + labels.affine[:3, 3]
    return middle
