"""Plain regression: one evaluation of a network on x_LR. With a critic in training it is SRGAN."""

from __future__ import annotations

import torch
from torch import Tensor

from mrisr.config import MethodSettings
from mrisr.core.options import Sampling
from mrisr.data.pairs import Pair
from mrisr.diffusion.samplers import Noise
from mrisr.methods.base import Evaluate, Given, Objective, Restorer, directly
from mrisr.networks import build_network


class RegressionRestorer(Restorer):
    """The diffusion methods' network without a latent: x_LR takes its place, at signal level 1.

    Source: the regression baseline of SR3 (Saharia et al. 2022, Sec. 4) and PartDiff (Sec. 5).
    SRGAN's generator (Ledig et al. 2017, arXiv 1609.04802) is of the same kind: residual blocks
    at low resolution, one long skip, sub-pixel convolution.
    """

    options = frozenset({"tile"})

    def __init__(self, settings: MethodSettings, condition: int) -> None:
        super().__init__(settings, build_network(settings.network, condition))

    def _estimate(self, x_low: Tensor, condition: Tensor) -> Tensor:
        n = len(x_low)
        g = torch.ones(n, device=x_low.device)
        estimate: Tensor = self.network(x_low, x_low, g, condition.expand(n, -1))
        return estimate

    def restore(
        self, given: Given, sampling: Sampling, noise: Noise, evaluate: Evaluate = directly
    ) -> Tensor:
        return evaluate(lambda x_low: self._estimate(x_low, given.condition), given.x_low)

    def objective(self, pair: Pair, generator: torch.Generator) -> Objective:
        restored = self._estimate(pair.x_low, pair.condition)
        return Objective(self.pixel_loss(restored, pair.x_high), restored)
