"""Interpolation: the method that needs no training, and that all others are measured against."""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor, nn

from mrisr.config import InterpolationSettings, MethodSettings
from mrisr.core.options import Sampling
from mrisr.data.pairs import Pair
from mrisr.diffusion.samplers import Noise
from mrisr.methods.base import Evaluate, Given, Restorer, directly


class InterpolationRestorer(Restorer):
    """Bicubic, B-spline, Lanczos or linear interpolation (:mod:`mrisr.physics.rows`)."""

    def __init__(self, settings: MethodSettings, condition: int) -> None:
        super().__init__(settings, nn.Identity())

    def restore(
        self, given: Given, sampling: Sampling, noise: Noise, evaluate: Evaluate = directly
    ) -> Tensor:
        network = self.settings.network
        assert isinstance(network, InterpolationSettings)
        return given.operator.interpolating_by(network.kind).interpolate(given.y)

    def objective(self, pair: Pair, generator: torch.Generator) -> NoReturn:
        raise TypeError("an interpolation has nothing to train")

    def evaluations(self, sampling: Sampling) -> int:
        super().evaluations(sampling)
        return 0
