"""Partial diffusion and its special cases: PartDiff with and without alignment, and SR3."""

from __future__ import annotations

import torch
from torch import Tensor

from mrisr.config import MethodSettings
from mrisr.core.errors import UsageError
from mrisr.core.options import Sampling
from mrisr.data.pairs import Pair
from mrisr.diffusion import (
    SAMPLERS,
    AlignedPath,
    Denoiser,
    LinearSchedule,
    Noise,
    make_path,
    sampling_levels,
    start_latent,
    training_noise_scales,
)
from mrisr.methods.base import Evaluate, Given, Objective, Restorer, at_level, directly
from mrisr.networks import build_network


def build_denoiser(settings: MethodSettings, network: torch.nn.Module) -> Denoiser:
    """A network with the path and the parameterisation of the settings."""
    d = settings.diffusion
    clock = LinearSchedule(**d.inference.model_dump())
    return Denoiser(network, make_path(d.path, d.start, clock), d.prediction)


class DiffusionRestorer(Restorer):
    """A denoiser, sampled from its partial start or from pure noise (PartDiff Sec. 4; SR3)."""

    def __init__(self, settings: MethodSettings, condition: int) -> None:
        network = build_network(settings.network, condition)
        super().__init__(settings, network)
        self.denoiser = build_denoiser(settings, network)
        # A network that predicts the noise says nothing of x_HR at the aligned start: one step would be x_LR.
        self.quick_steps = 1 if settings.diffusion.prediction == "high" else 10

    options = frozenset({"steps", "sampler", "eta", "start", "seed", "tile"})

    def takes(self, sampling: Sampling) -> frozenset[str]:
        """All of them; ``eta`` from two steps on, ``start`` on the plain path, ``sampler`` on the aligned
        one, where the mean moves."""
        idle = {"start"} if isinstance(self.denoiser.path, AlignedPath) else {"sampler"}
        if (sampling.steps or 1) < 2:
            idle.add("eta")
        return self.options - idle

    def levels(self, sampling: Sampling) -> Tensor:
        """Signal levels sqrt(alpha_bar) of a sampling run, increasing to 1.

        Raises:
            UsageError: the start is not on the denoiser's path.
        """
        d = self.settings.diffusion
        steps = sampling.steps or 1
        start = self._start(sampling)
        if start == d.start and steps in d.schedules:
            return torch.tensor(d.schedules[steps], dtype=torch.float64)
        return sampling_levels(LinearSchedule(**d.inference.model_dump()), start, steps)

    def _start(self, sampling: Sampling) -> float:
        own = self.settings.diffusion.start
        start = own if sampling.start is None else sampling.start
        if not own <= start < 1:
            raise UsageError(
                f"start: expected a signal level from {own:g} to below 1, found {start:g}"
            )
        return start

    def evaluations(self, sampling: Sampling) -> int:
        return len(self.levels(sampling)) - 1

    def restore(
        self, given: Given, sampling: Sampling, noise: Noise, evaluate: Evaluate = directly
    ) -> Tensor:
        def denoise(x: Tensor, g: Tensor) -> Tensor:
            return evaluate(at_level(self.denoiser.forward, given, g), x, given.x_low)

        levels = self.levels(sampling).to(given.x_low.device)
        if self.settings.diffusion.from_noise and sampling.start is None:
            x = noise(0).expand_as(given.x_low)
        else:
            x = start_latent(given.x_low, levels[0], noise(0))
        sampler = SAMPLERS[sampling.sampler or "corrected"]
        return sampler(
            denoise, x, given.x_low, levels, self.denoiser.path, noise, sampling.eta or 0.0
        )

    def objective(self, pair: Pair, generator: torch.Generator) -> Objective:
        d = self.settings.diffusion
        schedule = LinearSchedule(**d.training.model_dump())
        x_high, x_low, condition = pair.x_high, pair.x_low, pair.condition
        g = training_noise_scales(schedule, d.start, len(x_high), d.at_start, generator)
        noise = torch.randn(x_high.shape, generator=generator, device=x_high.device)
        return Objective(self.denoiser.loss(x_high, x_low, g, noise, condition, d.loss))
