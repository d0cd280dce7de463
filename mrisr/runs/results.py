"""Results of runs, with record and picture: a super-resolved volume, or zones."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import KINDS_OF, InPlane, Kind, Segmenting, ThroughPlane
from mrisr.core.stages import stage
from mrisr.core.volume import Volume, VolumeFile
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
    from mrisr.physics.thickness import Thickness
    from mrisr.planes.joint import Joint
    from mrisr.restore import Progress, Restored
    from mrisr.zones.segmenter import Segmenter


AnyJob = TypeVar("AnyJob", bound=InPlane | ThroughPlane)
#: Where a slice thickness comes from that nobody states, and by how many standard deviations an estimate
#: must differ from it to be taken instead.
UNKNOWN, SURE = "slice spacing", 3.0


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
    from mrisr.restore import effective, model_of, restore
    from mrisr.uncertainty import default_samples

    began = time.perf_counter() if began is None else began
    if isinstance(settings, ThroughPlane) and settings.register == "off":
        raise UsageError("register: has no effect on one stack; leave it out")
    settings, kind = with_degradation(settings)
    model = model or model_of(settings, settings.job)
    measurement, parameters = measured_as(file.volume, settings, kind, model)
    measurement = with_noise(measurement, settings)
    model, adaptation = adapted_to([file], [measurement], settings, model, adapting)
    if uncertain and settings.samples is None:
        settings = replace(settings, samples=default_samples(model.card))
    restored = restore(measurement, model, settings, progress)
    measurement, volume, card = restored.measurement, restored.volume, model.card
    deviation = restored.uncertainty
    if card.noise or restored.sampling.consistency is None or settings.noise_level is not None:
        parameters["noise"] = measurement.noise
    if measurement.views:
        thickness = float(volume.spacing[volume.slice_axis])
        volume = replace(volume, slice_thickness=thickness)
    factor = parameters["factor" if measurement.views else "scale"]
    record = Record(
        job=settings.job,
        model=model_record(card),
        parameters={**parameters, **asked_to_adapt(settings), **effective(restored.sampling)},
        input=VolumeRecord.of(file.volume, file.sha256),
        output=VolumeRecord.of(volume),
        residual=Residual(**measurement.residual(volume)),
        uncertainty=_uncertainty_record(restored),
        adaptation=adaptation,
        device=device_name(restored.device),
        precision=restored.precision,
        seconds=round(time.perf_counter() - began, 2),
        peak_memory_gib=peak_memory_gib(restored.device),
        notes=(
            *file.notes,
            *thickness_notes(parameters),
            *((adaptation.in_words,) if adaptation else ()),
            *restored.notes,
            *_doubts(restored, factor),
        ),
    )

    def draw(shown: Volume, title: str) -> bytes:
        from mrisr.view.qc import qc_png

        interpolated = measurement.placed.volume(measurement.interpolated())
        unit = "SD of the noise" if measurement.noise else "% of the range"
        residual = measurement.residual_map(shown), unit
        return qc_png(shown, file.volume, interpolated, title=title, residual=residual)

    kept = model if adaptation is not None and adaptation.kept else None
    return Result(volume, record, draw, measurement, deviation, kept, volume)


def with_noise(measurement: Measurement, settings: InPlane | ThroughPlane) -> Measurement:
    """A measurement with the noise that the settings state, or else its estimate."""
    if settings.noise_level is None:
        return measurement.with_estimated_noise()
    return replace(measurement, noise=settings.noise_level)


def adapted_to(
    files: Sequence[VolumeFile],
    measurements: Sequence[Measurement],
    settings: InPlane | ThroughPlane,
    model: Model,
    progress: Progress | None,
) -> tuple[Model, Adaptation | None]:
    """The model that restores, and what came of adapting it to the scans, where that is asked for."""
    if not settings.adapts:
        return model, None
    from mrisr.training.adapt import adapted

    return adapted(
        model,
        measurements,
        settings,
        minutes=settings.adapt,
        steps=settings.adapt_steps,
        inputs_sha256=tuple(f.sha256 for f in files if f.sha256 is not None),
        progress=progress,
    )


def asked_to_adapt(settings: InPlane | ThroughPlane) -> dict[str, Any]:
    """The parameters of an adaptation for the record."""
    asked = {"adapt": settings.adapt, "adapt_steps": settings.adapt_steps}
    return {name: value for name, value in asked.items() if value is not None}


def thickness_notes(parameters: Mapping[str, Any]) -> Iterator[str]:
    """A note on a slice thickness that was estimated."""
    found = parameters.get("slice_thickness_estimate_mm")
    if found is not None:
        mm, sd = found
        taken = parameters["slice_thickness_mm"]
        yield f"slice thickness estimated from the volume: {mm:g} mm (SD {sd:g}); {taken:g} mm assumed"


def model_record(card: ModelCard) -> ModelRecord:
    """What a record says of a model."""
    return ModelRecord(name=card.name, method=card.method, version=card.version, sha256=card.sha256)


def with_degradation(settings: AnyJob) -> tuple[AnyJob, Kind]:
    """The settings with the degradation that is assumed. Raises UsageError: it is of another job."""
    kinds = KINDS_OF[settings.job]
    kind = settings.degradation or kinds[0]
    if kind not in kinds:
        raise UsageError(f"degradation: expected one of {', '.join(kinds)}, found {kind}")
    return replace(settings, degradation=kind), kind


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


@stage("to grid")
def measured_as(
    volume: Volume, settings: InPlane | ThroughPlane, kind: Kind, model: Model
) -> tuple[Measurement, dict[str, Any]]:
    """The measurement that a job is to explain, and the parameters of the job for the record."""
    from mrisr.physics.measurement import measure_in_plane, measure_through_plane

    if isinstance(settings, InPlane):
        measured = measure_in_plane(volume, settings.scale, kind)
        return measured, {"scale": settings.scale}
    if volume.shape[volume.slice_axis] < 2:
        raise InputError(volume.name, expected="at least 2 slices", found="1")
    factor = _factor(volume, settings, model.card.factors)
    thickness, why = _thickness(volume, settings.slice_thickness)
    measured = measure_through_plane(volume, factor, kind, thickness)
    between = float(volume.spacing[volume.slice_axis])
    told: dict[str, Any] = {}
    estimate = _estimate(measured) if settings.adapts and why == UNKNOWN else None
    if estimate is not None:
        if abs(estimate.ratio - 1) > SURE * estimate.sd:
            thickness, why = round(min(max(estimate.ratio, 0.3), 2.0), 4), "estimate"
            measured = measure_through_plane(volume, factor, kind, thickness)
        told["slice_thickness_estimate_mm"] = [round(v * between, 2) for v in estimate]
    return measured, {
        "factor": factor,
        "slice_thickness_mm": round(thickness * between, 4),
        "slice_thickness_from": why,
        "reformats": len(measured.views),
        **told,
    }


def _estimate(measurement: Measurement) -> Thickness | None:
    """The slice thickness that a stack's voxels tell."""
    from mrisr.physics.thickness import estimated_thickness

    grid = measurement.placed
    spacing = [float(grid.measured.spacing[a]) for a in grid.order]
    return estimated_thickness(measurement.y, spacing, measurement.with_estimated_noise().noise)


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


def _factor(volume: Volume, settings: ThroughPlane, trained: tuple[float, float]) -> float:
    """The through-plane factor asked for, or the one that makes the volume isotropic."""
    between = float(volume.spacing[volume.slice_axis])
    pixel = min(float(s) for a, s in enumerate(volume.spacing) if a != volume.slice_axis)
    low, high = 1.5, trained[1]
    # Rounded, because spacings are: a NIfTI's 2.999998 mm is the DICOM's 3 mm, and both mean x6.
    chosen = settings.factor or round(between / (settings.spacing or pixel), 4)
    if settings.factor is None and settings.spacing is None:
        chosen = min(chosen, high)
    if not (math.isfinite(chosen) and low <= chosen <= high):
        raise UsageError(
            f"factor: expected {low:g} to {high:g} (slices {between:.4g} mm apart), found {chosen:.4g}"
        )
    return chosen


def _thickness(volume: Volume, asked: float | None) -> tuple[float, str]:
    """Slice thickness over slice spacing, and where it comes from."""
    between = float(volume.spacing[volume.slice_axis])
    if asked is not None:
        if not 0.1 * between <= asked <= 4 * between:
            raise UsageError(
                f"slice thickness: expected {0.1 * between:.3g} to {4 * between:.3g} mm, found {asked:g}"
            )
        return round(asked / between, 4), "option"
    stated = volume.slice_thickness
    if stated is not None and 0.1 * between <= stated <= 4 * between:
        return round(stated / between, 4), "source"
    return 1.0, UNKNOWN
