"""Image metrics on intensities scaled to 0..1: PSNR and SSIM (MONAI's), and a texture measure."""

from __future__ import annotations

import torch
from monai.metrics.regression import PSNRMetric, SSIMMetric
from torch import Tensor


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
    h, w = result.shape[-2:]
    fy = torch.fft.fftfreq(h, device=result.device).abs()[:, None]
    fx = torch.fft.fftfreq(w, device=result.device).abs()[None, :]
    above = (fy > 0.5 / factors[0]) | (fx > 0.5 / factors[1])
    window = torch.hann_window(h)[:, None] * torch.hann_window(w)[None, :]
    powers = [
        (torch.fft.fft2(x * window.to(x)).abs() ** 2 * above).sum((-2, -1))[:, 0]
        for x in (result, reference)
    ]
    return 10 * torch.log10(powers[0] / powers[1])
