"""Log, card, digest of the settings and checkpoints of a training run."""

import hashlib
import json
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

import mrisr
from mrisr.config import Config, MethodSettings, TrainSettings, ZonesConfig
from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import KINDS
from mrisr.data import cache
from mrisr.diffusion import LinearSchedule
from mrisr.io.atomic import as_output_error, write_bytes
from mrisr.models.card import ModelCard, TrainingRecord
from mrisr.models.store import Model, load_model
from mrisr.physics.rows import condition_length


def fingerprint(config: Config | ZonesConfig) -> str:
    """Digest of the settings that must not change between a run and its resumption."""
    fixed = config.model_dump(mode="json", exclude={"card", "description"})
    for key in ("validate_every", "checkpoint_every", "log_every"):
        fixed["train"].pop(key)
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()


def default_sampling(config: Config) -> tuple[int, float]:
    """Default steps and eta of a model. One step where it is a regression: all methods but diffusion, and
    diffusion that predicts x_HR from a partial start. Else the whole published run of ancestral steps."""
    d = config.diffusion
    if config.method != "diffusion" or (d.prediction == "high" and not d.from_noise):
        return 1, 0.0
    clock = LinearSchedule(**d.inference.model_dump())
    return round(float(clock.time(torch.tensor(d.start)))), 1.0


def frozen_model(config: Config) -> Model | None:
    """Load the model whose denoiser an inversion freezes; ``None`` for other methods.

    Raises:
        UsageError: there is no such model, or it is no diffusion model for this job.
    """
    if config.inversion is None:
        return None
    model = load_model(config.inversion.denoiser)
    if (model.card.method, model.card.job) != ("diffusion", config.job):
        raise UsageError(
            f"inversion.denoiser: expected a diffusion model for {config.job}, found "
            f"{model.card.name}: {model.card.method} for {model.card.job}"
        )
    found, wanted = model.card.network.channels, config.network.channels
    if found != wanted:
        raise UsageError(
            f"inversion.denoiser: expected a model of {wanted} channels, found "
            f"{model.card.name} of {found}"
        )
    return model


def _inverted(config: Config, frozen: Model | None) -> dict[str, Any]:
    """Collect the card's method settings; an inversion's describe the frozen denoiser."""
    settings = {name: getattr(config, name) for name in MethodSettings.model_fields}
    if frozen is not None and config.inversion is not None:
        loss = {"loss": config.diffusion.loss}
        settings["diffusion"] = frozen.card.diffusion.model_copy(update=loss)
        network = {"network": frozen.card.network}
        settings["inversion"] = config.inversion.model_copy(update=network)
    return settings


def new_card(config: Config, training: list[cache.Stack], frozen: Model | None = None) -> ModelCard:
    """Make the card as it stands before the first step; ``frozen`` is an inversion's denoiser."""
    steps, eta = default_sampling(config)
    factors = [f for d in config.data.degradations for f in (d.factors or d.range)]
    noise = config.data.noise > 0
    return ModelCard(
        name=config.name,
        job=config.job,
        description=config.description,
        version=mrisr.__version__,
        condition=condition_length(KINDS, noise),
        noise=noise,
        **config.card.model_dump(),
        **_inverted(config, frozen),
        factors=(min(f for f in factors if f > 1), max(factors)),
        default_steps=steps,
        default_eta=eta,
        training=first_record(
            config.train,
            cases=(s.case for s in training),
            validation=config.data.validation,
            slices=sum(len(s.levels) for s in training if s.plane in config.data.planes),
            crop=config.data.crop,
            initialized_from=frozen.card.name if frozen else None,
        ),
    )


def first_record(
    train: TrainSettings,
    *,
    cases: Iterable[str],
    validation: tuple[str, ...],
    slices: int,
    crop: int,
    initialized_from: str | None = None,
) -> TrainingRecord:
    """Make the record of a training as it stands before the first step."""
    python = platform.python_version()
    return TrainingRecord(
        cases=tuple(sorted(set(cases))),
        validation_cases=validation,
        slices=slices,
        iterations=train.iterations,
        batch=train.batch,
        crop=crop,
        seconds=0.0,
        hardware="",
        precision=train.precision,
        seed=train.seed,
        software=f"mrisr {mrisr.__version__}, torch {torch.__version__}, Python {python}",
        initialized_from=initialized_from or train.initialize,
    )


def hardware(device: torch.device, world: int) -> str:
    """Describe the machine in words, for the card."""
    if device.type == "cuda":
        return f"{world} x {torch.cuda.get_device_name(device)}"
    return f"{platform.machine()} CPU, {world} process(es) of {torch.get_num_threads()} threads"


class Log:
    """Log of a run: lines of JSON in ``metrics.jsonl``, cut back to the checkpoint on resumption; on request
    the same figures as events for TensorBoard. It is silent on other ranks.

    Args:
        folder: of the run.
        resumed_at: step that the checkpoint stands at; 0 begins anew.
        main: whether this is the process that writes.
        report: receives a line for each entry.
        tensorboard: whether to write events, into the folder ``tensorboard``.
    """

    def __init__(
        self,
        folder: Path,
        resumed_at: int,
        main: bool,
        report: Callable[[str], None],
        *,
        tensorboard: bool = False,
    ) -> None:
        self.path, self.main, self.report = folder / "metrics.jsonl", main, report
        if main and self.path.exists():
            lines = [line for line in self.path.read_text().splitlines() if line.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] <= resumed_at]
            write_bytes(self.path, "".join(f"{line}\n" for line in kept if resumed_at).encode())
        self.events = None
        if main and tensorboard:
            from tensorboardX import SummaryWriter

            self.events = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_at + 1)

    def __call__(self, line: str, step: int, **row: float) -> None:
        """Write an entry, and report it by a line."""
        if self.main:
            with as_output_error(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **row}) + "\n")
            if self.events is not None:
                for name, value in row.items():
                    self.events.add_scalar(name, value, step)
                self.events.flush()
            self.report(line)


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
