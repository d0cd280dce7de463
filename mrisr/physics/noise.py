"""Noise of magnitude images: how it is drawn, and how a network is told of it.

Levels are standard deviations of the noise of one channel, as shares of the intensity range (the 0..99.5
percentile range that images are scaled by).
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mrisr.core.options import STRONGEST_TOLD

#: Level that many scans have, for what is made up and for figures (docs/explanation/consistency.md).
TYPICAL = 0.02


class Colour(NamedTuple):
    """Spectrum that a scanner leaves of white noise by filling k-space with zeros.

    Attributes:
        rows, columns: share of the frequencies along each axis that were measured, 0 to 1.
        elliptic: whether the corners of k-space are left out as well.
    """

    rows: float = 1.0
    columns: float = 1.0
    elliptic: bool = False


def told(level: float | Tensor) -> Tensor:
    """Encode noise levels for a network, finer where noise is weak: 0 to 1 at the strongest that they
    are told of; what is stronger is told as that."""
    share = torch.as_tensor(level, dtype=torch.float32) / STRONGEST_TOLD
    return share.clamp(0, 1).sqrt()


def normal_field(like: Tensor, colour: Colour, generator: torch.Generator) -> Tensor:
    """Draw Gaussian noise of unit standard deviation in the shape of images ``(..., rows, columns)``."""
    field = torch.randn(like.shape, generator=generator, device=like.device)
    if colour == Colour():
        return field
    rows, columns = (
        torch.fft.fftfreq(n, device=like.device).abs().mul(2) / max(share, 1e-3)
        for n, share in zip(like.shape[-2:], (colour.rows, colour.columns), strict=True)
    )
    if colour.elliptic:
        kept = rows[:, None].square() + columns.square() <= 1
    else:
        kept = (rows[:, None] <= 1) & (columns <= 1)
    spectrum = torch.fft.fft2(field) * (kept / kept.float().mean().sqrt())
    coloured: Tensor = torch.fft.ifft2(spectrum).real
    return coloured


def with_rician_noise(
    y: Tensor, levels: Tensor, generator: torch.Generator, colour: Colour | None = None
) -> Tensor:
    """Add noise to magnitude images as a scanner does: complex noise, of which the magnitude is taken.

    Source: Gudbjartsson and Patz 1995, "The Rician distribution of noisy MRI data", eq. 1.

    Args:
        y: images ``(b, c, rows, columns)`` on -1..1, where -1 is no signal.
        levels: noise levels ``(b,)``; images of level 0 stay as they are.
        generator: on the device of ``y``.
        colour: of the noise; white where it is None.
    """
    sigma = levels.to(y)[:, None, None, None]
    real, imaginary = (normal_field(y, colour or Colour(), generator) for _ in range(2))
    signal = y.add(1).div(2).clamp(min=0)
    noisy = torch.hypot(signal + sigma * real, sigma * imaginary).mul(2).sub(1)
    return torch.where(sigma > 0, noisy, y)


def grain(images: Tensor) -> float:
    """Noise of neighbouring pixels in the central half of slices ``(n, rows, columns)``, as the eye sees it:
    the median of Immerkaer's Laplacian (1996, "Fast noise variance estimation"), a share of the range."""
    laplacian = torch.tensor([[1.0, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6
    rows, columns = (slice(n // 4, n - n // 4) for n in images.shape[-2:])
    found = F.conv2d(images[:, None, rows, columns] / 2, laplacian[None, None])
    return float(found.abs().median()) / 0.6745


#: Edge in pixels of the windows that spectra are taken of, and mean intensity above which one shows tissue.
WINDOW, TISSUE = 64, 0.1
#: Slices and windows that are looked at, of more some, evenly spread.
MOST_SLICES, MOST_WINDOWS = 16, 2048
#: Quantile over windows that stands for all of them: few of them show as little anatomy.
QUANTILE = 0.25
#: A spectrum that falls by this much more than anatomy does has reached the edge of what was measured; the
#: noise is read at this share of the way to it.
EDGE, INSIDE = 1.5, 0.82
#: Directions in which the edge is looked for; share of Nyquist's frequency from which on it is.
DIRECTIONS, LOWEST = 13, 0.4


def estimated_level(images: Tensor) -> float:
    """Noise level of slices ``(n, rows, columns)`` on -1..1, of unknown spectrum, from themselves.

    Scanners fill k-space with zeros and leave out its corners, so the highest frequencies of a scan
    hold hardly any noise, and estimators that look there (Immerkaer 1996; wavelets) find a part of it.
    Here the power spectrum of windows of tissue, a low quantile over windows, is followed in every
    direction to where it drops; just inside, anatomy is weakest and the noise still whole. The level is
    the root of the noise's mean power: of that plateau, and of less where the spectrum is below it. Noise
    that varies over the image gives a level between.

    Returns:
        The level; 0 where no window shows tissue.
    """
    spectrum = _tissue_spectrum(images.add(1).div(2))
    if spectrum is None:
        return 0.0
    half = spectrum.shape[-1] - 1
    logs = F.avg_pool2d(spectrum.log()[None], 3, 1, 1, count_include_pad=False)[0] / 2
    plateaus = []
    for angle in np.linspace(0, np.pi / 2, DIRECTIONS):
        rows, columns = float(np.sin(angle)), float(np.cos(angle))
        radius = np.arange(LOWEST * half, half / max(rows, columns) + 0.01, 0.5)
        # of 0..half to the -1..1 of grid_sample, which loads sooner than scipy's interpolation
        along = torch.from_numpy(np.stack([columns * radius, rows * radius], -1)) * (2 / half) - 1
        profile = F.grid_sample(
            logs[None, None].double(), along[None, None], padding_mode="border", align_corners=True
        )
        plateaus.append(_plateau(radius, profile[0, 0, 0].numpy()))
    ended, amplitudes = (np.array(v) for v in zip(*plateaus, strict=True))
    # without an edge the corner, where anatomy is weakest
    level = float(np.median(amplitudes) if ended.mean() >= 0.5 else amplitudes.min())
    return float(spectrum.clamp(max=level**2).mean().sqrt())


def _tissue_spectrum(images: Tensor) -> Tensor | None:
    """Power spectrum of the windows that show tissue in the middle half of the slices, ``(33, 33)`` of
    frequencies from 0 to Nyquist's along rows and columns; None without such a window."""
    edge = min(WINDOW, *(n - n % 2 for n in images.shape[-2:]))
    n = len(images)
    middle = images[n // 4 : max(n // 4 + 1, 3 * n // 4 + 1)]
    middle = middle[:: -(-len(middle) // MOST_SLICES)]
    windows = middle.unfold(1, edge, edge // 2).unfold(2, edge, edge // 2).reshape(-1, edge, edge)
    masked = (windows == windows.amin((1, 2), keepdim=True)).float().mean((1, 2)) > 0.02
    mean = windows.mean((1, 2))
    windows = windows[(mean > TISSUE) & ~masked]
    if not len(windows):
        return None
    windows = windows[:: -(-len(windows) // MOST_WINDOWS)]
    taper = torch.outer(*2 * [torch.hann_window(edge, periodic=False)])
    shown = (windows - windows.mean((1, 2), keepdim=True)) * taper
    power = torch.fft.fft2(shown).abs().square() / taper.square().sum()
    half = edge // 2
    # PyTorch's quantile sorts, which takes four times as long
    low = torch.from_numpy(np.quantile(power.numpy(), QUANTILE, axis=0))
    wrapped = torch.fft.fftshift(low / -np.log(1 - QUANTILE))
    wrapped = F.pad(wrapped[None], (0, 1, 0, 1), "circular")[0]
    upper, lower = wrapped[half:], wrapped[: half + 1].flip(0)
    both = upper + lower
    return (both[:, half:] + both[:, : half + 1].flip(1)) / 4


def _plateau(radius: NDArray[np.float64], profile: NDArray[np.float64]) -> tuple[bool, float]:
    """Whether there is an edge along one direction, and the amplitude of the noise: just inside it, or at the
    highest frequencies."""
    step = 6
    fall = profile[:-step] - profile[step:] - 1.5 * np.log(radius[step:] / radius[:-step])
    i = int(fall.argmax())
    if fall[i] < np.log(EDGE):
        return False, float(np.exp(profile[-4:].mean()))
    edge = (radius[i] + radius[i + step]) / 2
    return True, float(np.exp(np.interp(INSIDE * edge, radius, profile)))
