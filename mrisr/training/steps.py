"""Training step: draws on the CPU, pairs on the device, and the moving averages.

Everything random in step ``i`` follows from (seed, i, rank), so a run can stop and go on anywhere.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mrisr.config import Config, TrainSettings
from mrisr.core.random import seeded
from mrisr.data import pairs

CROPS, DEVICE, DROPOUT = 1, 2, 3  # purposes of a step's generators


class Batch(NamedTuple):
    """Batch that the CPU sends to the device: integer crops and how they are to be degraded."""

    crops: Tensor
    draws: list[pairs.Drawn]


def learning_rate(step: int, share: float, settings: TrainSettings) -> float:
    """Learning rate: warm-up, then constant, or a cosine to ``lr_final`` if set; ``share`` 0..1 is done."""
    warm = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.lr_final is None:
        return settings.lr * warm
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    return warm * (settings.lr_final + (settings.lr - settings.lr_final) * fall)


def draw_batch(crops: pairs.Crops, config: Config, step: int, rank: int, world: int) -> Batch:
    """Draw the batch of a process in a step."""
    generator = seeded("cpu", config.train.seed, step, rank, CROPS)
    draws = [pairs.draw_degradation(config.data, generator) for _ in range(config.data.groups)]
    drawn = crops.draw(config.train.batch // world, generator)
    return Batch(pinned(drawn), draws)


def pinned(x: Tensor) -> Tensor:
    """Move a tensor to memory from which a GPU, if there is one, takes it while it works."""
    return x.pin_memory() if torch.cuda.is_available() else x


def batch_pair(batch: Batch, config: Config, device: torch.device) -> pairs.Pair:
    """Make the batch's pairs, degraded on the device."""
    crops = batch.crops.to(device, non_blocking=True)
    return pairs.make_pairs(crops, batch.draws, config.job, config.data.margin)


@torch.no_grad()
def update_ema(ema: dict[str, Tensor], network: torch.nn.Module, step: int, decay: float) -> None:
    """Update the exponential moving average of the weights, with a decay that grows in the first steps."""
    rate = 1 - min(decay, (1 + step) / (10 + step))
    state = network.state_dict()
    torch._foreach_lerp_(list(ema.values()), [state[k] for k in ema], rate)
