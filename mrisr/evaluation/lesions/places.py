"""Dark discs in the images of a stack: where they lie, how they are put in; measured dark spots to erase."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.signal import fftconvolve

from mrisr.core.labels import ZONES

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
#: Rows and columns of a pixel, mm.
Pixel = tuple[float, float]

#: Width of the surround that a disc is compared with, mm; no other lesion reaches into it.
SURROUND_MM = 3.0
#: Places that are tried for one lesion in one image.
TRIES = 30
#: Points along each edge of a pixel by which its share of a disc is found.
_FINE = 5


class Template(NamedTuple):
    """A disc ``(2 h + 1, 2 w + 1)`` around a pixel's centre, 0 to 1, and the ring of its surround, 0 or 1."""

    disc: Floats
    ring: Floats


@cache
def template(diameter: float, pixel: Pixel) -> Template:
    """A disc as a scanner shows it: the share of every pixel that it covers, blurred by a Gaussian whose full
    width at half maximum is a pixel. ``diameter`` in mm; the ring begins a pixel outside."""
    reach = diameter / 2 + SURROUND_MM
    half = [int(np.ceil(reach / p)) for p in pixel]
    fine = [
        (np.arange(_FINE * (2 * n + 1)) + 0.5) / _FINE - n - 0.5 for n in half
    ]  # pixels from the centre
    inside = np.hypot(fine[0][:, None] * pixel[0], fine[1] * pixel[1]) <= diameter / 2
    shares = inside.reshape(2 * half[0] + 1, _FINE, 2 * half[1] + 1, _FINE).mean((1, 3))
    disc = gaussian_filter(shares, 1 / np.sqrt(8 * np.log(2)))
    rows, columns = (np.arange(-n, n + 1) * p for n, p in zip(half, pixel, strict=True))
    far = np.hypot(rows[:, None], columns)
    ring = (far > diameter / 2 + max(pixel)) & (far <= reach)
    return Template(disc.astype(np.float32), ring.astype(np.float32))


class Lesion(NamedTuple):
    """A disc in one image.

    Attributes:
        diameter: mm.
        contrast: share of the signal that it lacks; below 0 for a measured dark spot that is filled.
        centre: image, row and column.
    """

    zone: str
    diameter: float
    contrast: float
    centre: tuple[int, int, int]

    def window(self, pixel: Pixel) -> tuple[int, slice, slice]:
        """The part of the images ``(n, rows, columns)`` that its template covers."""
        image, *centre = self.centre
        half = [n // 2 for n in template(self.diameter, pixel).disc.shape]
        rows, columns = (slice(c - h, c + h + 1) for c, h in zip(centre, half, strict=True))
        return image, rows, columns


def with_lesions(images: Floats, lesions: Sequence[Lesion], pixel: Pixel) -> Floats:
    """Images with lesions: where there is one the signal, its texture included, is weaker by its contrast."""
    found = images.copy()
    for lesion in lesions:
        found[lesion.window(pixel)] *= 1 - lesion.contrast * template(lesion.diameter, pixel).disc
    return found


def contrast_at(images: Floats, lesion: Lesion, pixel: Pixel) -> float:
    """Contrast of the disc against its surround at a lesion's place: the answer of a template that is matched
    to the lesion and knows its place."""
    window = images[lesion.window(pixel)]
    disc, ring = (float((window * w).sum() / w.sum()) for w in template(lesion.diameter, pixel))
    return 1 - disc / max(ring, 1e-6)


def contrast_map(images: Floats, level: Floats, diameter: float, pixel: Pixel) -> Floats:
    """Contrast of a disc around every pixel of ``(n, rows, columns)`` against its surround, a share of
    ``level``."""
    disc, ring = template(diameter, pixel)
    weights = ring / ring.sum() - disc / disc.sum()
    found = _weighted(images, weights) / np.maximum(level, 1e-6)
    return np.asarray(found, dtype=np.float32)


def surround(images: Floats, diameter: float, pixel: Pixel) -> Floats:
    """Mean of the ring around every pixel."""
    ring = template(diameter, pixel).ring
    return _weighted(images, ring / ring.sum())


def _weighted(images: Floats, weights: Floats) -> Floats:
    """Sums of symmetric weights around every pixel; beyond the edge the images go on as they end."""
    (h, w), none = (n // 2 for n in weights.shape), (0, 0)
    padded = np.pad(images, (none, (h, h), (w, w)), mode="edge")
    return np.asarray(fftconvolve(padded, weights[None], mode="valid", axes=(1, 2)), np.float32)


def draw_lesions(
    zones: NDArray[np.uint8],
    pixel: Pixel,
    diameters: Sequence[float],
    contrasts: Sequence[float],
    passes: int,
    seed: int,
) -> list[list[Lesion]]:
    """Lesions for every image in several passes, as many as fit: discs inside the gland, centres in a zone,
    surrounds free of other lesions.

    Zones, diameters and contrasts come about equally often, as far as there is room for them.

    Args:
        zones: labels ``(n, rows, columns)``.
    """
    rng = np.random.default_rng(seed)
    counts = Counter(dict.fromkeys(product(ZONES, diameters, contrasts), 0))
    free = {d: room(zones, d, pixel) for d in diameters}
    found: list[list[Lesion]] = [[] for _ in range(passes)]
    for lesions, image in product(found, range(len(zones))):
        here: list[Lesion] = []
        for kind in sorted(counts, key=lambda k: (counts[k], rng.random())):
            places = np.argwhere(free[kind[1]][image] & (zones[image] == ZONES[kind[0]]))
            for row, column in rng.permutation(places)[:TRIES].tolist():
                lesion = Lesion(*kind, (image, row, column))
                if all(apart(lesion, other, pixel) for other in here):
                    here.append(lesion)
                    counts[kind] += 1
                    break
        lesions += here
    return found


def room(zones: NDArray[np.uint8], diameter: float, pixel: Pixel) -> Mask:
    """Where a disc lies inside the gland and its template inside the image."""
    inside = [distance_transform_edt(image, pixel) >= diameter / 2 for image in zones > 0]
    half = [n // 2 for n in template(diameter, pixel).disc.shape]
    found = np.zeros(zones.shape, dtype=bool)
    part = tuple(slice(h, max(n - h, h)) for h, n in zip(half, zones.shape[1:], strict=True))
    found[(slice(None), *part)] = np.array(inside)[(slice(None), *part)]
    return found


def apart(a: Lesion, b: Lesion, pixel: Pixel) -> bool:
    """Whether neither of two lesions reaches into the other's surround."""
    step = [(p - q) * mm for p, q, mm in zip(a.centre[1:], b.centre[1:], pixel, strict=True)]
    return bool(math.hypot(*step) >= (a.diameter + b.diameter) / 2 + SURROUND_MM)


def measured_spots(
    images: Floats,
    zones: NDArray[np.uint8],
    pixel: Pixel,
    diameters: Sequence[float],
    threshold: float,
) -> list[Lesion]:
    """The darkest spot of every image inside the gland, if its contrast reaches a threshold, as the lesion
    that erases it: its contrast makes the disc as bright as its surround."""
    darkest: dict[int, tuple[float, Lesion]] = {}
    names = {label: zone for zone, label in ZONES.items()}
    for d in diameters:
        found = contrast_map(images, surround(images, d, pixel), d, pixel)
        for image, values in enumerate(np.where(room(zones, d, pixel), found, 0)):
            row, column = (int(i) for i in np.unravel_index(values.argmax(), values.shape))
            dark = float(values[row, column])
            if dark > max(threshold, darkest.get(image, (0.0,))[0]):
                zone = names[int(zones[image, row, column])]
                darkest[image] = dark, Lesion(zone, d, -dark / (1 - dark), (image, row, column))
    return [spot for _, spot in darkest.values()]
