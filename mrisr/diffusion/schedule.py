"""Signal levels ``g_t = sqrt(alpha_bar_t)`` of linear beta schedules, and continuous draws from them.

``x_t = g_t x_0 + sqrt(1 - g_t^2) eps`` (PartDiff eq. 3 and 4). Signal levels, not step numbers, are
the common language of training, path, network and sampler: a network trained on one schedule can
then be sampled on another (WaveGrad's continuous noise level).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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
    schedule: LinearSchedule, start: float, n: int, generator: torch.Generator | None = None
) -> Tensor:
    """Draw ``n`` signal levels for training: ``t`` uniform over levels with ``g >= start``, then
    ``g`` uniform in ``(g_t, g_{t-1})`` (WaveGrad; PartDiff Sec. 4.2). Shape ``(n,)``, float32, on the
    generator's device.
    """
    device = generator.device if generator is not None else torch.device("cpu")
    scales = schedule.noise_scales().to(device)
    last = int((scales >= start).sum()) - 1
    t = torch.randint(1, max(last, 1) + 1, (n,), generator=generator, device=device)
    u = torch.rand(n, generator=generator, device=device, dtype=torch.float64)
    return (scales[t] + u * (scales[t - 1] - scales[t])).clamp(min=start).float()


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
