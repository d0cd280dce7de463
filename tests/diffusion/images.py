"""Images and scalars in double precision."""

from __future__ import annotations

import torch
from torch import Tensor


def images(batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """x_high, x_low and noise, float64 ``(batch, 1, 4, 5)``."""
    generator = torch.Generator().manual_seed(0)
    high, low, noise = torch.randn(3, batch, 1, 4, 5, generator=generator, dtype=torch.float64)
    return high, low, noise


def scale(g: float) -> Tensor:
    """A signal level."""
    return torch.tensor(g, dtype=torch.float64)
