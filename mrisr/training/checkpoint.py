"""Checkpoints of a training run: one safetensors file, written atomically, without pickles."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from mrisr.core.errors import InputError
from mrisr.io.atomic import write_bytes


@dataclass
class Progress:
    """State of a run besides its tensors, over all resumes: steps done, seconds on the clock, and
    seconds of the budget spent (validation and, on a CPU, other load do not count)."""

    step: int = 0
    seconds: float = 0.0
    spent: float = 0.0
    fingerprint: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


class State(NamedTuple):
    """Tensors of a run, by the name that they have in its checkpoint."""

    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    ema: dict[str, Tensor]


def save_checkpoint(path: Path, state: State, progress: Progress) -> None:
    """Write weights, EMA, optimiser state and progress; the old file stays until the new one is whole."""
    tensors = {f"ema.{k}": v for k, v in state.ema.items()}
    for name, module in state.modules.items():
        tensors |= {f"{name}.{k}": v for k, v in module.state_dict().items()}
    for name, optimizer in state.optimizers.items():
        for i, values in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.{i}.{k}": torch.as_tensor(v) for k, v in values.items()}
    packed = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    write_bytes(path, save_tensors(packed, metadata={"progress": json.dumps(progress.__dict__)}))


def load_checkpoint(path: Path, state: State) -> Progress:
    """Restore what :func:`save_checkpoint` wrote, in place.

    Raises:
        InputError: the file is missing, damaged, or of another network.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (not a mapping)
            progress = Progress(**json.loads(file.metadata()["progress"]))
        for name, module in state.modules.items():
            module.load_state_dict(_under(name, tensors))
        for k, v in state.ema.items():
            v.copy_(tensors[f"ema.{k}"])
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        message = " ".join(str(error).split())[:200]
        raise InputError(path, expected="a checkpoint of this run", found=message) from error
    for name, optimizer in state.optimizers.items():
        values: dict[int, dict[str, Tensor]] = {}
        for k, v in _under(name, tensors).items():
            i, _, key = k.partition(".")
            values.setdefault(int(i), {})[key] = v
        optimizer.load_state_dict({**optimizer.state_dict(), "state": values})
    return progress


def _under(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Select the tensors of one part, by their names within it."""
    prefix = f"{name}."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
