"""Labels of the zones of the prostate: numbers and names, their values, and the image that they belong to."""

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.volume import Storage, Volume

BACKGROUND, PZ, TZ = 0, 1, 2
#: Short name of a zone -> its label.
ZONES: dict[str, int] = {"PZ": PZ, "TZ": TZ}
#: Distance from a whole number up to which a value is one that a conversion has blurred.
WHOLE = 1e-2

_WORDS: dict[int, tuple[str, ...]] = {
    BACKGROUND: ("background", "bg", "none", "nothing"),
    PZ: ("pz", "peripheral zone", "peripheral"),
    # Seen on T2w, the central gland is the transition zone with the little that surrounds it.
    TZ: ("tz", "transition zone", "transitional zone", "transition", "central gland", "cg"),
}

#: Words of a name that do not tell a zone.
_FILLERS = {"", "mask", "label", "segmentation", "roi", "prostate", "structure", "of", "the"}


class Misplaced(InputError):
    """Labels that do not lie on the voxels of the image."""


def zone_of(name: object) -> int | None:
    """The label that a name stands for, or `None`.

    >>> zone_of("Peripheral zone of the prostate"), zone_of("TransitionZone_mask"), zone_of("lesion")
    (1, 2, None)
    """
    words = re.split(r"[\s_\-.]+|(?<=[a-z])(?=[A-Z])", str(name))
    text = " ".join(w for w in map(str.lower, words) if w not in _FILLERS)
    return next((label for label, known in _WORDS.items() if text in known), None)


def unnamed(name: str) -> bool:
    """Tell whether a name is what an editor calls a segment that nobody has named, such as ``Segment_1``."""
    return re.fullmatch(r"(segment|label)?[ _]*\d*", name.strip().lower()) is not None


def zones_of(names: Mapping[int, str]) -> dict[int, int] | None:
    """Label of each of the numbers whose names are zones'; `None` where they name not both of them."""
    known = {number: zone_of(name) for number, name in names.items()}
    found = {number: zone for number, zone in known.items() if zone is not None}
    return found if set(ZONES.values()) <= set(found.values()) else None


def named(names: Mapping[int, str]) -> str:
    """Numbers and their names, for a message."""
    told = ", ".join(f"{n} {' '.join(str(name).split())!r}" for n, name in names.items())
    return told[:300] or "no names"


def whole(array: NDArray[np.generic]) -> tuple[NDArray[np.generic], tuple[str, ...]]:
    """Labels without what a conversion through fractions or a slope has added, and a note where it had."""
    if array.dtype.kind in "iub":
        return array, ()
    rounded = np.rint(array)
    off = float(np.abs(array - rounded).max(initial=0))
    if off == 0 or not off <= WHOLE:
        return array, ()
    return rounded, (f"labels rounded to whole numbers, from which they were up to {off:.2g} off",)


def zone_labels(labels: Volume) -> tuple[Volume, tuple[str, ...]]:
    """Labels in uint8, rounded where they are within 0.01 of a whole number, and a note where they were.

    Raises:
        InputError: there are other values than the background's and the zones'.
    """
    array, notes = whole(labels.array)
    known = (BACKGROUND, *ZONES.values())
    other = sorted(set(np.unique(array).tolist()) - set(known))
    if other:
        more = f" and {len(other) - 5} more" if len(other) > 5 else ""
        found = ", ".join(repr(v).removesuffix(".0") for v in other[:5]) + more
        raise InputError(labels.name, expected=f"the labels {_listed(known)}", found=found)
    array = array.astype(np.uint8, copy=False)
    return replace(labels, array=array, storage=Storage(array.dtype)), notes


def belonging_to(image: Volume, labels: Volume) -> tuple[Volume, tuple[str, ...]]:
    """Labels on the array axes of the image whose voxels they share, and a note where axes were turned.

    Raises:
        Misplaced: they do not lie on the image's voxels, within a hundredth of one.
    """
    placed = geometry.placed(labels.array, labels.affine, image.affine)
    if placed is not None and placed[0].shape == image.shape and not any(placed[1]):
        codes = [geometry.axis_codes(v.affine) for v in (labels, image)]
        notes = (f"labels brought from {codes[0]} to the image's {codes[1]}",)
        return (
            replace(image, array=placed[0], storage=labels.storage, name=labels.name),
            notes if codes[0] != codes[1] else (),
        )
    raise misplaced(image, labels)


def misplaced(image: Volume, labels: Volume) -> Misplaced:
    """The error that says how labels lie beside the voxels of an image."""
    place = ""
    if labels.shape == image.shape:
        codes = [geometry.axis_codes(v.affine) for v in (labels, image)]
        mm = geometry.apart_mm(image.shape, image.affine, labels.affine)
        place = f", in another place (up to {mm:.2g} mm apart"
        place += f", axes {codes[0]} and not {codes[1]})" if codes[0] != codes[1] else ")"
    expected = f"labels on the grid of {image.name} ({grid_of(image)})"
    return Misplaced(labels.name, expected=expected, found=f"{grid_of(labels)}{place}")


def grid_of(volume: Volume) -> str:
    """A grid in words, such as ``4x5x6 voxels of 0.5x0.5x3 mm``."""
    voxels, mm = "x".join(map(str, volume.shape)), "x".join(f"{s:.4g}" for s in volume.spacing)
    return f"{voxels} voxels of {mm} mm"


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))
