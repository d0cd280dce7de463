"""Partial diffusion in torch alone: schedules, paths of the latent's mean, samplers, denoiser.

A latent is ``x_t = g_t m_t + sqrt(1 - g_t^2) eps`` (PartDiff eq. 3 and 4). Signal levels
``g_t = sqrt(alpha_bar_t)``, not step numbers, are the common language of training, path, network and
sampler: a network trained on one schedule can then be sampled on another (WaveGrad's continuous noise
level). On the plain path the mean ``m_t`` is the high-resolution image throughout; with latent
alignment (PartDiff Sec. 4.3) it moves from the low-resolution image to it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal, Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrisr.core.options import SamplerName


@dataclass(frozen=True)
class LinearSchedule:
    """``beta`` linear from ``beta_start`` to ``beta_end`` in ``steps`` steps.

    The published settings are ``TRAINING`` and ``INFERENCE``.
    """

    beta_start: float
    beta_end: float
    steps: int

    def noise_scales(self) -> Tensor:
        """``g_0 .. g_T`` with ``g_0 = 1``: float64, shape ``(steps + 1,)``, strictly decreasing."""
        beta = torch.linspace(self.beta_start, self.beta_end, self.steps, dtype=torch.float64)
        log_g = 0.5 * torch.cumsum(torch.log1p(-beta), 0)
        return torch.cat([torch.ones(1, dtype=torch.float64), log_g.exp()])

    def time(self, g: Tensor) -> Tensor:
        """Continuous step ``t`` at signal level ``g``; exact at the schedule's own levels.

        Between levels ``t`` is linear in ``sqrt(-log g)``, in which a linear schedule is nearly
        straight. ``g`` below the last level gives ``steps``.
        """
        clock = torch.sqrt(-torch.log(self.noise_scales())).to(g.device)
        u = torch.sqrt(-torch.log(g.double().clamp(max=1.0)))
        upper = torch.searchsorted(clock, u.contiguous()).clamp(1, self.steps)
        below, above = clock[upper - 1], clock[upper]
        t = upper - 1 + (u - below) / (above - below)
        return t.clamp(0, self.steps)

    def scale_at(self, t: Tensor) -> Tensor:
        """Signal level at continuous step ``t``: the inverse of :meth:`time`, float64."""
        clock = torch.sqrt(-torch.log(self.noise_scales())).to(t.device)
        t = t.double().clamp(0, self.steps)
        below = t.floor().long().clamp(max=self.steps - 1)
        u = clock[below] + (t - below) * (clock[below + 1] - clock[below])
        return torch.exp(-u * u)


#: Published training schedule: T = 2000, beta 5e-5 to 1e-2.
TRAINING = LinearSchedule(5e-5, 1e-2, 2000)
#: Published inference schedule: Linear(1e-5, 0.213, 100).
INFERENCE = LinearSchedule(1e-5, 0.213, 100)


def draw_noise_scales(
    schedule: LinearSchedule,
    start: float,
    n: int,
    generator: torch.Generator,
    at_start: float = 0.0,
) -> Tensor:
    """Draw ``n`` signal levels for training: ``t`` uniform over levels with ``g >= start``, then
    ``g`` uniform in ``(g_t, g_{t-1})`` (WaveGrad; PartDiff Sec. 4.2). A share ``at_start`` lies exactly
    at the partial start. Shape ``(n,)``, float32, on the generator's device.
    """
    device = generator.device
    scales = schedule.noise_scales().to(device)
    last = int((scales >= start).sum()) - 1
    t = torch.randint(1, max(last, 1) + 1, (n,), generator=generator, device=device)
    u = torch.rand(n, generator=generator, device=device, dtype=torch.float64)
    g = (scales[t] + u * (scales[t - 1] - scales[t])).clamp(min=start).float()
    first = torch.rand(n, generator=generator, device=device) < at_start
    return torch.where(first, torch.full_like(g, start), g)


def sampling_levels(schedule: LinearSchedule, start: float, steps: int) -> Tensor:
    """Signal levels of a sampling run: ``steps + 1`` levels from ``start`` to 1, evenly spaced in ``t``.

    With ``start = g_K`` and ``steps = K`` these are exactly the schedule's levels K..0.

    Raises:
        ValueError: if ``steps < 1`` or ``start`` is not inside (0, 1).
    """
    if steps < 1 or not 0 < start < 1:
        raise ValueError(f"need steps >= 1 and 0 < start < 1, got steps={steps}, start={start}")
    first = float(schedule.time(torch.tensor(start)))
    levels = schedule.scale_at(torch.linspace(first, 0.0, steps + 1, dtype=torch.float64))
    levels[-1] = 1.0
    return levels


class Path(Protocol):
    """Place of the latent's mean at a signal level."""

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


Denoise: TypeAlias = Callable[[Tensor, Tensor], Tensor]
#: Standard normal noise of a step: index of the step (0 is the start) -> tensor that broadcasts
#: against the images. Sharing it between slices and tiles is the caller's choice.
Noise: TypeAlias = Callable[[int], Tensor]


class Sampler(Protocol):
    """The signature of all samplers."""

    def __call__(
        self,
        denoise: Denoise,
        x: Tensor,
        x_low: Tensor,
        levels: Tensor,
        path: Path,
        noise: Noise,
        eta: float = 0.0,
    ) -> Tensor:
        """x_HR from the latent ``x`` ``(b, c, h, w)`` at the signal level ``levels[0]``.

        Args:
            denoise: estimate of x_HR from a latent and its signal level.
            x: the latent to start from.
            x_low: the measurement interpolated on the target grid, where the path's mean may begin.
            levels: signal levels g = sqrt(alpha_bar), rising; the last is 1, which is no noise.
            path: where the latent's mean lies at a signal level.
            noise: of the steps, asked for only where ``eta > 0``.
            eta: 0 deterministic steps (DDIM), 1 ancestral ones.
        """
        ...


def start_latent(x_low: Tensor, g: Tensor, noise: Tensor) -> Tensor:
    """Partial start ``x_K = g_K x_LR + sqrt(1 - g_K^2) eps`` (PartDiff Sec. 4.1)."""
    return g * x_low + (1 - g * g).sqrt() * noise


def step(
    x_t: Tensor,
    mean_t: Tensor,
    mean_s: Tensor,
    g_t: Tensor,
    g_s: Tensor,
    *,
    eta: float = 0.0,
    noise: Tensor | None = None,
) -> Tensor:
    """One step from signal level ``g_t`` to the larger ``g_s``: DDIM's (Song et al. 2021, eq. 12 and 16).

    Args:
        mean_t, mean_s: the mean of the latent at both levels.
        eta: 0 deterministic (DDIM), 1 ancestral (the posterior's full variance, PartDiff eq. 7).
        noise: standard normal, needed where ``eta > 0``.

    Raises:
        ValueError: an ancestral step without noise.
    """
    var_t, var_s = 1 - g_t * g_t, (1 - g_s * g_s).clamp(min=0)
    residual = (x_t - g_t * mean_t) / var_t.sqrt()
    fresh = eta * eta * var_s / var_t * (1 - g_t * g_t / (g_s * g_s))
    x_s = g_s * mean_s + (var_s - fresh).clamp(min=0).sqrt() * residual
    if eta > 0 and bool(var_s > 0):
        if noise is None:
            raise ValueError("an ancestral step (eta > 0) needs noise")
        x_s = x_s + fresh.sqrt() * noise
    return x_s


def _sample(
    denoise: Denoise,
    x: Tensor,
    x_low: Tensor,
    levels: Tensor,
    path: Path,
    noise: Noise,
    eta: float = 0.0,
    *,
    moving: bool,
) -> Tensor:
    levels = levels.to(x_low.device)  # float64: the last level before 1 must not round to 1
    for i in range(len(levels) - 1):
        g_t, g_s = levels[i], levels[i + 1]
        estimate = denoise(x, g_t)
        mean_t = mean(path, estimate, x_low, g_t)
        mean_s = mean(path, estimate, x_low, g_s) if moving else mean_t
        x = step(x, mean_t, mean_s, g_t, g_s, eta=eta, noise=noise(i + 1) if eta > 0 else None)
    return x


#: ``corrected`` lets the mean move to where the path has it at the next level; ``published`` keeps it where
#: it was, as DDPM's posterior (PartDiff eq. 5 to 7, 18) does. The two are the same on the plain path.
SAMPLERS: Mapping[SamplerName, Sampler] = MappingProxyType(
    {"corrected": partial(_sample, moving=True), "published": partial(_sample, moving=False)}
)


Prediction: TypeAlias = Literal["high", "noise"]


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
