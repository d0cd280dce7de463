"""What is looked for in a restored image: lesions, spots that nobody put in, correlation that is lost."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from mrisr import metrics
from mrisr.config import Job
from mrisr.evaluation.lesions.places import Floats, Mask, Pixel, contrast_map, surround

#: Edge of the windows of the scanning Fourier ring correlation, mm; they overlap by half.
WINDOW_MM = 16.0
#: Correlation below which a ring is lost.
CORRELATED = 0.5


def area_under_curve(present: Sequence[float], absent: Sequence[float]) -> float:
    """Area under the ROC curve: how often a lesion's figure is above that of a place without one, ties half
    (Mann and Whitney's U). NaN where there are none.

    >>> area_under_curve([0.2, 0.3], [0.1, 0.2])
    0.875
    """
    if not len(present) or not len(absent):
        return float("nan")
    above = np.subtract.outer(present, absent)
    return float(np.mean((above > 0) + 0.5 * (above == 0)))


def spots(
    images: Floats, other: Floats, level: Floats, diameters: Sequence[float], pixel: Pixel
) -> Floats:
    """Contrast of dark spots that ``images`` have and ``other`` has not, around every pixel.

    The smaller of two contrasts, a share of ``level``: that of a disc against its surround, and by how much
    it is above the other's; the largest over diameters, which is a search for blobs over scales (Lindeberg
    1998, "Feature detection with automatic scale selection") by the matched observer's template.
    """
    found = np.zeros_like(images)
    for d in diameters:
        own, others = (contrast_map(x, level, d, pixel) for x in (images, other))
        found = np.maximum(found, np.minimum(own, own - others))
    return found


def count_spots(found: Floats, where: Mask, threshold: float, width: float, pixel: Pixel) -> int:
    """How many maxima of :func:`spots` reach a threshold; within ``width`` mm only the largest counts."""
    size = [1, *(2 * round(width / p) + 1 for p in pixel)]
    highest = (found == maximum_filter(found, size)) & (found >= threshold)
    return int(np.count_nonzero(highest & where))


def false_and_lost(
    result: Floats,
    truth: Floats,
    gland: Mask,
    diameters: Sequence[float],
    threshold: float,
    pixel: Pixel,
) -> tuple[int, int]:
    """Number of dark spots in the gland that only the result has, and that only the truth has."""
    level, smallest = surround(truth, max(diameters), pixel), min(diameters)
    return tuple(  # type: ignore[return-value]
        count_spots(spots(a, b, level, diameters, pixel), gland, threshold, smallest, pixel)
        for a, b in ((result, truth), (truth, result))
    )


def reach_of_correlation(
    result: Floats, truth: Floats, gland: Mask, job: Job, pixel: Pixel
) -> NDArray[np.float64]:
    """Frequency, cycles per mm, at which the Fourier ring correlation of each window whose centre lies in the
    gland first falls below one half; Nyquist's where it never does. Along the rows' axis through the plane.

    Source: Kc et al. 2026, "sFRC for assessing hallucinations in medical image restoration", arXiv
    2603.04673.
    """
    shape = truth.shape[1:]
    edges = [min(2 * round(WINDOW_MM / p / 2), n) for p, n in zip(pixel, shape, strict=True)]
    starts = [range(0, n - e + 1, max(e // 2, 1)) for e, n in zip(edges, shape, strict=True)]
    places = [
        (k, slice(r, r + edges[0]), slice(c, c + edges[1]))
        for k, r, c in product(range(len(truth)), *starts)
        if gland[k, r + edges[0] // 2, c + edges[1] // 2]
    ]
    if not places:
        return np.full(1, np.nan)
    a, b = (torch.from_numpy(np.stack([x[p] for p in places]))[:, None] for x in (result, truth))
    curves = metrics.ring_correlation(a, b, (-2, -1) if job == "inplane" else (-2,))
    lost = (curves < CORRELATED).long()
    lost[:, 0], lost[:, -1] = 0, 1  # the mean says nothing; the curve ends
    lengths = [e * p for e, p in zip(edges, pixel, strict=True)]
    length = min(lengths) if job == "inplane" else lengths[0]
    return np.asarray(lost.argmax(1).numpy() / length, dtype=np.float64)
