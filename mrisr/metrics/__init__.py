"""Image metrics on intensities scaled to 0..1: PSNR and SSIM (MONAI's), and two measures in the spectrum."""

from __future__ import annotations

import torch
from monai.metrics.regression import PSNRMetric, SSIMMetric
from torch import Tensor

#: Bands of :func:`spectrum_error` from 0 to the Nyquist frequency.
BANDS = 32
#: Amplitude that :func:`spectrum_error` takes for nothing: half a grey level of an 8-bit display.
INVISIBLE = 0.5 / 255


def psnr(result: Tensor, reference: Tensor) -> Tensor:
    """PSNR in dB per image, ``(b, 1, h, w)`` twice to ``(b,)``; data range 1."""
    return torch.as_tensor(PSNRMetric(max_val=1.0)(result, reference)).flatten()


def ssim(result: Tensor, reference: Tensor) -> Tensor:
    """SSIM per image (Gaussian window 11, sigma 1.5; Wang et al. 2004), shapes as :func:`psnr`."""
    metric = SSIMMetric(spatial_dims=2, data_range=1.0, win_size=11, kernel_sigma=1.5)
    return torch.as_tensor(metric(result, reference)).flatten()


def texture(result: Tensor, reference: Tensor, factors: tuple[float, float]) -> Tensor:
    """Power above the low-resolution band against the reference's, in dB, per image ``(b,)``.

    0 dB is as much fine texture as the reference has; blur is negative. The band is what a grid
    coarser by ``factors`` (rows, columns) cannot hold.
    """
    fy, fx = _frequencies(result)
    above = (fy > 0.5 / factors[0]) | (fx > 0.5 / factors[1])
    powers = [(_power(x) * above).sum((-2, -1))[:, 0] for x in (result, reference)]
    return 10 * torch.log10(powers[0] / powers[1])


def spectrum_error(result: Tensor, reference: Tensor, dims: tuple[int, ...] = (-2, -1)) -> Tensor:
    """Distance of two power spectra in dB per image: ``(b, 1, h, w)`` twice to ``(b,)``, 0 for equal ones.

    The root mean square, over 32 bands of equal width from 0 to the Nyquist frequency, of the difference
    of the bands' mean power in decibel. Blur and invented texture count alike, by how far the power
    is off, wherever the structures lie; PSNR and SSIM tell that. Bands are rings with ``dims=(-2, -1)``; with
    ``dims=(-2,)`` bands of frequency along the rows' axis, for images that are degraded along it alone. To
    both powers that of white noise of half an 8-bit grey level is added, so that bands in which
    neither image shows anything do not count.
    """
    fy, fx = _frequencies(result)
    squares = (f.square() for d, f in ((-2, fy), (-1, fx)) if d in dims)
    radius = sum(squares, torch.zeros_like(fy * fx)).sqrt()
    band = (radius * (2 * BANDS)).long().flatten()
    h, w = result.shape[-2:]
    window = _window(result).square().sum()
    count = torch.bincount(band, minlength=BANDS)[:BANDS].to(result)
    densities = []
    for image in (result, reference):
        power = _power(image).reshape(len(image), h * w)
        total = power.new_zeros(len(image), max(BANDS, int(band.max()) + 1))
        total.index_add_(1, band, power)
        densities.append(total[:, :BANDS] / count.clamp(min=1) + INVISIBLE**2 * window)
    difference = 10 * torch.log10(densities[0] / densities[1])
    return (difference.square() * (count > 0)).sum(1).div((count > 0).sum()).sqrt()


def _frequencies(image: Tensor) -> tuple[Tensor, Tensor]:
    """Absolute frequencies of rows and of columns in cycles per pixel: ``(h, 1)`` and ``(1, w)``."""
    h, w = image.shape[-2:]
    fy, fx = (torch.fft.fftfreq(n, device=image.device).abs() for n in (h, w))
    return fy[:, None], fx[None, :]


def _window(image: Tensor) -> Tensor:
    """Hann's window ``(h, w)``, which keeps the edges of the image out of its spectrum."""
    h, w = image.shape[-2:]
    return (torch.hann_window(h)[:, None] * torch.hann_window(w)[None, :]).to(image)


def _power(image: Tensor) -> Tensor:
    """Power of each frequency of the windowed images, of their shape."""
    spectrum: Tensor = torch.fft.fft2(image * _window(image))
    return spectrum.abs().square()
