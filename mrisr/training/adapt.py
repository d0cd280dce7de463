"""Adaptation: fine-tuning of a model on the slices of the one scan that it is to restore.

A scan holds training pairs of its own: its sharp images, made as coarse as the measurement is. Through
the plane along one of their axes, by the stack's own profile and noise, as SMORE (Zhao et al. 2021, IEEE
TMI 40(3)) and ECLARE (Remedios et al. 2025, arXiv 2503.11787) do; in the plane once more by the scale
(ZSSR, Shocher et al. 2018). Here they change a trained model a little, instead of training one from nothing.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

import mrisr
from mrisr import metrics
from mrisr.config import Config, DataSettings, MethodSettings, TrainSettings
from mrisr.config.training import DegradationSettings
from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import Sampling
from mrisr.data import cache, pairs
from mrisr.methods import build_restorer
from mrisr.models.card import Adaptation, ModelCard
from mrisr.models.store import Model, serialised
from mrisr.networks import channels_last, resolve_device
from mrisr.physics.measurement import Measurement
from mrisr.physics.separable import resample_pixels
from mrisr.restore import Progress, resolved, restore
from mrisr.training.bookkeeping import first_record
from mrisr.training.loop import CROPS, DEVICE, Trainee, pinned, quiet_fabric, run_loop
from mrisr.training.restoration import Batch

#: Fewest slices of a scan that can be adapted to, and one of so many that is held back.
FEWEST, HELD = 5, 6
#: Gain in dB on those from which on an adapted model is kept. They are neighbours of slices learned from and,
#: in the plane, coarser than what is restored: a gain of 0.06 dB has been a loss of 0.13 there.
LEAST_GAIN = 0.2
#: Crops of a step, largest edge of one, and margin around it that is degraded with it.
BATCH, CROP, MARGIN = 4, 128, 24
LEARNING_RATE, WARMUP, EMA = 5e-4, 10, 0.99
#: Pixels that differ by less are one size.
SAME = 0.02


class LearnedScan(NamedTuple):
    """Images to learn from ``(n, rows, columns)`` in -1..1, with how they are degraded: along their rows'
    axis or, in the plane, both."""

    images: Tensor
    measurement: Measurement

    def split(self) -> tuple[Tensor, Tensor]:
        """Images that are learned from, and those held back: neighbours, so that most have no twin."""
        n = len(self.images)
        first, count = 3 * n // 5, max(1, n // HELD)
        held = slice(first, first + count)
        return torch.cat([self.images[:first], self.images[first + count :]]), self.images[held]

    def drawn(self, n: int, told: bool) -> pairs.Drawn:
        """The degradation of ``n`` crops, with the scan's own noise where the model is ``told`` of it."""
        axis = next(iter(self.measurement.operator.axes.values()))
        noise = (self.measurement.noise,) * n if told else ()
        return pairs.Drawn(axis.kind, axis.factor, axis.thickness, noise=noise)


def own_images(measurement: Measurement) -> list[LearnedScan]:
    """A scan's own sharp images, turned so that the axis along which they are to be degraded is their rows'.

    Through the plane every axis of the slices that is fine enough serves, resampled to the target's spacing
    where that is coarser; the other axis is that of the reformatted images' columns.
    """
    if not measurement.views:
        return [LearnedScan(measurement.y, measurement)]
    grid, axis = measurement.placed, measurement.operator.axes[-3]
    spacing = [float(grid.measured.spacing[a]) for a in grid.order]
    target = spacing[0] / axis.factor
    found = []
    for view in measurement.views:
        images = measurement.y if view == 1 else measurement.y.mT
        if spacing[view] < (1 - SAME) * target:
            images = resample_pixels(images, (spacing[view], target), target)
        found.append(LearnedScan(images.contiguous(), measurement))
    return found


def adapted(
    model: Model,
    measurements: Sequence[Measurement],
    sampling: Sampling | None = None,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    inputs_sha256: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> tuple[Model, Adaptation]:
    """Fine-tune a copy of a model on the slices of a scan, or of all planes of one patient.

    Args:
        model: is not changed.
        measurements: of the stacks, with their noise; at least 5 slices each.
        sampling: how the model is to restore: with its ``steps`` it is judged, and in one step it learns the
            first signal level alone. ``seed`` is that of crops and noise; ``device`` counts too.
        minutes: on the clock, judging included. What is learned then depends on the machine's speed.
        steps: instead of minutes: the same model again, on the same machine.
        inputs_sha256: digests of the scans' files, for the report.
        progress: told how much is done, and of how much: seconds, or steps.

    Returns:
        The adapted model, or the given one where slices that were held back gained nothing; and the report.

    Raises:
        UsageError: the model has nothing to adapt, or its loss is not finite.
        InputError: a stack has too few slices.
    """
    _check(model, measurements)
    if (minutes is None) == (steps is None):
        raise UsageError("adapt: expected minutes or steps")
    began = time.perf_counter()
    sources = [source for m in measurements for source in own_images(m)]
    sampling = resolved(replace(sampling or Sampling(), samples=None), model)
    before = _psnr(model, sources, sampling)
    told = _reporter(progress, minutes, steps)
    with torch.random.fork_rng(devices=[]):
        train = _settings(minutes, steps, sampling.seed or 0)
        run = OwnSlices(model, sources, train, sampling)
        run.progress.spent = 2 * (time.perf_counter() - began)  # what judging took, and will take
        run_loop(run, lambda *_, **__: told(run))
        new = run.model()
    after = _psnr(new, sources, sampling)
    report = Adaptation(
        base=model.card.name,
        base_sha256=model.card.sha256,
        sha256=new.card.sha256,
        inputs_sha256=inputs_sha256,
        minutes=minutes,
        steps=run.progress.step,
        seconds=round(time.perf_counter() - began, 1),
        slices=sum(len(m.y) for m in measurements),
        held_back=sum(max(1, len(m.y) // HELD) for m in measurements),
        psnr_before=round(before, 3),
        psnr_after=round(after, 3),
        kept=after - before >= LEAST_GAIN,
    )
    if not report.kept:
        return model, report
    new_card = new.card.model_copy(update={"adaptation": report})
    return Model(new_card, new.restorer, new.path), report


def _check(model: Model, measurements: Sequence[Measurement]) -> None:
    """Refuse what has nothing to adapt, or nothing to adapt to. Raises UsageError, InputError."""
    if model.card.method == "interpolation":
        raise UsageError(f"adapt: has no effect on {model.card.name}; leave it out")
    for m in measurements:
        if len(m.y) < FEWEST:
            name = m.grid.measured.name if m.grid else "the stack"
            raise InputError(name, expected=f"{FEWEST} slices to adapt to", found=f"{len(m.y)}")


class OwnSlices(Trainee[Batch]):
    """Copy of a model in training on the images of one scan."""

    validates = False
    by_clock = True
    card: ModelCard

    def __init__(
        self, model: Model, sources: Sequence[LearnedScan], train: TrainSettings, sampling: Sampling
    ) -> None:
        self.start, self.sources = model, sources
        learned = [source.split()[0] for source in sources]
        edge = min(min(x.shape[-2:]) for x in learned)
        self.margin = min(MARGIN, edge // 8)
        crop = max(16, min(CROP, (edge - 2 * self.margin) // 8 * 8))
        config = _config(model.card, sources, train, crop=crop, margin=self.margin)
        self.job = config.job
        self.data = config.data
        self.crops = [pairs.Crops([_stack(x)], config.data, config.job) for x in learned]
        restorer = build_restorer(_at_levels(model.card, sampling), model.card.condition)
        restorer.network.load_state_dict(model.restorer.network.state_dict())
        self.card = model.card
        on = resolve_device(sampling.device)
        devices = 1 if on.index is None else [on.index]
        fabric = quiet_fabric(accelerator=on.type, devices=devices)
        module = channels_last(restorer)
        super().__init__(config, None, fabric, module=module, network=module.network)
        self.module.mark_forward_method("objective")

    def draw(self, step: int) -> Batch:
        """Draw integer crops of one of the sources, and their noise."""
        generator = self.generator(step, CROPS)
        i = step % len(self.sources)
        drawn = self.sources[i].drawn(BATCH, self.card.noise)
        drawn = drawn._replace(colour=pairs.draw_colour(self.data, generator))
        return Batch(pinned(self.crops[i].draw(BATCH, generator)), [drawn])

    def loss(self, batch: Batch, step: int, share: float) -> Tensor:
        """Compute the method's objective on the batch's pairs, in single precision."""
        crops = batch.crops.to(self.fabric.device)
        generator = self.generator(step, DEVICE)
        pair = pairs.make_pairs(crops, batch.draws, self.job, self.margin, generator)
        loss: Tensor = self.module.objective(pair, generator)[0]
        return loss

    def validate(self) -> dict[str, float]:
        """Compute nothing: slices held back are asked once, at the end."""
        return {}

    def model(self) -> Model:
        """The averaged weights as a model, with a card that says where they came from."""
        restorer = build_restorer(self.card, self.card.condition)
        restorer.network.load_state_dict(self.ema)
        digest = hashlib.sha256(serialised(self.ema)).hexdigest()
        return Model(_card(self, digest), restorer.eval().requires_grad_(False), self.start.path)


def _at_levels(card: ModelCard, sampling: Sampling) -> MethodSettings:
    """A model's method, its training confined to the start where one step is all that is asked of it."""
    if sampling.steps != 1:
        return card
    return card.model_copy(
        update={"diffusion": card.diffusion.model_copy(update={"at_start": 1.0})}
    )


def _stack(images: Tensor) -> cache.Stack:
    """Images in -1..1 as a stack of the training cache."""
    levels = images.add(1).mul(cache.LEVELS / 2).round().clamp(0, 2**15 - 1).short().numpy()
    return cache.Stack("the scan", "own", "axial", None, levels)


def _settings(minutes: float | None, steps: int | None, seed: int) -> TrainSettings:
    """Settings of the optimisation: a low learning rate that falls to nothing as time runs out."""
    return TrainSettings(
        iterations=steps or 1_000_000,
        minutes=minutes,
        batch=BATCH,
        lr=LEARNING_RATE,
        lr_final=0.0,
        warmup=WARMUP,
        betas=(0.9, 0.99),
        ema=EMA,
        clip=0.5,
        precision="fp32",
        seed=seed,
        log_every=1,
    )


def _config(
    card: ModelCard, sources: Sequence[LearnedScan], train: TrainSettings, **sizes: int
) -> Config:
    """A configuration by which a training run would learn the same."""
    drawn = [source.drawn(0, told=False) for source in sources]
    square = not sources[0].measurement.views
    data = DataSettings(
        degradations=tuple(
            DegradationSettings(kind=d.kind, factors=(d.factor,), thickness=(d.thickness,) * 2)
            for d in drawn
        ),
        groups=1,
        transpose=("axial",) if square else (),
        **sizes,
    )
    method: dict[str, Any] = {name: getattr(card, name) for name in MethodSettings.model_fields}
    return Config(name=card.name, job=card.job or "inplane", data=data, train=train, **method)


def _card(run: OwnSlices, digest: str) -> ModelCard:
    """The card of an adapted model. No figure and no calibration of the base model holds for it."""
    base = run.card
    record = first_record(
        run.settings,
        cases=base.training.cases,
        validation=base.training.validation_cases,
        slices=sum(len(source.split()[0]) for source in run.sources),
        crop=run.data.crop,
        initialized_from=base.name,
    )
    return base.model_copy(
        update={
            "name": f"{base.name}-adapted",
            "description": f"{base.name}, fine-tuned on one scan. {base.description}",
            "version": mrisr.__version__,
            "sha256": digest,
            "training": run.ended(record),
            "figures": {},
            "uncertainty": None,
            "limitations": ("Adapted to one scan, and judged on that alone.", *base.limitations),
        }
    )


def _psnr(model: Model, sources: Sequence[LearnedScan], sampling: Sampling) -> float:
    """Mean PSNR in dB of the images held back, degraded and restored."""
    found = []
    for source in sources:
        images = source.split()[1][:, None]
        drawn = source.drawn(1, model.card.noise)
        measurement = pairs.measurement_of(images, model.card.job or "inplane", drawn)
        result = pairs.as_images(measurement, restore(measurement, model, sampling).stack)
        x, truth = ((v + 1).div(2).clamp(0, 1) for v in (result, images))
        found.append(metrics.psnr(x, truth))
    return float(torch.cat(found).mean())


def _reporter(
    progress: Progress | None, minutes: float | None, steps: int | None
) -> Callable[[OwnSlices], None]:
    """What tells how far a run is, in seconds or steps."""

    def tell(run: OwnSlices) -> None:
        if progress is None:
            return
        if minutes is None:
            progress(run.progress.step, steps or run.progress.step)
        else:
            progress(round(60 * minutes * run.share_done()), max(1, round(60 * minutes)))

    return tell
