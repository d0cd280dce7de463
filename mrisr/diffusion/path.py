"""The path of the latent's mean: what the network is asked to undo, as an explicit object.

A latent is ``x_t = g_t m_t + sqrt(1 - g_t^2) eps``. On the plain path the mean ``m_t`` is the
high-resolution image throughout; with latent alignment (PartDiff Sec. 4.3) it moves from the
low-resolution image at the start to the high-resolution image at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mrisr.diffusion.schedule import INFERENCE, LinearSchedule


class Path(Protocol):
    """Where the mean of the latent lies at a signal level."""

    @property
    def start(self) -> float:
        """Smallest signal level g at which the path is defined: where sampling starts."""
        ...

    def mixing(self, g: Tensor) -> Tensor:
        """``lambda(g)``: the share of the high-resolution image in the mean, same shape as ``g``."""
        ...


@dataclass(frozen=True)
class PlainPath:
    """``m_t = x_HR`` at every signal level: ordinary diffusion, SR3, PartDiff without alignment."""

    start: float

    def mixing(self, g: Tensor) -> Tensor:
        return torch.ones_like(g)


@dataclass(frozen=True)
class AlignedPath:
    """``m_t = lambda_t x_HR + (1 - lambda_t) x_LR`` with ``lambda_t = (K - t) / K`` (eq. 18).

    ``t`` is read off ``clock`` at the signal level, so that training (continuous signal levels) and
    every sampling schedule see one and the same path. At ``start`` the mean is x_LR itself.
    """

    start: float
    clock: LinearSchedule = INFERENCE

    def mixing(self, g: Tensor) -> Tensor:
        last = self.clock.time(torch.tensor(self.start, dtype=torch.float64))
        return (1 - self.clock.time(g) / last.to(g.device)).clamp(0, 1).to(g.dtype)


def mean(path: Path, x_high: Tensor, x_low: Tensor, g: Tensor) -> Tensor:
    """``m_t`` for images ``(b, c, h, w)`` and signal levels ``g`` that broadcast against them."""
    share = path.mixing(g)
    return share * x_high + (1 - share) * x_low


def diffuse(path: Path, x_high: Tensor, x_low: Tensor, g: Tensor, noise: Tensor) -> Tensor:
    """``x_t = g m_t + sqrt(1 - g^2) noise``, the latent that training shows to the network."""
    return g * mean(path, x_high, x_low, g) + (1 - g * g).clamp(min=0).sqrt() * noise


def implied_high(path: Path, mean_t: Tensor, x_low: Tensor, g: Tensor) -> Tensor:
    """The x_HR that puts the mean where it is: inverts :func:`mean`. Where lambda = 0 (the aligned
    start) the mean says nothing about x_HR and the answer is x_low."""
    share = path.mixing(g)
    high = (mean_t - (1 - share) * x_low) / share.clamp(min=1e-6)
    return torch.where(share > 1e-6, high, x_low.expand_as(high))
