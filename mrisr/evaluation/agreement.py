"""Agreement of a volume with a reference scan that has intensities of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrisr import metrics
from mrisr.core.intensity import scaling
from mrisr.core.volume import Volume
from mrisr.evaluation.overlap import Overlap

Image = NDArray[np.float64]

#: Standard deviation in mm of the blur by which it is told whether a score rewards blur.
BLUR = 1.0


class Compared(NamedTuple):
    """Scores per slice, facts, and one slice of both for pictures."""

    slices: dict[str, list[float]]
    facts: dict[str, Any]
    result: NDArray[np.float32]
    reference: NDArray[np.float32]


def compare(overlap: Overlap, volume: Volume, factor: float) -> Compared:
    """Scores of a volume against the reference, slice by slice of the overlap.

    One gain and one offset for the whole volume bring its intensities to the reference's: the least squares
    of the two, for PSNR and SSIM; and equal mean and standard deviation, for the spectrum and
    the texture, because least squares lowers the contrast by whatever the two scans do not share and would
    book that as blur. Both are then scaled to the reference volume's 0..99.5 percentile and clipped.

    ``blurred`` among the facts is a control: PSNR and NCC after a Gaussian blur along the rows' axis. Where
    they rise by it they reward blur, and a sharper result cannot win by them.

    Args:
        factor: how much coarser than the reference's rows the measured slices are, for ``texture``.
    """
    found, wanted = overlap.sample(volume), overlap.images()
    x, y = (np.concatenate([image.ravel() for image in images]) for images in (found, wanted))
    low, span = scaling(overlap.reference.array)
    fits = {"least_squares": _least_squares(x, y), "equal_spread": _equal_spread(x, y)}
    images = {
        name: [_scaled(gain * i + offset, low, span) for i in found]
        for name, (gain, offset) in fits.items()
    }
    reference = [_scaled(i, low, span) for i in wanted]
    slices: dict[str, list[float]] = {}
    for fitted, spread, true in zip(*images.values(), reference, strict=True):
        figures = {
            "psnr": metrics.psnr(fitted, true),
            "ssim": metrics.ssim(fitted, true),
            "spectrum": metrics.spectrum_error(spread, true, (-2,)),
            "texture": metrics.texture(spread, true, (factor, 1.0)),
        }
        for name, value in figures.items():
            slices.setdefault(name, []).append(float(value))
    slices["ncc"] = [correlation(a, b) for a, b in zip(found, wanted, strict=True)]
    facts: dict[str, Any] = {name: rounded(fit, 5) for name, fit in fits.items()}
    facts["blurred"] = _blurred(found, wanted, overlap.reference)
    middle = len(found) // 2
    return Compared(
        slices,
        facts,
        images["least_squares"][middle][0, 0].numpy(),
        reference[middle][0, 0].numpy(),
    )


def _blurred(found: list[Image], wanted: list[Image], reference: Volume) -> dict[str, float]:
    """Mean PSNR and NCC of the result blurred along S-I by a standard deviation of ``BLUR`` mm."""
    from scipy.ndimage import gaussian_filter1d

    sigma = BLUR / float(reference.spacing[1])
    soft = [gaussian_filter1d(image, sigma, axis=0, mode="nearest") for image in found]
    x, y = (np.concatenate([image.ravel() for image in images]) for images in (soft, wanted))
    low, span = scaling(reference.array)
    gain, offset = _least_squares(x, y)
    pairs = list(zip(soft, wanted, strict=True))
    psnr = [
        float(metrics.psnr(_scaled(gain * a + offset, low, span), _scaled(b, low, span)))
        for a, b in pairs
    ]
    ncc = [correlation(a, b) for a, b in pairs]
    values = rounded([BLUR, float(np.mean(psnr)), float(np.mean(ncc))], 4)
    return dict(zip(("sigma_mm", "psnr", "ncc"), values, strict=True))


def correlation(result: Image, reference: Image) -> float:
    """Normalised cross-correlation of two images, -1 to 1; 0 where one of them is flat."""
    a, b = result - result.mean(), reference - reference.mean()
    norm = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum() / norm) if norm > 0 else 0.0


def _least_squares(x: Image, y: Image) -> tuple[float, float]:
    """Gain and offset that bring ``x`` nearest to ``y``."""
    spread = float(x.var())
    gain = float(((x - x.mean()) * (y - y.mean())).mean()) / spread if spread > 0 else 0.0
    return gain, float(y.mean() - gain * x.mean())


def _equal_spread(x: Image, y: Image) -> tuple[float, float]:
    """Gain and offset that give ``x`` the mean and the standard deviation of ``y``."""
    spread = float(x.std())
    gain = float(y.std()) / spread if spread > 0 else 0.0
    return gain, float(y.mean() - gain * x.mean())


def _scaled(image: Image, low: float, span: float) -> Tensor:
    """``(1, 1, h, w)`` on 0..1."""
    return torch.from_numpy((image - low) / span).float().clamp(0, 1)[None, None]


def rounded(values: Sequence[float], digits: int = 3) -> list[float]:
    """Numbers as they are reported."""
    return [round(float(v), digits) for v in values]
