"""Preconditioning and loss, apart from the network: what the network's output means."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrisr.diffusion.path import AlignedPath, Path, PlainPath, diffuse, implied_high
from mrisr.diffusion.schedule import LinearSchedule, draw_noise_scales

Prediction: TypeAlias = Literal["high", "noise"]


def make_path(kind: Literal["aligned", "plain"], start: float, clock: LinearSchedule) -> Path:
    """The path named in a configuration."""
    return AlignedPath(start, clock) if kind == "aligned" else PlainPath(start)


class Denoiser(nn.Module):
    """A network with its path and parameterisation.

    Images inside are on the range -1..1 (``2 v - 1`` of intensities scaled to 0..1).

    Args:
        network: ``(x_t, x_low, g (b,), condition (b, n)) -> (b, c, h, w)``.
        prediction: what the network puts out. ``high`` is x_HR itself; ``noise`` is eps (eq. 15), from
            which m_t and then the implied x_HR follow.
    """

    def __init__(self, network: nn.Module, path: Path, prediction: Prediction = "high") -> None:
        super().__init__()
        self.network = network
        self.path = path
        self.prediction = prediction

    def forward(self, x_t: Tensor, x_low: Tensor, g: Tensor, condition: Tensor) -> Tensor:
        """Estimate of x_HR: images ``(b, c, h, w)``, signal levels ``(b,)``, condition ``(b, n)``."""
        out: Tensor = self.network(x_t, x_low, g, condition)
        if self.prediction == "high":
            return out
        g4 = g[:, None, None, None]
        mean_t = (x_t - (1 - g4 * g4).sqrt() * out) / g4
        return implied_high(self.path, mean_t, x_low, g4)

    def loss(
        self,
        x_high: Tensor,
        x_low: Tensor,
        g: Tensor,
        noise: Tensor,
        condition: Tensor,
        kind: Literal["l1", "l2"] = "l1",
    ) -> Tensor:
        """Mean error of the network's own target at signal levels ``g`` ``(b,)`` (eq. 15, 19)."""
        x_t = diffuse(self.path, x_high, x_low, g[:, None, None, None], noise)
        out = self.network(x_t, x_low, g, condition)
        target = x_high if self.prediction == "high" else noise
        return F.l1_loss(out, target) if kind == "l1" else F.mse_loss(out, target)


def training_noise_scales(
    schedule: LinearSchedule, start: float, n: int, at_start: float, generator: torch.Generator
) -> Tensor:
    """Signal levels of one batch, ``(n,)``: a share ``at_start`` lies exactly at the partial start."""
    g = draw_noise_scales(schedule, start, n, generator)
    first = torch.rand(n, generator=generator, device=generator.device) < at_start
    return torch.where(first, torch.full_like(g, start), g)
