"""Randomness as a function of numbers: no generator outlives the step it was made for."""

from __future__ import annotations

import numpy as np
import torch


def seeded(device: torch.device | str, *numbers: int) -> torch.Generator:
    """A generator that depends on all ``numbers`` (seed, step, rank, purpose)."""
    state = np.random.SeedSequence([n % 2**32 for n in numbers]).generate_state(2, np.uint32)
    return torch.Generator(device).manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)
