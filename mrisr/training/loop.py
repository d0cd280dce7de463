"""Flat loop over the training steps, on one device or many, resumable at any moment.

What is trained is a :class:`Trainee`; its only state is weights, their moving average, the optimiser and the
step. Start it on several devices with torchrun.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from mrisr.config import TrainSettings
from mrisr.core.errors import UsageError
from mrisr.models.card import ModelCard, ZonesCard
from mrisr.models.store import save_model
from mrisr.training.bookkeeping import Log, hardware
from mrisr.training.checkpoint import Progress, State, load_checkpoint, save_checkpoint
from mrisr.training.steps import learning_rate, update_ema

CHECKPOINT = "checkpoint.safetensors"
#: What the CPU draws for a step and the device learns from.
Batch = TypeVar("Batch")


def make_fabric(device: str) -> Fabric:
    """Make the Fabric for ``auto``, ``cpu`` or ``cuda``; under torchrun it joins the launched processes."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if kind.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"--device {device}: no CUDA device is available")
    with warnings.catch_warnings():  # Slurm's srun need not start what torchrun starts
        warnings.filterwarnings("ignore", message=".*srun.* command is available")
        return Fabric(
            accelerator=kind,
            devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
            num_nodes=max(1, world // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))),
            strategy="ddp" if world > 1 else "auto",
        )


class Trainee(ABC, Generic[Batch]):
    """Network in training.

    Args:
        settings: of the optimisation.
        output: folder of the run.
        fabric: launched.
        module: what is trained, with what of it is not.
        network: the part whose weights are averaged and released.
        fingerprint: digest of the settings that may not change on resumption.
    """

    #: Whether there are patients to validate on.
    validates: bool
    #: Card of the model as it stands before the first step.
    card: ModelCard | ZonesCard

    def __init__(
        self,
        settings: TrainSettings,
        output: Path,
        fabric: Fabric,
        *,
        module: nn.Module,
        network: nn.Module,
        fingerprint: str,
    ) -> None:
        self.settings, self.output, self.fabric = settings, output, fabric
        self.checkpoint = output / CHECKPOINT
        trained = [p for p in module.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, settings.lr, settings.betas, weight_decay=settings.weight_decay
        )
        self.module, self.optimizer = fabric.setup(module, optimizer)
        self.network = network
        self.ema = {k: v.detach().clone() for k, v in network.state_dict().items()}
        self.progress = Progress(fingerprint=fingerprint)

    @abstractmethod
    def draw(self, step: int) -> Batch:
        """Draw the batch of step ``step``, on the CPU while the device is busy with another."""

    @abstractmethod
    def loss(self, batch: Batch, step: int, share: float) -> Tensor:
        """Compute the loss of a batch, a scalar to be differentiated; ``share`` 0..1 of the run is done."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Compute figures of the averaged weights on held-out patients, by their names in the log."""

    def export(self) -> None:
        """Write the averaged weights and the card of the run that has ended."""
        ended = {
            "iterations": self.progress.step,
            "minutes": self.settings.minutes,
            "seconds": round(self.progress.seconds, 1),
            "hardware": hardware(self.fabric.device, self.fabric.world_size),
        }
        record = self.card.training.model_copy(update=ended)
        card = self.card.model_copy(update={"training": record})
        save_model(card, self.ema, self.output, "model", self.settings.store)

    def after_step(self) -> None:
        """Follow an optimiser step: with nothing, unless there is a critic."""

    @property
    def state(self) -> State:
        """Tensors of a checkpoint."""
        return State({"network": self.network}, {"optimizer": self.optimizer}, self.ema)

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(self.checkpoint, self.state, self.progress)

    def resume(self) -> None:
        """Take up the checkpoint. Raises InputError if it is unusable, UsageError if settings differ."""
        progress = load_checkpoint(self.checkpoint, self.state)
        if progress.fingerprint != self.progress.fingerprint:
            raise UsageError(
                f"{self.output}: the run was started with other settings; use another --output"
            )
        self.progress = progress

    def share_done(self) -> float:
        """Share of the run that is done, 0..1: by steps or, where there is one, by the budget of time.
        The same on all processes."""
        t, p = self.settings, self.progress
        share = p.step / t.iterations
        if t.minutes is not None:
            spent = p.spent / (60 * t.minutes)
            share = max(share, float(self.fabric.broadcast(spent)))
        return min(share, 1.0)

    def step(self, batch: Batch, step: int, share: float) -> tuple[Tensor, float]:
        """Take an optimiser step with ``share`` of the run done; return loss (detached) and learning rate."""
        t = self.settings
        lr = learning_rate(step, share, t)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        loss = self.loss(batch, step, share)
        self.fabric.backward(loss)
        self.fabric.clip_gradients(
            self.module, self.optimizer, max_norm=t.clip, error_if_nonfinite=False
        )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        update_ema(self.ema, self.network, step, t.ema)
        self.after_step()
        return loss.detach(), lr

    def per_process(self) -> int:
        """Size of the batch of one process. Raises UsageError unless the batch can be shared out."""
        share, rest = divmod(self.settings.batch, self.fabric.world_size)
        if rest:
            raise UsageError(
                f"batch {self.settings.batch}: expected a multiple of "
                f"{self.fabric.world_size} processes"
            )
        return share


def take_weights(network: nn.Module, other: nn.Module, name: str) -> None:
    """Start from the weights of a model called ``name``. Raises UsageError if its network is another."""
    try:
        network.load_state_dict(other.state_dict())
    except RuntimeError as error:
        raise UsageError(
            f"train.initialize: {name} has another network than the configuration"
        ) from error


def drawn_ahead(trainee: Trainee[Batch], first: int, last: int) -> Iterator[tuple[int, Batch]]:
    """Iterate over steps and their batches; the next one is drawn while the device works."""
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(trainee.draw, first)
        for step in range(first, last):
            batch = ahead.result()
            ahead = pool.submit(trainee.draw, min(step + 1, last - 1))
            yield step, batch


def run_loop(run: Trainee[Any], log: Log) -> None:
    """Take all remaining steps, with log entries, checkpoints and validation when they are due."""
    t, fabric = run.settings, run.fabric
    clock = time.process_time if fabric.device.type == "cpu" else time.perf_counter
    began, before = time.perf_counter(), run.progress.seconds
    running, counted = torch.zeros((), device=fabric.device), 0
    steps = drawn_ahead(run, run.progress.step, t.iterations)
    share = run.share_done()
    for step_before, batch in steps if share < 1 else ():
        lap = clock()
        loss, lr = run.step(batch, step_before, share)
        running += loss
        counted += 1
        step = run.progress.step = step_before + 1
        run.progress.seconds = before + time.perf_counter() - began
        run.progress.spent += clock() - lap
        share = run.share_done()
        last = share == 1
        if step % t.log_every == 0 or last:
            log(
                step=step,
                loss=_finite(running, counted, run),
                lr=lr,
                seconds=run.progress.seconds,
            )
            running.zero_()
            counted = 0
        due = step % t.validate_every == 0 or last
        if fabric.is_global_zero and run.validates and due:
            log(step=step, **run.validate())
        if fabric.is_global_zero and (step % t.checkpoint_every == 0 or last):
            run.save()  # after the validation: a kill during it repeats it on resumption
        if last:
            break


def _finite(total: Tensor, count: int, run: Trainee[Any]) -> float:
    mean = float(total) / count
    if not math.isfinite(mean):
        raise UsageError(
            f"{run.output}: the loss is not finite at step {run.progress.step}; lower lr or use fp32"
        )
    return mean
