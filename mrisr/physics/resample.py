"""Resampling of images to square pixels of another size, anti-aliased where they become coarser."""

from __future__ import annotations

import torch
from torch import Tensor

from mrisr.physics.rows import degradation_matrix, interpolation_matrix

#: Pixels that differ by a smaller share are one size: over 500 of them a twentieth of a pixel.
SAME_PIXEL = 1e-4


def resample_pixels(levels: Tensor, spacing_mm: tuple[float, float], pixel_mm: float) -> Tensor:
    """Resample images to square pixels over the same field of view, by cubic convolution (Keys 1981).

    Where pixels become coarser, the kernel is widened by the factor.

    Args:
        levels: images ``(..., rows, columns)`` of any type.
        spacing_mm: mm between rows and between columns.
        pixel_mm: mm between rows and between columns of the result.

    Returns:
        float32 ``(..., round(rows * spacing / pixel), ...)``; overshoot at edges is kept.
    """
    levels = levels.to(torch.float32)
    for dim, old in zip((-2, -1), spacing_mm, strict=True):
        factor, n = old / pixel_mm, levels.shape[dim]
        if abs(factor - 1) < SAME_PIXEL:
            continue
        size = max(1, round(n * factor))
        if factor > 1:
            rows = interpolation_matrix("bicubic", n, factor, size)
        else:
            rows = degradation_matrix("bicubic", n, 1 / factor, n_low=size)
        weights = torch.tensor(rows.T, dtype=torch.float32, device=levels.device)
        levels = (levels.movedim(dim, -1) @ weights).movedim(-1, dim)
    return levels
