"""InvSR: arbitrary-step super-resolution by diffusion inversion (Yue et al., arXiv 2412.09013).

A noise predictor ``f_w(x_LR, t)`` on a frozen denoiser finds the noise to start from. One predictor
serves one to five steps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mrisr.config import MethodSettings, UnshuffleSettings
from mrisr.core.errors import UsageError
from mrisr.core.options import Sampling
from mrisr.data.pairs import Pair
from mrisr.diffusion import Noise, start_latent
from mrisr.methods.base import Evaluate, Given, Objective, Restorer, at_level, directly
from mrisr.methods.diffusion import build_denoiser
from mrisr.networks import build_network
from mrisr.networks.unshuffle import NoisePredictor

#: Indices of the five signal levels that so many steps visit: InvSR's 200; 200, 100; 200, 100, 50; ...
VISITED = {1: (1,), 2: (1, 3), 3: (1, 3, 4), 4: (1, 2, 3, 4), 5: (0, 1, 2, 3, 4)}
#: Levels that a run may start at.
STARTS = sorted({visited[0] for visited in VISITED.values()})


class InversionRestorer(Restorer):
    """The noise predictor (trained) and the denoiser (frozen); both are part of the model's weights."""

    def __init__(self, settings: MethodSettings, condition: int) -> None:
        inversion, network = settings.inversion, settings.network
        if inversion is None or inversion.network is None:
            raise ValueError("inversion: the frozen denoiser's network is not stated")
        assert isinstance(network, UnshuffleSettings)
        predictor = NoisePredictor(condition=condition, **network.model_dump(exclude={"type"}))
        frozen = build_network(inversion.network, condition).requires_grad_(False)
        super().__init__(settings, nn.ModuleDict({"predictor": predictor, "denoiser": frozen}))
        self.inversion, self.predictor = inversion, predictor
        self.denoiser = build_denoiser(settings, frozen)

    options = frozenset({"steps", "seed", "tile"})

    def levels(self, sampling: Sampling) -> list[float]:
        """Signal levels that the steps visit. Raises UsageError unless there are 1 to 5 steps."""
        steps = sampling.steps or 1
        if steps not in VISITED:
            raise UsageError(f"steps: inversion takes 1 to {len(VISITED)}, found {steps}")
        return [self.inversion.levels[i] for i in VISITED[steps]]

    def evaluations(self, sampling: Sampling) -> int:
        """One of the predictor and one of the denoiser for each step; they are of one size."""
        return 2 * len(self.levels(sampling))

    def restore(
        self, given: Given, sampling: Sampling, noise: Noise, evaluate: Evaluate = directly
    ) -> Tensor:
        x_high = given.x_low
        for i, level in enumerate(self.levels(sampling)):
            g = torch.tensor(level, dtype=torch.float64, device=given.x_low.device)
            out = evaluate(at_level(self._predicted, given, g), given.x_low)
            mean, log_variance = out.chunk(2, dim=1)
            predicted = mean + (0.5 * log_variance).exp() * noise(i)
            x_t = start_latent(x_high, g, predicted).float()
            x_high = evaluate(at_level(self.denoiser.forward, given, g), x_t, given.x_low)
        return x_high

    def _predicted(self, x_low: Tensor, g: Tensor, condition: Tensor) -> Tensor:
        """Mean and log variance of the noise of a level, one after the other."""
        return torch.cat(self.predictor(x_low, g, condition), dim=1)

    def objective(self, pair: Pair, generator: torch.Generator) -> Objective:
        """Error of ``x_0_hat`` (its eq. 9), with start states from x_LR and later ones from x_HR (eq. 10);
        the KL term holds the later levels' noise to a standard normal, never the start's."""
        x_low, n, device = pair.x_low, len(pair.x_low), pair.x_low.device
        level, starting = self._draw_levels(n, generator)
        g = torch.tensor(self.inversion.levels, device=device)[level]
        mean, log_variance = self.predictor(x_low, g, pair.condition)
        fresh = torch.randn(x_low.shape, generator=generator, device=device)
        noise = mean + (0.5 * log_variance).exp() * fresh
        origin = torch.where(starting[:, None, None, None], x_low, pair.x_high)
        x_t = start_latent(origin, g[:, None, None, None], noise)
        restored = self.denoiser(x_t, x_low, g, pair.condition)
        divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).mean((1, 2, 3))
        kl = torch.where(starting, 0.0, divergence).mean()
        loss = self.pixel_loss(restored, pair.x_high) + self.inversion.kl * kl
        return Objective(loss, restored)

    def _draw_levels(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Indices of levels ``(n,)`` and which of them are starts."""
        device = generator.device
        u = torch.rand(3, n, generator=generator, device=device)
        starting = u[0] < self.inversion.at_start
        starts = torch.tensor(STARTS, device=device)[(u[1] * len(STARTS)).long()]
        later = STARTS[0] + 1 + (u[2] * (len(self.inversion.levels) - STARTS[0] - 1)).long()
        return torch.where(starting, starts, later), starting
