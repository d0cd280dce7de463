"""Embedding of the continuous signal level and of the degradation."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class NoiseScaleEmbedding(nn.Module):
    """Embedding of a signal level and a condition vector, ``(b,), (b, n) -> (b, width)``.

    The level ``g = sqrt(alpha_bar)`` in (0, 1] enters as sines and cosines of ``sqrt(-log g)``, in which
    a linear beta schedule is nearly uniform (WaveGrad conditions on it likewise).
    """

    def __init__(self, width: int, condition: int, frequencies: int = 16) -> None:
        super().__init__()
        self.frequencies: Tensor
        # Made on the CPU also where a network is tried on the meta device: there it would load a compiler.
        spread = torch.logspace(-1, 1.5, frequencies, device="cpu") * torch.pi
        here = torch.get_default_device()
        self.register_buffer("frequencies", spread.to(here), persistent=False)
        self.mlp = nn.Sequential(
            nn.Linear(2 * frequencies + condition, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
        )

    def forward(self, g: Tensor, condition: Tensor) -> Tensor:
        u = torch.sqrt(-torch.log(g.float().clamp(1e-4, 1.0)))
        phase = u[:, None] * self.frequencies
        embedded: Tensor = self.mlp(torch.cat([phase.sin(), phase.cos(), condition.float()], dim=1))
        return embedded
