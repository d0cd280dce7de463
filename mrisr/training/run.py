"""Training: one flat loop over steps, on one device or many, resumable at any moment.

The only state is weights, their moving average, the optimiser and the step. Start it on several
devices with torchrun.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from mrisr import cache, pairs
from mrisr.checkpoint import Progress, State, load_checkpoint, save_checkpoint
from mrisr.config import Config
from mrisr.errors import InputError, UsageError
from mrisr.io.atomic import make_folder, write_bytes
from mrisr.models.store import Model, load_model, save_model
from mrisr.networks import channels_last
from mrisr.pairs import seeded
from mrisr.restorers import Restorer, build_restorer
from mrisr.restorers.inversion import InversionRestorer
from mrisr.training.adversary import Adversary
from mrisr.training.bookkeeping import Log, fingerprint, frozen_model, hardware, new_card
from mrisr.training.steps import (
    DEVICE,
    DROPOUT,
    Batch,
    batch_pair,
    batches,
    learning_rate,
    update_ema,
)
from mrisr.validation import validate, write_examples

CHECKPOINT = "checkpoint.safetensors"


def make_fabric(device: str) -> Fabric:
    """Fabric for ``auto``, ``cpu`` or ``cuda``; under torchrun it joins the launched processes."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if kind.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"--device {device}: no CUDA device is available")
    return Fabric(
        accelerator=kind,
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        num_nodes=max(1, world // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))),
        strategy="ddp" if world > 1 else "auto",
    )


def take_weights(restorer: Restorer, model: Model) -> None:
    """Start from a model's weights. Raises UsageError if its network is another."""
    try:
        restorer.network.load_state_dict(model.restorer.network.state_dict())
    except RuntimeError as error:
        raise UsageError(
            f"train.initialize: {model.card.name} has another network than the configuration"
        ) from error


class Run:
    """A training run: what is built from its configuration, and what one step does to it.

    Args:
        config, data, output: as for :func:`train`.
        fabric: launched.
    """

    def __init__(self, config: Config, data: Path, output: Path, fabric: Fabric) -> None:
        share, rest = divmod(config.train.batch, fabric.world_size)
        if rest or share % config.data.groups:
            raise UsageError(
                f"batch {config.train.batch}: expected a multiple of {fabric.world_size} processes "
                f"times {config.data.groups} groups"
            )
        self.config, self.output, self.fabric = config, output, fabric
        self.checkpoint = output / CHECKPOINT
        training, self.held_out = pairs.split(cache.read_stacks(data), config.data)
        try:
            self.crops = pairs.Crops(training, config.data, config.job)
        except ValueError as error:
            raise InputError(
                data, expected=f"slices for {config.name}", found=str(error)
            ) from error
        found, wanted = self.crops.channels, config.network.channels
        if found != wanted:
            raise InputError(
                data, expected=f"network.channels = {wanted} channels", found=f"slices of {found}"
            )
        torch.manual_seed(config.train.seed)
        frozen = frozen_model(config)
        self.card = new_card(config, training, frozen)
        restorer = build_restorer(self.card, self.card.condition)
        if config.train.initialize:
            take_weights(restorer, load_model(config.train.initialize))
        if frozen is not None:
            assert isinstance(restorer, InversionRestorer)
            restorer.denoiser.network.load_state_dict(frozen.restorer.network.state_dict())
        restorer = channels_last(restorer)
        t = config.train
        trained = [p for p in restorer.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, t.lr, t.betas, weight_decay=t.weight_decay)
        self.module, self.optimizer = fabric.setup(restorer, optimizer)
        self.module.mark_forward_method("objective")
        self.network = restorer.network
        self.adversary = None
        if t.adversarial is not None:
            self.adversary = Adversary(t.adversarial, config.network.channels, fabric)
        self.ema = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.progress = Progress(fingerprint=fingerprint(config))

    @property
    def state(self) -> State:
        """What a checkpoint holds, apart from the progress."""
        modules, optimizers = {"network": self.network}, {"optimizer": self.optimizer}
        if self.adversary is not None:
            modules["critic"] = self.adversary.critic
            optimizers["critic_optimizer"] = self.adversary.optimizer
        return State(modules, optimizers, self.ema)

    def resume(self) -> None:
        """Take up the checkpoint. Raises InputError if it is unusable, UsageError if settings differ."""
        progress = load_checkpoint(self.checkpoint, self.state)
        if progress.fingerprint != self.progress.fingerprint:
            raise UsageError(
                f"{self.output}: the run was started with other settings; use another --output"
            )
        self.progress = progress

    def share_done(self) -> float:
        """How much of the run is done, 0..1: by steps or, where there is one, by the budget of time.
        The same on all processes."""
        t, p = self.config.train, self.progress
        share = p.step / t.iterations
        if t.minutes is not None:
            spent = p.spent / (60 * t.minutes)
            share = max(share, float(self.fabric.broadcast(spent)))
        return min(share, 1.0)

    def step(self, batch: Batch, share: float) -> tuple[Tensor, float]:
        """One optimiser step when ``share`` of the run is done; returns loss (detached) and learning rate."""
        t, device, rank = self.config.train, self.fabric.device, self.fabric.global_rank
        lr = learning_rate(batch.step, share, t)
        torch.manual_seed(seeded("cpu", t.seed, batch.step, rank, DROPOUT).initial_seed())
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        pair = batch_pair(batch, self.config, device)
        generator = seeded(device, t.seed, batch.step, rank, DEVICE)
        bf16 = t.precision == "bf16"
        # Autocast here, not by Fabric: its mixed precision would round the images themselves to bf16.
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss, restored = self.module.objective(pair, generator)
            if self.adversary is not None:
                loss = loss + self.adversary.term(restored, pair.x_high, share)
        self.fabric.backward(loss)
        self.fabric.clip_gradients(
            self.module, self.optimizer, max_norm=t.clip, error_if_nonfinite=False
        )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        update_ema(self.ema, self.network, batch.step, t.ema)
        if self.adversary is not None:
            self.adversary.learn(restored, pair.x_high, bf16=bf16)
        return loss.detach(), lr

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(self.checkpoint, self.state, self.progress)

    def validate(self) -> dict[str, float]:
        """Figures of the averaged weights on the held-out patients; writes the example picture."""
        averaged = build_restorer(self.card, self.card.condition).to(self.fabric.device)
        averaged.network.load_state_dict(self.ema)
        rows, examples = validate(averaged.eval(), self.held_out, self.config)
        write_examples(self.output / "examples" / f"{self.progress.step:07d}.png", examples)
        return rows

    def export(self) -> None:
        """Write the averaged weights and the card."""
        record = self.card.training.model_copy(
            update={
                "iterations": self.progress.step,
                "minutes": self.config.train.minutes,
                "seconds": round(self.progress.seconds, 1),
                "hardware": hardware(self.fabric.device, self.fabric.world_size),
            }
        )
        card = self.card.model_copy(update={"training": record})
        save_model(card, self.ema, self.output, "model", self.config.train.store)


def train(
    config: Config,
    data: Path,
    output: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    report: Callable[[str], None] = lambda line: None,
) -> Path:
    """Train ``config`` on the cache ``data``; the run's folder ``output`` receives everything.

    The folder holds ``config.yaml`` (resolved), ``metrics.jsonl``, ``checkpoint.safetensors``,
    ``examples/`` and, at the end, ``model.safetensors`` with ``model.json``.

    Args:
        resume: continue from the checkpoint, or start if there is none.
        device: ``auto``, ``cpu`` or ``cuda``.
        report: receives one line per log entry.

    Returns:
        The path of the final model's card.

    Raises:
        UsageError: the folder holds a run and ``resume`` is not given, or the run has other settings.
        InputError: the cache is unusable or has no slices for this configuration.
    """
    if (output / CHECKPOINT).exists() and not resume:
        raise UsageError(f"{output}: holds a run; --resume continues it")
    fabric = make_fabric(device)
    fabric.launch()
    run = Run(config, data, output, fabric)
    if run.checkpoint.exists():
        run.resume()
    if fabric.is_global_zero:
        make_folder(output)
        write_bytes(output / "config.yaml", config.dump().encode())
    log = Log(output, run.progress.step, fabric.is_global_zero, report)
    _loop(run, log)
    fabric.barrier()
    if fabric.is_global_zero:
        run.export()
    return output / "model.json"


def _loop(run: Run, log: Log) -> None:
    """All remaining steps, with log entries, checkpoints and validation when they are due."""
    t, fabric = run.config.train, run.fabric
    clock = time.process_time if fabric.device.type == "cpu" else time.perf_counter
    began, before = time.perf_counter(), run.progress.seconds
    running, counted = torch.zeros((), device=fabric.device), 0
    steps = batches(run.crops, run.config, run.progress.step, fabric.global_rank, fabric.world_size)
    share = run.share_done()
    for batch in steps if share < 1 else ():
        lap = clock()
        loss, lr = run.step(batch, share)
        running += loss
        counted += 1
        step = run.progress.step = batch.step + 1
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
        if fabric.is_global_zero and run.held_out and due:
            log(step=step, **run.validate())
        if fabric.is_global_zero and (step % t.checkpoint_every == 0 or last):
            run.save()  # after the validation: a kill during it repeats it on resumption
        if last:
            break


def _finite(total: Tensor, count: int, run: Run) -> float:
    mean = float(total) / count
    if not math.isfinite(mean):
        raise UsageError(
            f"{run.output}: the loss is not finite at step {run.progress.step}; lower lr or use fp32"
        )
    return mean
