"""The restoring function: a measurement, a model and how to sample, to what was found.

The product, the evaluations, the analyses and the validation during training all call :func:`restore`, so
that figures describe what the product writes.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from mrisr import uncertainty
from mrisr.core.errors import UsageError
from mrisr.core.options import Job, Sampling
from mrisr.core.volume import Storage, Volume
from mrisr.engine import Engine
from mrisr.models.card import ModelCard, model_for
from mrisr.models.store import Model, load_model
from mrisr.physics.measurement import Measurement
from mrisr.physics.separable import through_plane_operator
from mrisr.uncertainty import Deviation

AnySampling = TypeVar("AnySampling", bound=Sampling)
#: Told how many images are done, and of how many.
Progress = Callable[[int, int], None]
#: Options of sampling that some methods take and others do not.
_OF_METHODS = ("steps", "sampler", "eta", "start", "seed", "samples", "tile")


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
        deviation: standard deviation of the stack's voxels, where it was asked for.
    """

    stack: Tensor
    measurement: Measurement
    card: ModelCard
    sampling: Sampling
    evaluations: int
    device: torch.device
    precision: str
    notes: tuple[str, ...] = ()
    deviation: Deviation | None = None

    @cached_property
    def volume(self) -> Volume:
        """The result on the target grid, in the measured volume's units and storage. Raises MrisrError."""
        return self.measurement.placed.volume(self.stack)

    @cached_property
    def uncertainty(self) -> Volume | None:
        """The standard deviation of the volume's voxels, in its units, float32; None unless asked for."""
        if self.deviation is None:
            return None
        measured = self.measurement.placed.measured
        grid = replace(
            self.measurement.placed, offset=0.0, measured=replace(measured, storage=Storage())
        )
        return replace(
            grid.volume(self.deviation.stack - 1), name=f"uncertainty of {measured.name}"
        )


def restore(
    measurement: Measurement,
    model: Model,
    sampling: Sampling | None = None,
    progress: Progress | None = None,
) -> Restored:
    """Restore a measurement: the model's estimate, projected onto what was measured.

    Through the plane each family of reformatted images is restored by itself, and the mean of the families
    is projected. Of several samples every one is projected, and the result is their mean.

    Args:
        measurement: ``y``, ``A``, its noise and the bounds.
        model: is not changed.
        sampling: what is left out is the model's own.
        progress: told how many images are done.

    Raises:
        UsageError: an option has no effect on this model, or memory does not suffice.
    """
    sampling = resolved(sampling or Sampling(), model)
    if sampling.noise_level is not None:
        measurement = replace(measurement, noise=sampling.noise_level)
    engine = Engine(model, sampling)
    evaluations = engine.restorer.evaluations(sampling)
    if sampling.consistency is None and not measurement.noise:
        sampling = replace(sampling, consistency=1.0)
    stack, deviation = _answer(
        engine, measurement, sampling, progress or (lambda done, total: None)
    )
    return Restored(
        stack,
        measurement,
        engine.card,
        replace(sampling, tile=engine.tile),
        evaluations * (sampling.samples or 1),
        engine.device,
        "bf16" if evaluations and engine.precision == torch.bfloat16 else "fp32",
        tuple(engine.notes),
        deviation,
    )


def _answer(
    engine: Engine, measurement: Measurement, sampling: Sampling, report: Progress
) -> tuple[Tensor, Deviation | None]:
    """The result and, where samples are asked for, its standard deviation."""
    count, weight = sampling.samples or 1, sampling.consistency

    def drawn(k: int) -> Tensor:
        engine.sample = k
        return _found(engine, measurement, lambda n, of: report(k * of + n, count * of))

    if count == 1:
        result = measurement.project(drawn(0), weight)
        if sampling.samples is None:
            return result, None
        return result, uncertainty.estimated(engine.card, measurement, result)
    mean, spread = uncertainty.mean_and_spread(
        measurement.project(drawn(k), weight) for k in range(count)
    )
    return mean, uncertainty.calibrated(engine.card, measurement, spread, sampling)


def _found(engine: Engine, measurement: Measurement, report: Progress) -> Tensor:
    """The model's estimate of a stack, not yet projected."""
    if measurement.views:
        return _reformats(engine, measurement, report)
    images = measurement.y if measurement.y.ndim == 4 else measurement.y[:, None]
    found = engine.restore_all(
        images, measurement.operator, measurement.noise, lambda done: report(done, len(images))
    )
    return found if measurement.y.ndim == 4 else found[:, 0]


def _reformats(engine: Engine, measurement: Measurement, report: Progress) -> Tensor:
    """Mean of the stacks that come out of each family of reformatted images, not yet projected."""
    axis = measurement.operator.axes[-3]
    operator = through_plane_operator(
        axis.n_low, axis.n_high, axis.factor, kind=axis.kind, thickness=axis.thickness
    )
    stack, views = measurement.y, measurement.views
    counts = [stack.shape[3 - view] for view in views]
    total = torch.zeros(())
    for i, view in enumerate(views):
        images = stack.movedim(3 - view, 0).contiguous()  # (others, slices, pixels of this view)
        before = sum(counts[:i])
        found = engine.restore_all(
            images[:, None],
            operator,
            measurement.noise,
            lambda done, before=before: report(before + done, sum(counts)),  # type: ignore[misc]
        )
        total = total + found[:, 0].movedim(0, 3 - view)
    return total / len(views)


def resolved(sampling: AnySampling, model: Model) -> AnySampling:
    """The options that take effect, with the model's own values where they were left out, the others None.

    Raises:
        UsageError: an option is given that has no effect on this model, or its value is out of range.
    """
    card, restorer = model.card, model.restorer
    several = (sampling.samples or 1) > 1 and "samples" in restorer.options
    drawn = uncertainty.sampled(card) if several else None
    steps = sampling.steps
    if steps is None:
        steps = drawn.steps if drawn else card.default_steps
    own = {
        "steps": steps,
        "sampler": "corrected",
        "eta": drawn.eta if drawn else card.default_eta,
        "seed": 0,
    }
    restorer.evaluations(replace(sampling, steps=steps))  # steps that the method cannot do
    taken = restorer.takes(replace(sampling, steps=steps))
    filled: dict[str, Any] = {}
    for name in _OF_METHODS:
        asked = getattr(sampling, name)
        if name in taken:
            filled[name] = own.get(name) if asked is None else asked
            continue
        if asked is not None and (name, asked) != ("steps", 1):
            raise UsageError(f"{name}: has no effect on {_called(card, steps)}; leave it out")
        filled[name] = None
    if sampling.consistency is None and card.default_consistency < 1:
        filled["consistency"] = card.default_consistency
    if (
        sampling.noise_level
        and not card.noise
        and filled.get("consistency", sampling.consistency) is not None
    ):
        raise UsageError(f"noise: has no effect on {_called(card, steps)} with a consistency")
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
    left = {"model", "method", "noise", "device", "precision"}
    values = {f.name: getattr(sampling, f.name) for f in fields(Sampling) if f.name not in left}
    return {name: value for name, value in values.items() if value is not None}
