"""Checkpoints of a training run: one safetensors file, written atomically, without pickles."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from mrisr.errors import InputError
from mrisr.io.atomic import write_bytes


@dataclass
class Progress:
    """Where a run stands besides its tensors: steps done and seconds trained so far, over all resumes."""

    step: int = 0
    seconds: float = 0.0
    fingerprint: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(
    path: Path,
    network: nn.Module,
    ema: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    progress: Progress,
) -> None:
    """Write weights, EMA, optimiser state and progress; the old file stays until the new one is whole."""
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{k}": torch.as_tensor(v) for k, v in state.items()}
    packed = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    write_bytes(path, save_tensors(packed, metadata={"progress": json.dumps(progress.__dict__)}))


def load_checkpoint(
    path: Path, network: nn.Module, ema: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> Progress:
    """Restore what :func:`save_checkpoint` wrote, in place.

    Raises:
        InputError: the file is missing, damaged, or of another network.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (not a mapping)
            progress = Progress(**json.loads(file.metadata()["progress"]))
        network.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("network.")})
        for k, v in ema.items():
            v.copy_(tensors[f"ema.{k}"])
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        message = " ".join(str(error).split())[:200]
        raise InputError(path, expected="a checkpoint of this run", found=message) from error
    state: dict[int, dict[str, Tensor]] = {}
    for k, v in tensors.items():
        if k.startswith("optimizer."):
            _, i, name = k.split(".", 2)
            state.setdefault(int(i), {})[name] = v
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return progress
