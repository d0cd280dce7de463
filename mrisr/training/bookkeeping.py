"""What a run leaves behind besides its weights: the log, the card, the digest of its settings."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import mrisr
from mrisr import cache
from mrisr.config import Config
from mrisr.diffusion.schedule import LinearSchedule
from mrisr.io.atomic import as_output_error, write_bytes
from mrisr.models.card import ModelCard, TrainingRecord
from mrisr.operators import CONDITION


def fingerprint(config: Config) -> str:
    """Digest of the settings that must not change between a run and its resumption."""
    fixed = config.model_dump(mode="json", exclude={"card", "description"})
    for key in ("validate_every", "checkpoint_every", "log_every"):
        fixed["train"].pop(key)
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()


def default_steps(config: Config) -> int:
    """One step where the network predicts x_HR (its first estimate is the regression); the whole
    published run of K ancestral steps where it predicts the noise."""
    d = config.diffusion
    if d.prediction == "high":
        return 1
    clock = LinearSchedule(**d.inference.model_dump())
    return round(float(clock.time(torch.tensor(d.start))))


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
        **config.card.model_dump(),
        network=config.network,
        diffusion=config.diffusion,
        factors=(min(factors), max(factors)),
        default_steps=default_steps(config),
        default_churn=1.0 if config.diffusion.prediction == "noise" else 0.0,
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
            software=software(),
            initialized_from=t.initialize,
        ),
    )


def software() -> str:
    """Versions, for the card."""
    python = platform.python_version()
    return f"mrisr {mrisr.__version__}, torch {torch.__version__}, Python {python}"


def hardware(device: torch.device, world: int) -> str:
    """The machine in words, for the card."""
    if device.type == "cuda":
        return f"{world} x {torch.cuda.get_device_name(device)}"
    return f"{platform.machine()} CPU, {world} process(es) of {torch.get_num_threads()} threads"


class Log:
    """Lines of JSON in ``metrics.jsonl``, cut back to the checkpoint on resumption; silent on other ranks."""

    def __init__(
        self, folder: Path, resumed_at: int, main: bool, report: Callable[[str], None]
    ) -> None:
        self.path, self.main, self.report = folder / "metrics.jsonl", main, report
        if main and self.path.exists():
            lines = [line for line in self.path.read_text().splitlines() if line.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] <= resumed_at]
            write_bytes(self.path, "".join(f"{line}\n" for line in kept if resumed_at).encode())

    def __call__(self, **row: Any) -> None:
        if self.main:
            with as_output_error(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            self.report(
                "  ".join(
                    f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
                )
            )
