"""Results of runs, with record and picture: a super-resolved volume, or zones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mrisr.core.errors import UsageError
from mrisr.core.options import InPlane, Segmenting, ThroughPlane
from mrisr.core.volume import Volume, VolumeFile
from mrisr.runs.measured import measured_as, thickness_notes, with_degradation, with_noise
from mrisr.runs.record import (
    ModelRecord,
    Record,
    Residual,
    UncertaintyRecord,
    VolumeRecord,
    device_name,
    peak_memory_gib,
)

if TYPE_CHECKING:
    from mrisr.models.card import Adaptation, ModelCard
    from mrisr.models.store import Model
    from mrisr.physics.measurement import Measurement
    from mrisr.planes.joint import Joint
    from mrisr.restore import Progress, Restored
    from mrisr.zones.segmenter import Segmenter


@dataclass(frozen=True, eq=False)
class Result:
    """Result of a run.

    Attributes:
        volume: the super-resolved volume or the labels.
        record: its provenance record.
        draw: the quality-control picture of a volume, a PNG, under a title.
        measurement: what a super-resolved volume explains, of one stack or of several; None for labels.
        uncertainty: standard deviation of each voxel of a super-resolved volume, in its units, where it was
            asked for.
        adapted: the model that was fine-tuned on the input, where it was and is better for it.
        image: the same as the kind of image that was given.
        path: where it was written; None for an image in memory.
    """

    volume: Volume
    record: Record
    draw: Callable[[Volume, str], bytes]
    measurement: Measurement | Joint | None = None
    uncertainty: Any = None
    adapted: Model | None = None
    image: Any = None
    path: Path | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes of reader, model and writer on what they found and handled."""
        return self.record.notes

    def picture(self) -> bytes:
        """The quality-control picture, a PNG."""
        return self.draw(self.volume, self.record.title)

    def written(self, volume: Volume, path: Path, *remarks: str) -> Result:
        """The result as it is written: the volume in its storage there, and remarks of the writer."""
        changed: dict[str, Any] = {"notes": (*self.notes, *remarks)}
        if volume is not self.volume and self.measurement is not None:
            changed["output"] = VolumeRecord.of(volume)
            changed["residual"] = Residual(**self.measurement.residual(volume))
        record = self.record.model_copy(update=changed)
        return replace(self, volume=volume, image=volume, record=record, path=path)


def upsample(
    file: VolumeFile,
    settings: InPlane | ThroughPlane,
    *,
    model: Model | None = None,
    progress: Progress | None = None,
    began: float | None = None,
    uncertain: bool = False,
    adapting: Progress | None = None,
) -> Result:
    """Super-resolve a volume.

    Args:
        file: from :func:`mrisr.io.read_file` or :func:`mrisr.io.as_file`.
        settings: of the job.
        model: from :func:`mrisr.restore.model_of`, where it is to serve several volumes.
        progress: told how many images are done, and of how many.
        began: ``time.perf_counter()`` when the work on this study began, for the record.
        uncertain: ask for the uncertainty as well, where the settings do not say by how many samples.
        adapting: as ``progress``, of the seconds or steps in which the model is adapted.

    Raises:
        InputError: the stack has a single slice, or too few to adapt to.
        UsageError: an option is out of range or has no effect, or the model is for another job.
    """
    from mrisr.restore import model_of, restore
    from mrisr.uncertainty import default_samples

    began = time.perf_counter() if began is None else began
    if isinstance(settings, ThroughPlane) and settings.register == "off":
        raise UsageError("register: has no effect on one stack; leave it out")
    settings, kind = with_degradation(settings)
    model = model or model_of(settings, settings.job)
    measurement, parameters = measured_as(file.volume, settings, kind, model)
    measurement = with_noise(measurement, settings)
    used = adapted_to([file], [measurement], settings, model, adapting)
    card = used.model.card
    if uncertain and settings.samples is None:
        settings = replace(settings, samples=default_samples(card))
    restored = restore(measurement, used.model, settings, progress)
    measurement, volume = restored.measurement, restored.volume
    deviation = restored.uncertainty
    if card.noise or restored.sampling.consistency is None or settings.noise_level is not None:
        parameters["noise"] = measurement.noise
    if measurement.views:
        thickness = float(volume.spacing[volume.slice_axis])
        volume = replace(volume, slice_thickness=thickness)
    factor = parameters["factor" if measurement.views else "scale"]
    record = record_of(
        settings,
        used,
        file,
        restored,
        volume,
        measurement,
        parameters,
        began=began,
        notes=(
            *file.notes,
            *thickness_notes(parameters),
            *restored.notes,
            *_doubts(restored, factor),
        ),
        uncertainty=_uncertainty_record(restored),
    )
    draw = _picture(file.volume, measurement, deviation)
    return Result(volume, record, draw, measurement, deviation, used.kept, volume)


def _picture(
    measured: Volume, measurement: Measurement, deviation: Any
) -> Callable[[Volume, str], bytes]:
    """How the quality-control picture of a super-resolved stack is drawn."""

    def draw(shown: Volume, title: str) -> bytes:
        from mrisr.view.qc import qc_png

        interpolated = measurement.placed.volume(measurement.interpolated())
        unit = "SD of the noise" if measurement.noise else "% of the range"
        residual = measurement.residual_map(shown), unit
        return qc_png(
            shown, measured, interpolated, title=title, residual=residual, uncertainty=deviation
        )

    return draw


class Adapted(NamedTuple):
    """The model that restores, and what came of adapting it, where that is asked for."""

    model: Model
    outcome: Adaptation | None = None

    @property
    def kept(self) -> Model | None:
        """The model, where it was fine-tuned and is better for it."""
        return self.model if self.outcome is not None and self.outcome.kept else None


def adapted_to(
    files: Sequence[VolumeFile],
    measurements: Sequence[Measurement],
    settings: InPlane | ThroughPlane,
    model: Model,
    progress: Progress | None,
) -> Adapted:
    """The model, adapted to the scans where the settings ask for it."""
    if not settings.adapts:
        return Adapted(model)
    from mrisr.training.adapt import adapted

    return Adapted(
        *adapted(
            model,
            measurements,
            settings,
            minutes=settings.adapt,
            steps=settings.adapt_steps,
            inputs_sha256=tuple(f.sha256 for f in files if f.sha256 is not None),
            progress=progress,
        )
    )


def record_of(
    settings: InPlane | ThroughPlane,
    used: Adapted,
    file: VolumeFile,
    restored: Restored,
    volume: Volume,
    measurement: Measurement | Joint,
    parameters: dict[str, Any],
    *,
    began: float,
    notes: Sequence[str],
    **more: Any,
) -> Record:
    """The record of a super-resolved volume, of one stack or of several.

    Args:
        restored: of the stack that the volume lies on.
        measurement: what the volume explains.
        parameters: of the job; the options that took effect are added.
        began: ``time.perf_counter()`` when the work on this study began.
        more: further fields of :class:`~mrisr.runs.record.Record`.
    """
    from mrisr.restore import effective

    asked = {"adapt": settings.adapt, "adapt_steps": settings.adapt_steps}
    asked = {name: value for name, value in asked.items() if value is not None}
    return Record(
        job=settings.job,
        model=model_record(used.model.card),
        parameters={**parameters, **asked, **effective(restored.sampling)},
        input=VolumeRecord.of(file.volume, file.sha256),
        output=VolumeRecord.of(volume),
        residual=Residual(**measurement.residual(volume)),
        adaptation=used.outcome,
        device=device_name(restored.device),
        precision=restored.precision,
        seconds=round(time.perf_counter() - began, 2),
        peak_memory_gib=peak_memory_gib(restored.device),
        notes=(*((used.outcome.in_words,) if used.outcome else ()), *notes),
        **more,
    )


def model_record(card: ModelCard) -> ModelRecord:
    """What a record says of a model."""
    return ModelRecord(name=card.name, method=card.method, version=card.version, sha256=card.sha256)


def segment(
    file: VolumeFile,
    settings: Segmenting | None = None,
    *,
    segmenter: Segmenter | None = None,
    began: float | None = None,
) -> Result:
    """Label the zones of a volume; ``segmenter`` where one is to serve several volumes.

    Raises:
        InputError: the volume cannot be segmented.
        UsageError: an option is out of range, or there is no such model.
    """
    from mrisr.zones.labels import ZONES
    from mrisr.zones.score import zone_volumes_ml
    from mrisr.zones.segmenter import load_segmenter

    began = time.perf_counter() if began is None else began
    segmenter = segmenter or load_segmenter(settings or Segmenting())
    found = segmenter(file.volume)
    labels = found.labels
    took_effect = {"table": segmenter.table and str(segmenter.table), "margin": segmenter.margin}
    record = Record(
        job="segment",
        model=ModelRecord(name=segmenter.name, method=segmenter.kind, sha256=segmenter.sha256),
        parameters={"labels": ZONES, **{k: v for k, v in took_effect.items() if v}},
        input=VolumeRecord.of(file.volume, file.sha256),
        output=VolumeRecord.of(labels),
        volumes_ml={zone: round(ml, 3) for zone, ml in zone_volumes_ml(labels).items()},
        check=found.check or None,
        device=device_name(segmenter.device),
        seconds=round(time.perf_counter() - began, 2),
        peak_memory_gib=peak_memory_gib(segmenter.device),
        notes=(*file.notes, *found.notes),
    )

    def draw(shown: Volume, title: str) -> bytes:
        from mrisr.zones.picture import zones_png

        return zones_png(file.volume, shown, title=title)

    return Result(labels, record, draw, image=labels)


def _uncertainty_record(restored: Restored) -> UncertaintyRecord | None:
    """The record of a standard deviation."""
    found, grid = restored.deviation, restored.measurement.placed
    if found is None:
        return None
    mean = float(found.stack.double().mean()) / 2
    return UncertaintyRecord(
        calibrated=found.calibrated, scalar=found.scalar, mean=mean * grid.scale, mean_of_range=mean
    )


def _doubts(restored: Restored, factor: float) -> Iterator[str]:
    """Notes on an input that is not as usual, a factor that the model was not trained for, and an uncertainty
    that nobody has compared with errors."""
    if restored.measurement.placed.of_small_object:
        yield "hardly any voxel is bright: intensities are scaled by those that are"
    low, high = restored.card.factors
    if not low <= factor <= high:
        yield f"x{factor:g} lies outside the model's x{low:g} to x{high:g}"
    if restored.deviation is not None and not restored.deviation.calibrated:
        yield "the uncertainty is the mere spread of samples: the model is not calibrated for such ones"
