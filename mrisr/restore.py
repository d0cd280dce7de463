"""The restoring function: a measurement, a model and how to sample, to what was found.

The product, the evaluations, the analyses and the validation during training all call :func:`restore`, so
that figures describe what the product writes. The network is evaluated on tiles where an image is too large,
blended inside every evaluation, so that each step of the sampler sees a seamless image.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from mrisr import uncertainty
from mrisr.core.errors import UsageError, out_of_memory
from mrisr.core.options import Job, Sampling
from mrisr.core.stages import stage
from mrisr.core.statistics import seeded
from mrisr.core.volume import Storage, Volume
from mrisr.methods.base import given
from mrisr.models.card import ModelCard, model_for
from mrisr.models.store import Model, load_model
from mrisr.networks import channels_last, resolve_device, resolve_precision
from mrisr.physics.measurement import Measurement
from mrisr.physics.separable import SeparableOperator, through_plane_operator
from mrisr.uncertainty import Deviation

#: Overlap of neighbouring tiles in pixels, and the smallest tile that out of memory leads to.
OVERLAP = 64
SMALLEST_TILE = 128
#: Pixels evaluated at once without tiles, with the default network: feature maps of 16 MB on a CPU, which are
#: computed no faster in larger pieces; 6 GiB in all on a GPU.
BATCH_PIXELS = {"cpu": 1_000_000, "cuda": 16_000_000}
#: Images above this many pixels are tiled on the CPU unless ``tile`` says otherwise.
WHOLE_IMAGE_PIXELS = 24_000_000


def tile_starts(size: int, tile: int, multiple: int = 8) -> list[int]:
    """First pixels of overlapping tiles that cover ``size``, each a multiple of ``multiple`` so that a
    folded network sees the same folding in a tile as in the whole image."""
    if size <= tile:
        return [0]
    step = max(multiple, (tile - OVERLAP) // multiple * multiple)
    last = -(-(size - tile) // multiple) * multiple
    return [*range(0, last, step), last]


def ramp(n: int, start: int, size: int) -> Tensor:
    """Blending weight of a tile of ``n`` pixels at ``start``: falls off linearly where a neighbour
    overlaps."""
    distance = torch.arange(n, dtype=torch.float32) + 0.5
    left = distance / OVERLAP if start > 0 else torch.ones(n)
    right = distance.flip(0) / OVERLAP if start + n < size else torch.ones(n)
    return torch.minimum(left, right).clamp(max=1.0)


class Engine:
    """Restores batches of images with a copy of one model; the model stays as it was.

    Args:
        model: from :func:`mrisr.models.store.load_model`.
        sampling: resolved (:func:`mrisr.restore.resolved`).

    ``notes`` collects what had to be done differently from what was asked, for the record.
    """

    def __init__(self, model: Model, sampling: Sampling) -> None:
        self.card, self.sampling = model.card, sampling
        self.device = resolve_device(sampling.device)
        self.precision = resolve_precision(sampling.precision, self.device)
        self.restorer = channels_last(deepcopy(model.restorer).to(self.device))
        self.tile = sampling.tile
        self.sample = 0  #: which of several answers is drawn
        self.notes: list[str] = []

    def batch_size(self, high: tuple[int, int]) -> int:
        """Images of size ``high`` to restore at once."""
        return max(1, BATCH_PIXELS[self.device.type] // (high[0] * high[1]))

    def noise(self, high: tuple[int, int], step: int) -> Tensor:
        """The standard normal field ``(1, c, h, w)`` of a step: one for all slices and tiles."""
        generator = seeded("cpu", self.sampling.seed or 0, step, self.sample)
        field = torch.randn(1, self.card.network.channels, *high, generator=generator)
        return field.to(self.device)

    @torch.inference_mode()
    def restore(self, y: Tensor, operator: SeparableOperator, level: float = 0.0) -> Tensor:
        """x_HR of measured images ``y`` ``(b, c, rows, columns)`` in -1..1, float32, on the CPU; ``level`` is
        that of their noise, a share of the intensity range.

        The result is not yet projected onto the measurement.
        """
        while True:
            try:
                return self._restore(y.to(self.device), operator, level).cpu()
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                self._shrink(max(operator.interpolate(y[:1]).shape[-2:]))

    def restore_all(
        self,
        images: Tensor,
        operator: SeparableOperator,
        level: float = 0.0,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Tensor:
        """x_HR of ``(n, c, rows, columns)`` in batches; ``progress`` is told how many images are done."""
        low = operator.interpolate(images[:1])
        out = torch.empty(len(images), *low.shape[1:])
        size = self.batch_size((low.shape[-2], low.shape[-1]))
        for first in range(0, len(images), size):
            out[first : first + size] = self.restore(images[first : first + size], operator, level)
            progress(min(first + size, len(images)))
        return out

    @stage("sampling")
    def _restore(self, y: Tensor, operator: SeparableOperator, level: float) -> Tensor:
        measured = given(y, operator, self.card.kinds, level if self.card.noise else None)
        high = (measured.x_low.shape[-2], measured.x_low.shape[-1])
        noise = partial(self.noise, high)
        return self.restorer.restore(measured, self.sampling, noise, self._evaluate)

    def _evaluate(self, function: Callable[..., Tensor], *images: Tensor) -> Tensor:
        """One evaluation of a network on whole images, through tiles where they are too large."""
        if not images or self._tile_for(images[0]) is None:
            return self._compute(function, *images)
        total = weight = images[0].new_zeros(())
        for rows, columns, share in self._tiles(images[0]):
            part = self._compute(function, *(x[..., rows, columns] for x in images))
            if not total.ndim:
                total = part.new_zeros(*part.shape[:2], *images[0].shape[-2:])
                weight = torch.zeros_like(total[:1, :1])
            total[..., rows, columns] += share * part
            weight[..., rows, columns] += share
        return total / weight

    def _tile_for(self, x: Tensor) -> int | None:
        h, w = x.shape[-2:]
        tile = self.tile
        if tile is None and self.device.type == "cpu" and h * w > WHOLE_IMAGE_PIXELS:
            tile = 2048
        return None if tile is None or max(h, w) <= tile else tile

    def _tiles(self, x: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        h, w = x.shape[-2:]
        tile = self._tile_for(x) or max(h, w)
        for top in tile_starts(h, tile):
            for left in tile_starts(w, tile):
                rows, columns = slice(top, min(top + tile, h)), slice(left, min(left + tile, w))
                down = ramp(rows.stop - top, top, h)[:, None]
                across = ramp(columns.stop - left, left, w)[None, :]
                yield rows, columns, (down * across).to(x)

    @stage("network")
    def _compute(self, function: Callable[..., Tensor], *images: Tensor) -> Tensor:
        if self.precision == torch.bfloat16:
            with torch.autocast(self.device.type, torch.bfloat16):
                out = function(*images).float()
            if bool(torch.isfinite(out).all()):
                return out
            self._note("numbers overflowed in bf16; computed again in fp32")
        return function(*images)

    def _shrink(self, size: int) -> None:
        """Halve the tile after running out of memory; at the smallest, move to the CPU."""
        tile = (self.tile or size) // 2
        if tile >= SMALLEST_TILE:
            self.tile = tile
            self._note(f"out of memory: tile reduced to {tile}")
        elif self.device.type != "cpu":
            self.device = torch.device("cpu")
            self.precision = resolve_precision(self.sampling.precision, self.device)
            self.restorer = self.restorer.to(self.device)
            self.tile = None
            self._note("out of memory at the smallest tile: continued on the CPU")
        else:
            raise UsageError(
                f"out of memory even with tiles of {self.tile}; free memory or use a smaller scale"
            )
        torch.cuda.empty_cache()

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


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
