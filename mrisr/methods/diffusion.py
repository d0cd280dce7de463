"""Methods on a denoiser: partial diffusion with its special cases, and its inversion (InvSR)."""

import torch
from torch import Tensor, nn

from mrisr.config import MethodSettings, UnshuffleSettings
from mrisr.core.errors import UsageError
from mrisr.core.options import Sampling
from mrisr.data.pairs import Pair
from mrisr.diffusion import (
    SAMPLERS,
    AlignedPath,
    Denoiser,
    LinearSchedule,
    Noise,
    PlainPath,
    draw_noise_scales,
    sampling_levels,
    start_latent,
)
from mrisr.methods.base import Evaluate, Given, Objective, Restorer, at_level, directly
from mrisr.networks import build_network
from mrisr.networks.unshuffle import NoisePredictor


def build_denoiser(settings: MethodSettings, network: torch.nn.Module) -> Denoiser:
    """A network with the path and the parameterisation of the settings."""
    d = settings.diffusion
    clock = LinearSchedule(**d.inference.model_dump())
    path = AlignedPath(d.start, clock) if d.path == "aligned" else PlainPath(d.start)
    return Denoiser(network, path, d.prediction)


class DiffusionRestorer(Restorer):
    """A denoiser, sampled from its partial start or from pure noise (PartDiff Sec. 4; SR3)."""

    def __init__(self, settings: MethodSettings, condition: int) -> None:
        network = build_network(settings.network, condition)
        super().__init__(settings, network)
        self.denoiser = build_denoiser(settings, network)
        # A network that predicts the noise says nothing of x_HR at the aligned start: one step would be x_LR.
        self.quick_steps = 1 if settings.diffusion.prediction == "high" else 10

    options = frozenset({"steps", "sampler", "eta", "start", "seed", "samples", "tile"})

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
        g = draw_noise_scales(schedule, d.start, len(x_high), generator, d.at_start)
        noise = torch.randn(x_high.shape, generator=generator, device=x_high.device)
        return Objective(self.denoiser.loss(x_high, x_low, g, noise, condition, d.loss))


#: Indices of the five signal levels that so many steps visit: InvSR's 200; 200, 100; 200, 100, 50; ...
VISITED = {1: (1,), 2: (1, 3), 3: (1, 3, 4), 4: (1, 2, 3, 4), 5: (0, 1, 2, 3, 4)}
#: Levels that a run may start at.
STARTS = sorted({visited[0] for visited in VISITED.values()})


class InversionRestorer(Restorer):
    """InvSR: arbitrary-step super-resolution by diffusion inversion (Yue et al., arXiv 2412.09013).

    A noise predictor ``f_w(x_LR, t)`` (trained) finds the noise that a frozen denoiser starts from; one
    serves one to five steps. Both are part of the model's weights.
    """

    def __init__(self, settings: MethodSettings, condition: int) -> None:
        inversion, network = settings.inversion, settings.network
        if inversion is None or inversion.network is None:
            raise ValueError("inversion: the frozen denoiser's network is not stated")
        assert isinstance(network, UnshuffleSettings)
        predictor = NoisePredictor(
            condition=condition, **network.model_dump(exclude={"type", "by_noise"})
        )
        frozen = build_network(inversion.network, condition).requires_grad_(False)
        super().__init__(settings, nn.ModuleDict({"predictor": predictor, "denoiser": frozen}))
        self.inversion, self.predictor = inversion, predictor
        self.denoiser = build_denoiser(settings, frozen)

    options = frozenset({"steps", "seed", "samples", "tile"})

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
