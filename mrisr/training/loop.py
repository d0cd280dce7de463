"""Training, ``mrisr train``: a flat loop over the steps, on one device or many, resumable at any moment.

What is trained is a :class:`Trainee`; its only state is weights, their moving average, the optimiser and the
step. Everything random in step ``i`` follows from (seed, i, rank), so a run can stop and go on anywhere.
Start it on several devices with torchrun.
"""

import math
import os
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from mrisr.config import Config, TrainSettings, ZonesConfig
from mrisr.core.errors import UsageError
from mrisr.core.statistics import seeded
from mrisr.io.atomic import make_folder, write_bytes
from mrisr.models.card import ModelCard, TrainingRecord, ZonesCard
from mrisr.models.store import save_model
from mrisr.training.bookkeeping import (
    Log,
    Progress,
    State,
    fingerprint,
    hardware,
    load_checkpoint,
    save_checkpoint,
)
from mrisr.training.figures import duration, figures_line, write_curves
from mrisr.training.finetune import check_held_out

CHECKPOINT = "checkpoint.safetensors"
CROPS, DEVICE, DROPOUT = 1, 2, 3  # purposes of a step's generators
#: What the CPU draws for a step and the device learns from.
Batch = TypeVar("Batch")


def make_fabric(device: str) -> Fabric:
    """Make the Fabric for ``auto``, ``cpu`` or ``cuda``; under torchrun it joins the launched processes."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if kind.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"--device {device}: no CUDA device is available")
    return quiet_fabric(
        accelerator=kind,
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        num_nodes=max(1, world // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))),
        strategy="ddp" if world > 1 else "auto",
    )


def quiet_fabric(**settings: Any) -> Fabric:
    """A Fabric that does not advise Slurm's srun, which need not start what torchrun or nobody starts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*srun.* command is available")
        return Fabric(**settings)


def learning_rate(step: int, share: float, settings: TrainSettings) -> float:
    """Learning rate: warm-up, then constant, or a cosine to ``lr_final`` if set; ``share`` 0..1 is done."""
    warm = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.lr_final is None:
        return settings.lr * warm
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    return warm * (settings.lr_final + (settings.lr - settings.lr_final) * fall)


def pinned(x: Tensor) -> Tensor:
    """Move a tensor to memory from which a GPU, if there is one, takes it while it works."""
    return x.pin_memory() if torch.cuda.is_available() else x


@torch.no_grad()
def update_ema(ema: dict[str, Tensor], network: torch.nn.Module, step: int, decay: float) -> None:
    """Update the exponential moving average of the weights, with a decay that grows in the first steps."""
    rate = 1 - min(decay, (1 + step) / (10 + step))
    state = network.state_dict()
    torch._foreach_lerp_(list(ema.values()), [state[k] for k in ema], rate)


class Trainee(ABC, Generic[Batch]):
    """Network in training.

    Args:
        config: of the model and its training.
        output: folder of the run; None leaves nothing on the disk.
        fabric: launched.
        module: what is trained, with what of it is not.
        network: the part whose weights are averaged and released.
    """

    #: Whether there are patients to validate on.
    validates: bool
    #: Whether a budget of time is one of the clock also on a CPU, whatever else runs there.
    by_clock = False
    #: Card of the model as it stands before the first step.
    card: ModelCard | ZonesCard

    def __init__(
        self,
        config: Config | ZonesConfig,
        output: Path | None,
        fabric: Fabric,
        *,
        module: nn.Module,
        network: nn.Module,
    ) -> None:
        self.output, self.fabric = output, fabric
        self.settings = settings = config.train
        self.checkpoint = output and output / CHECKPOINT
        trained = [p for p in module.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, settings.lr, settings.betas, weight_decay=settings.weight_decay
        )
        self.module, self.optimizer = fabric.setup(module, optimizer)
        self.network = network
        self.ema = {k: v.detach().clone() for k, v in network.state_dict().items()}
        self.progress = Progress(fingerprint=fingerprint(config))

    @abstractmethod
    def draw(self, step: int) -> Batch:
        """Draw the batch of step ``step``, on the CPU while the device is busy with another."""

    @abstractmethod
    def loss(self, batch: Batch, step: int, share: float) -> Tensor:
        """Compute the loss of a batch, a scalar to be differentiated; ``share`` 0..1 of the run is done."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Compute figures of the averaged weights on held-out patients, by their names in the log."""

    def ended(self, record: TrainingRecord) -> TrainingRecord:
        """Complete the record of a run that has ended."""
        return record.model_copy(
            update={
                "iterations": self.progress.step,
                "minutes": self.settings.minutes,
                "seconds": round(self.progress.seconds, 1),
                "hardware": hardware(self.fabric.device, self.fabric.world_size),
            }
        )

    def export(self) -> None:
        """Write the averaged weights and the card of the run that has ended."""
        assert self.output is not None
        card = self.card.model_copy(update={"training": self.ended(self.card.training)})
        save_model(card, self.ema, self.output, "model", self.settings.store)

    def after_step(self) -> None:
        """Follow an optimiser step: with nothing, unless there is a critic."""

    @property
    def state(self) -> State:
        """Tensors of a checkpoint."""
        return State({"network": self.network}, {"optimizer": self.optimizer}, self.ema)

    def resume(self) -> None:
        """Take up the checkpoint. Raises InputError if it is unusable, UsageError if settings differ."""
        assert self.checkpoint is not None
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
        torch.manual_seed(self.generator(step, DROPOUT).initial_seed())
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

    def generator(self, step: int, purpose: int) -> torch.Generator:
        """Make the generator of a purpose in a step of this process; that of ``DEVICE`` is on the device."""
        device = self.fabric.device if purpose == DEVICE else "cpu"
        return seeded(device, self.settings.seed, step, self.fabric.global_rank, purpose)


def per_process(batch: int, world: int, groups: int = 1) -> int:
    """Size of the batch of one process. Raises UsageError unless it can be shared out, and in ``groups``."""
    share, rest = divmod(batch, world)
    if rest or share % groups:
        times = f" times {groups} groups" if groups > 1 else ""
        raise UsageError(f"batch {batch}: expected a multiple of {world} processes{times}")
    return share


def drawn_ahead(trainee: Trainee[Batch], first: int, last: int) -> Iterator[tuple[int, Batch]]:
    """Iterate over steps and their batches; the next one is drawn while the device works."""
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(trainee.draw, first)
        for step in range(first, last):
            batch = ahead.result()
            ahead = pool.submit(trainee.draw, min(step + 1, last - 1))
            yield step, batch


def run_loop(run: Trainee[Any], log: Callable[..., None]) -> None:
    """Take all remaining steps, with log entries, checkpoints and validation when they are due; before the
    first step there is a validation too."""
    t, fabric = run.settings, run.fabric
    on_cpu = fabric.device.type == "cpu" and not run.by_clock
    clock = time.process_time if on_cpu else time.perf_counter
    if fabric.is_global_zero and run.progress.step == 0:
        _validated(run, log)
    began, before = time.perf_counter(), run.progress.seconds
    running, counted = torch.zeros((), device=fabric.device), 0
    steps = drawn_ahead(run, run.progress.step, t.iterations)
    share = first_share = run.share_done()
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
            taken = run.progress.seconds - before
            left = taken * (1 - share) / (share - first_share)
            _logged(run, log, float(running) / counted, lr, share, left)
            running.zero_()
            counted = 0
        if fabric.is_global_zero and (step % t.validate_every == 0 or last):
            _validated(run, log)
        due = step % t.checkpoint_every == 0 or last
        if fabric.is_global_zero and run.checkpoint is not None and due:
            # after the validation: a kill during it repeats it on resumption
            save_checkpoint(run.checkpoint, run.state, run.progress)
        if last:
            break


def _logged(
    run: Trainee[Any],
    log: Callable[..., None],
    loss: float,
    lr: float,
    share: float,
    left: float,
) -> None:
    """Log the mean loss with the share of the run that is done and the seconds that are left. Raises
    UsageError: the loss is not finite."""
    step, seconds, t = run.progress.step, run.progress.seconds, run.settings
    if not math.isfinite(loss):
        name = run.output or run.card.name
        raise UsageError(f"{name}: the loss is not finite at step {step}; lower lr or use fp32")
    total = "" if t.minutes else f" of {t.iterations}"  # then the most that are made
    line = f"step {step}{total} ({share:.0%}): loss {loss:.4g}, lr {lr:.2g}"
    line += f"; {duration(seconds)} gone, {duration(left)} left"
    log(line, step, loss=loss, lr=lr, seconds=round(seconds, 2))


def _validated(run: Trainee[Any], log: Callable[..., None]) -> None:
    """Log a validation, if there are patients for one, and draw the curves."""
    step = run.progress.step
    if run.validates:
        found = run.validate()
        log(f"validation at step {step}: {figures_line(found)}", step, **found)
    if step and run.output is not None:
        write_curves(run.output)


def train(
    config: Config | ZonesConfig,
    data: Path,
    output: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    tensorboard: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> Path:
    """Train ``config`` on the cache ``data``; the run's folder ``output`` receives everything.

    The folder holds ``config.yaml`` (resolved), ``metrics.jsonl``, ``curves.png``,
    ``checkpoint.safetensors``, ``examples/`` and, at the end, ``model.safetensors`` with ``model.json``.

    Args:
        resume: continue from the checkpoint, or start if there is none.
        device: ``auto``, ``cpu`` or ``cuda``.
        tensorboard: also write events for TensorBoard, into the folder ``tensorboard``.
        report: receives the validation patients, and one line per log entry.

    Returns:
        The path of the final model's card.

    Raises:
        UsageError: the folder holds a run and ``resume`` is not given, the run has other settings, or a
            model that it starts from was trained on a patient to validate on.
        InputError: the cache is unusable or has no slices for this configuration.
    """
    if (output / CHECKPOINT).exists() and not resume:
        raise UsageError(f"{output}: holds a run; --resume continues it")
    check_held_out(config, report)
    fabric = make_fabric(device)
    fabric.launch()
    run = _trainee(config, data, output, fabric)
    if (output / CHECKPOINT).exists():
        run.resume()
    if fabric.is_global_zero:
        make_folder(output)
        write_bytes(output / "config.yaml", config.dump().encode())
    main = fabric.is_global_zero
    if main:
        report(f"validation: {', '.join(config.data.validation) or 'no patients'}")
    log = Log(output, run.progress.step, main, report, tensorboard=tensorboard)
    run_loop(run, log)
    fabric.barrier()
    if fabric.is_global_zero:
        run.export()
    return output / "model.json"


def _trainee(
    config: Config | ZonesConfig, data: Path, output: Path, fabric: Fabric
) -> Trainee[Any]:
    """Make what the configuration trains, each kind with the libraries that it alone needs."""
    if isinstance(config, ZonesConfig):
        from mrisr.training.zones import Segmentation

        return Segmentation(config, data, output, fabric)
    from mrisr.training.restoration import Restoration

    return Restoration(config, data, output, fabric)
