"""Training: one flat loop over steps, on one device or many, resumable at any moment.

Everything random in step ``i`` follows from (seed, i, rank), so the only state is weights, their
moving average, the optimiser and the step. Start it on several devices with torchrun.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor

import mrisr
from mrisr import cache, pairs
from mrisr.checkpoint import Progress, load_checkpoint, save_checkpoint
from mrisr.config import Config, TrainSettings
from mrisr.diffusion.denoiser import Denoiser, training_noise_scales
from mrisr.diffusion.schedule import LinearSchedule
from mrisr.errors import InputError, UsageError
from mrisr.io.atomic import write_bytes
from mrisr.models.card import ModelCard, TrainingRecord
from mrisr.models.store import build_denoiser, load_model, save_model
from mrisr.operators import CONDITION
from mrisr.validation import Example, validate, write_examples

CHECKPOINT = "checkpoint.safetensors"
CROPS, DEVICE = 1, 2  # purposes of the two generators of a step


class Batch(NamedTuple):
    """What the CPU sends to the device: integer crops and how they are to be degraded."""

    step: int
    crops: Tensor
    draws: list[pairs.Drawn]


def learning_rate(step: int, settings: TrainSettings) -> float:
    """Warm-up, then constant, or a cosine to ``lr_final`` if that is set."""
    warm = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.lr_final is None:
        return settings.lr * warm
    share = 0.5 * (1 + math.cos(math.pi * step / settings.iterations))
    return warm * (settings.lr_final + (settings.lr - settings.lr_final) * share)


def batches(crops: pairs.Crops, config: Config, first: int, rank: int, world: int) -> Iterator[Batch]:
    """Batches of steps ``first`` to the last; the next one is drawn while the device works."""

    def draw(step: int) -> Batch:
        generator = pairs.seeded("cpu", config.train.seed, step, rank, CROPS)
        draws = [pairs.draw_degradation(config.data, generator) for _ in range(config.data.groups)]
        drawn = crops.draw(config.train.batch // world, generator)
        return Batch(step, drawn.pin_memory() if torch.cuda.is_available() else drawn, draws)

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(draw, first)
        for step in range(first, config.train.iterations):
            batch = ahead.result()
            ahead = pool.submit(draw, min(step + 1, config.train.iterations - 1))
            yield batch


def batch_loss(denoiser: Denoiser, batch: Batch, config: Config, device: torch.device, rank: int) -> Tensor:
    """Degradation, noise and loss of one batch, all on the device."""
    d = config.diffusion
    generator = pairs.seeded(device, config.train.seed, batch.step, rank, DEVICE)
    crops = batch.crops.to(device, non_blocking=True)
    pair = pairs.make_pairs(crops, batch.draws, config.job, config.data.margin)
    schedule = LinearSchedule(**d.training.model_dump())
    g = training_noise_scales(schedule, d.start, len(crops), d.at_start, generator)
    noise = torch.randn(pair.x_high.shape, generator=generator, device=device)
    # Autocast here, not by Fabric: its mixed precision would round the images themselves to bf16.
    with torch.autocast(device.type, torch.bfloat16, enabled=config.train.precision == "bf16"):
        return denoiser.loss(pair.x_high, pair.x_low, g, noise, pair.condition, d.loss)


@torch.no_grad()
def update_ema(ema: dict[str, Tensor], network: torch.nn.Module, step: int, decay: float) -> None:
    """Exponential moving average of the weights, with a decay that grows in the first steps."""
    rate = 1 - min(decay, (1 + step) / (10 + step))
    state = network.state_dict()
    torch._foreach_lerp_(list(ema.values()), [state[k] for k in ema], rate)


def fingerprint(config: Config) -> str:
    """Digest of the settings that must not change between a run and its resumption."""
    fixed = config.model_dump(mode="json")
    for key in ("validate_every", "checkpoint_every", "log_every"):
        fixed["train"].pop(key)
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()


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


def new_card(config: Config, training: list[cache.Stack]) -> ModelCard:
    """The card as it stands before the first step."""
    factors = [f for d in config.data.degradations for f in (d.factors or d.range)]
    t = config.train
    return ModelCard(
        name=config.name,
        job=config.job,
        description=config.description,
        version=mrisr.__version__,
        condition=CONDITION,
        network=config.network,
        diffusion=config.diffusion,
        factors=(min(factors), max(factors)),
        training=TrainingRecord(
            cases=tuple(sorted({s.case for s in training})),
            validation_cases=config.data.validation,
            slices=sum(len(s.levels) for s in training if s.plane in config.data.planes),
            iterations=t.iterations,
            batch=t.batch,
            crop=config.data.crop,
            seconds=0.0,
            hardware="",
            precision=t.precision,
            seed=t.seed,
            software=f"mrisr {mrisr.__version__}, torch {torch.__version__}, Python {platform.python_version()}",
            initialized_from=t.initialize,
        ),
    )


def hardware(device: torch.device, world: int) -> str:
    """The machine in words, for the card."""
    if device.type == "cuda":
        return f"{world} x {torch.cuda.get_device_name(device)}"
    return f"{platform.machine()} CPU, {world} process(es) of {torch.get_num_threads()} threads"


class Log:
    """Lines of JSON in ``metrics.jsonl``, cut back to the checkpoint on resumption; silent on other ranks."""

    def __init__(self, folder: Path, resumed_at: int, main: bool, report: Callable[[str], None]) -> None:
        self.path, self.main, self.report = folder / "metrics.jsonl", main, report
        if main and self.path.exists():
            lines = [line for line in self.path.read_text().splitlines() if line.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] <= resumed_at]
            write_bytes(self.path, "".join(f"{line}\n" for line in kept if resumed_at).encode())

    def __call__(self, **row: Any) -> None:
        if self.main:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            self.report("  ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))


def train(
    config: Config, data: Path, output: Path, *, resume: bool = False, device: str = "auto",
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
    fabric = make_fabric(device)
    fabric.launch()
    rank, world, main = fabric.global_rank, fabric.world_size, fabric.is_global_zero
    checkpoint = output / CHECKPOINT
    if checkpoint.exists() and not resume:
        raise UsageError(f"{output}: holds a run; --resume continues it")
    training, held_out = pairs.split(cache.read_stacks(data), config.data)
    try:
        crops = pairs.Crops(training, config.data, config.job)
    except ValueError as error:
        raise InputError(data, expected=f"slices for {config.name}", found=str(error)) from error

    torch.manual_seed(config.train.seed)
    card = new_card(config, training)
    denoiser = build_denoiser(card)
    if config.train.initialize:
        denoiser.network.load_state_dict(load_model(config.train.initialize).denoiser.network.state_dict())
    denoiser = denoiser.to(memory_format=torch.channels_last)
    t = config.train
    optimizer = torch.optim.AdamW(denoiser.parameters(), t.lr, t.betas, weight_decay=t.weight_decay)
    ema = {k: v.clone().to(fabric.device) for k, v in denoiser.network.state_dict().items()}
    progress = Progress(fingerprint=fingerprint(config))
    if checkpoint.exists():
        progress = load_checkpoint(checkpoint, denoiser.network, ema, optimizer)
        if progress.fingerprint != fingerprint(config):
            raise UsageError(f"{output}: the run was started with other settings; use another --output")
    module, optimizer = fabric.setup(denoiser, optimizer)
    module.mark_forward_method("loss")

    if main:
        output.mkdir(parents=True, exist_ok=True)
        write_bytes(output / "config.yaml", config.dump().encode())
    log = Log(output, progress.step, main, report)
    began, before = time.perf_counter(), progress.seconds
    running = torch.zeros((), device=fabric.device)
    for batch in batches(crops, config, progress.step, rank, world):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(batch.step, t)
        loss = batch_loss(module, batch, config, fabric.device, rank)
        fabric.backward(loss)
        fabric.clip_gradients(module, optimizer, max_norm=t.clip, error_if_nonfinite=False)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        update_ema(ema, denoiser.network, batch.step, t.ema)
        running += loss.detach()
        progress.step, progress.seconds = batch.step + 1, before + time.perf_counter() - began
        last = progress.step == t.iterations
        if progress.step % t.log_every == 0 or last:
            mean = float(running) / (progress.step % t.log_every or t.log_every)
            running.zero_()
            if not math.isfinite(mean):
                raise UsageError(f"{output}: the loss is not finite at step {progress.step}; lower lr or use fp32")
            log(step=progress.step, loss=mean, lr=learning_rate(batch.step, t), seconds=progress.seconds)
        if main and (progress.step % t.checkpoint_every == 0 or last):
            save_checkpoint(checkpoint, denoiser.network, ema, optimizer, progress)
        if main and (progress.step % t.validate_every == 0 or last):
            rows, examples = validation_run(card, ema, held_out, config, fabric.device)
            log(step=progress.step, **rows)
            write_examples(output / "examples" / f"{progress.step:07d}.png", examples)
    fabric.barrier()
    if main:
        record = card.training.model_copy(
            update={"seconds": round(progress.seconds, 1), "hardware": hardware(fabric.device, world)}
        )
        save_model(card.model_copy(update={"training": record}), ema, output, "model")
    return output / "model.json"


def validation_run(
    card: ModelCard, ema: dict[str, Tensor], held_out: list[cache.Stack], config: Config, device: torch.device
) -> tuple[dict[str, float], list[Example]]:
    """Validation figures of the averaged weights."""
    averaged = build_denoiser(card).to(device)
    averaged.network.load_state_dict(ema)
    return validate(averaged.eval(), held_out, config)
