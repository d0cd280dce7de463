"""The restoring function: a measurement, a model and how to sample, to what was found.

The product, the evaluations, the analyses and the validation during training all call :func:`restore`, so
that figures describe what the product writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from mrisr.core.errors import UsageError
from mrisr.core.options import Job, Sampling
from mrisr.core.volume import Volume
from mrisr.models.card import ModelCard
from mrisr.models.find import model_for
from mrisr.models.store import Model, load_model
from mrisr.physics.measurement import Measurement
from mrisr.physics.separable import through_plane_operator
from mrisr.restore.engine import Engine

AnySampling = TypeVar("AnySampling", bound=Sampling)
#: Told how many images are done, and of how many.
Progress = Callable[[int, int], None]
#: Options of sampling that some methods take and others do not.
_OF_METHODS = ("steps", "sampler", "eta", "start", "seed", "tile")


@dataclass(frozen=True, eq=False)
class Restored:
    """Result of restoring, and how it came about.

    Attributes:
        stack: x_HR on the target grid, projected within the measurement's bounds; float32, scaled -1..1,
            ``(slices, rows, columns)`` or images ``(n, channels, rows, columns)``.
        measurement: what it explains.
        card: of the model.
        sampling: the options that took effect, with their values; the others are None.
        evaluations: of the network per image.
        device: where it was computed.
        precision: ``fp32`` or ``bf16``.
        notes: what had to be done otherwise than asked.
    """

    stack: Tensor
    measurement: Measurement
    card: ModelCard
    sampling: Sampling
    evaluations: int
    device: torch.device
    precision: str
    notes: tuple[str, ...] = ()

    @cached_property
    def volume(self) -> Volume:
        """The result on the target grid, in the measured volume's units and storage. Raises MrisrError."""
        return self.measurement.placed.volume(self.stack)


def restore(
    measurement: Measurement,
    model: Model,
    sampling: Sampling | None = None,
    progress: Progress | None = None,
) -> Restored:
    """Restore a measurement: the model's estimate, projected onto what was measured.

    Through the plane each family of reformatted images is restored by itself, and the mean of the families
    is projected.

    Args:
        measurement: ``y``, ``A`` and the bounds.
        model: is not changed.
        sampling: what is left out is the model's own.
        progress: told how many images are done.

    Raises:
        UsageError: an option has no effect on this model, or memory does not suffice.
    """
    sampling = resolved(sampling or Sampling(), model)
    engine = Engine(model, sampling)
    evaluations = engine.restorer.evaluations(sampling)
    report = progress or (lambda done, total: None)
    if measurement.views:
        found = _reformats(engine, measurement, report)
    else:
        images = measurement.y if measurement.y.ndim == 4 else measurement.y[:, None]
        found = engine.restore_all(
            images, measurement.operator, lambda done: report(done, len(images))
        )
        found = found if measurement.y.ndim == 4 else found[:, 0]
    return Restored(
        measurement.project(found, 0.0 if sampling.consistency is None else sampling.consistency),
        measurement,
        engine.card,
        replace(sampling, tile=engine.tile),
        evaluations,
        engine.device,
        "bf16" if evaluations and engine.precision == torch.bfloat16 else "fp32",
        tuple(engine.notes),
    )


def _reformats(engine: Engine, measurement: Measurement, report: Progress) -> Tensor:
    """Mean of the stacks that come out of each family of reformatted images, not yet projected."""
    axis = measurement.operator.axes[-3]
    operator = through_plane_operator(
        axis.n_low, axis.n_high, axis.factor, kind=axis.kind, thickness=axis.thickness
    )
    stack, views = measurement.y, measurement.views
    counts = [stack.shape[3 - view] for view in views]
    total: Tensor | None = None
    for i, view in enumerate(views):
        images = stack.movedim(3 - view, 0).contiguous()  # (others, slices, pixels of this view)
        before = sum(counts[:i])
        found = engine.restore_all(
            images[:, None],
            operator,
            lambda done, before=before: report(before + done, sum(counts)),  # type: ignore[misc]
        )
        part = found[:, 0].movedim(0, 3 - view)
        total = part.clone() if total is None else total.add_(part)
    assert total is not None
    return total / len(views)


def resolved(sampling: AnySampling, model: Model) -> AnySampling:
    """The options that take effect, with the model's own values where they were left out, the others None.

    Raises:
        UsageError: an option is given that has no effect on this model, or its value is out of range.
    """
    card, restorer = model.card, model.restorer
    own = {
        "steps": card.default_steps,
        "sampler": "corrected",
        "eta": card.default_eta,
        "seed": 0,
        "start": None,
        "tile": None,
    }
    steps = sampling.steps if sampling.steps is not None else card.default_steps
    restorer.evaluations(replace(sampling, steps=steps))  # steps that the method cannot do
    taken = restorer.takes(replace(sampling, steps=steps))
    filled: dict[str, Any] = {}
    for name in _OF_METHODS:
        asked = getattr(sampling, name)
        if name in taken:
            filled[name] = own[name] if asked is None else asked
            continue
        if asked is not None and (name, asked) != ("steps", 1):
            raise UsageError(f"{name}: has no effect on {_called(card, steps)}; leave it out")
        filled[name] = None
    if sampling.consistency is None:
        filled["consistency"] = card.default_consistency
    return replace(sampling, **filled)


def _called(card: ModelCard, steps: int) -> str:
    """A model with its method in words."""
    words = f"{card.name} ({card.method})" if card.name != card.method else card.name
    return f"{words} in {steps} step{'s' * (steps != 1)}" if card.method == "diffusion" else words


def model_of(sampling: Sampling, job: Job) -> Model:
    """The model that a job is done with, loaded.

    Raises:
        UsageError: there is no such model, or it is for another job or for pictures.
        InputError: its weights are missing or damaged.
    """
    model = load_model(sampling.model or model_for(job, sampling.method))
    if model.card.job not in (job, None):
        raise UsageError(
            f"model {model.card.name}: expected one for {job}, found one for {model.card.job}"
        )
    if model.card.network.channels != 1:
        raise UsageError(
            f"model {model.card.name}: expected one for volumes, of 1 channel, found one of "
            f"{model.card.network.channels}"
        )
    return model


def effective(sampling: Sampling) -> dict[str, object]:
    """The options that took effect, by name: not which model, nor where it was computed."""
    left = {"model", "method", "device", "precision"}
    values = {f.name: getattr(sampling, f.name) for f in fields(Sampling) if f.name not in left}
    return {name: value for name, value in values.items() if value is not None}
