"""Results of runs, with record and picture: a super-resolved volume, or zones."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import KINDS_OF, InPlane, Kind, Segmenting, ThroughPlane
from mrisr.core.volume import Volume, VolumeFile
from mrisr.runs.record import (
    ModelRecord,
    Record,
    Residual,
    VolumeRecord,
    device_name,
    peak_memory_gib,
)

if TYPE_CHECKING:
    from mrisr.models.store import Model
    from mrisr.physics.measurement import Measurement
    from mrisr.restore.restore import Progress, Restored
    from mrisr.zones.segmenter import Segmenter


@dataclass(frozen=True, eq=False)
class Result(ABC):
    """Result of a run.

    Attributes:
        file: what was read.
        volume: the super-resolved volume or the labels.
        seconds: of the work.
        remarks: notes of the writer.
        image: the same as the kind of image that was given.
        path: where it was written; None for an image in memory.
    """

    file: VolumeFile
    volume: Volume
    seconds: float
    remarks: tuple[str, ...] = ()
    image: Any = None
    path: Path | None = None

    @property
    @abstractmethod
    def notes(self) -> tuple[str, ...]:
        """Notes of reader, model and writer on what they found and handled."""

    @cached_property
    @abstractmethod
    def record(self) -> Record:
        """The provenance record."""

    @abstractmethod
    def picture(self) -> bytes:
        """The quality-control picture, a PNG."""


@dataclass(frozen=True, eq=False)
class Upsampled(Result):
    """A super-resolved volume.

    Attributes:
        restored: what the restoring function gave.
        parameters: of the job, beside the options of sampling.
    """

    restored: Restored = field(kw_only=True)
    parameters: Mapping[str, Any] = field(kw_only=True)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes of reader, model and writer."""
        return (*self.file.notes, *self.restored.notes, *self.remarks)

    @cached_property
    def record(self) -> Record:
        """The provenance record."""
        from mrisr.restore.restore import effective

        restored, card = self.restored, self.restored.card
        model = ModelRecord(
            name=card.name, method=card.method, version=card.version, sha256=card.sha256
        )
        return Record(
            job="throughplane" if restored.measurement.views else "inplane",
            model=model,
            parameters={**self.parameters, **effective(restored.sampling)},
            input=VolumeRecord.of(self.file.volume, self.file.sha256),
            output=VolumeRecord.of(self.volume),
            residual=Residual(**restored.measurement.residual(self.volume)),
            device=device_name(restored.device),
            precision=restored.precision,
            seconds=round(self.seconds, 2),
            peak_memory_gib=peak_memory_gib(restored.device),
            notes=self.notes,
        )

    def picture(self) -> bytes:
        """Input, interpolation and result in three planes, a PNG."""
        from mrisr.view.qc import qc_png

        measurement = self.restored.measurement
        interpolated = measurement.placed.volume(measurement.interpolated())
        title = f"{self.record.model.name}  {self.record.line().split(';')[0]}"
        return qc_png(self.volume, self.file.volume, interpolated, title=title)


@dataclass(frozen=True, eq=False)
class Segmented(Result):
    """Zones of the prostate, on the grid of the image that was segmented."""

    segmenter: Segmenter = field(kw_only=True)
    found: tuple[str, ...] = field(kw_only=True)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes of reader, segmenter and writer."""
        return (*self.file.notes, *self.found, *self.remarks)

    @cached_property
    def record(self) -> Record:
        """The provenance record."""
        from mrisr.zones.labels import ZONES
        from mrisr.zones.score import zone_volumes_ml

        segmenter = self.segmenter
        effective = {"table": segmenter.table and str(segmenter.table)}
        effective["margin"] = getattr(segmenter, "margin", None)
        parameters = {"labels": ZONES, **{k: v for k, v in effective.items() if v}}
        return Record(
            job="segment",
            model=ModelRecord(name=segmenter.name, method=segmenter.kind, sha256=segmenter.sha256),
            parameters=parameters,
            input=VolumeRecord.of(self.file.volume, self.file.sha256),
            output=VolumeRecord.of(self.volume),
            volumes_ml={z: round(v, 3) for z, v in zone_volumes_ml(self.volume).items()},
            device=device_name(segmenter.device),
            seconds=round(self.seconds, 2),
            peak_memory_gib=peak_memory_gib(segmenter.device),
            notes=self.notes,
        )

    def picture(self) -> bytes:
        """The zones outlined on the image in three planes, a PNG."""
        from mrisr.zones.picture import zones_png

        title = self.record.line().split(";")[0]
        return zones_png(self.file.volume, self.volume, title=title)


def upsample(
    file: VolumeFile,
    settings: InPlane | ThroughPlane,
    *,
    model: Model | None = None,
    progress: Progress | None = None,
    began: float | None = None,
) -> Upsampled:
    """Super-resolve a volume.

    Args:
        file: from :func:`mrisr.io.read_file` or :func:`mrisr.io.as_file`.
        settings: of the job.
        model: from :func:`mrisr.restore.restore.model_of`, where it is to serve several volumes.
        progress: told how many images are done, and of how many.
        began: ``time.perf_counter()`` when the work on this study began, for the record.

    Raises:
        InputError: the stack has a single slice.
        UsageError: an option is out of range or has no effect, or the model is for another job.
    """
    from mrisr.restore.restore import model_of, restore

    began = time.perf_counter() if began is None else began
    kinds = KINDS_OF[settings.job]
    kind = settings.degradation or kinds[0]
    if kind not in kinds:
        raise UsageError(f"degradation: expected one of {', '.join(kinds)}, found {kind}")
    settings = replace(settings, degradation=kind)
    through = isinstance(settings, ThroughPlane)
    if through and file.volume.shape[file.volume.slice_axis] < 2:
        raise InputError(file.volume.name, expected="at least 2 slices", found="1")
    model = model or model_of(settings, settings.job)
    if isinstance(settings, ThroughPlane):
        measurement, parameters = _through_plane(file.volume, settings, kind, model)
        factor = parameters["factor"]
    else:
        measurement, parameters = _in_plane(file.volume, settings, kind)
        factor = settings.scale
    restored = restore(measurement, model, settings, progress)
    low, high = model.card.factors
    if not low <= factor <= high:
        outside = f"x{factor:g} lies outside the model's x{low:g} to x{high:g}"
        restored = replace(restored, notes=(*restored.notes, outside))
    volume = restored.volume
    if through:
        volume = replace(volume, slice_thickness=float(volume.spacing[volume.slice_axis]))
    seconds = time.perf_counter() - began
    return Upsampled(file, volume, seconds, restored=restored, parameters=parameters)


def segment(
    file: VolumeFile,
    settings: Segmenting | None = None,
    *,
    segmenter: Segmenter | None = None,
    began: float | None = None,
) -> Segmented:
    """Label the zones of a volume; ``segmenter`` where one is to serve several volumes.

    Raises:
        InputError: the volume cannot be segmented.
        UsageError: an option is out of range, or there is no such model.
    """
    from mrisr.zones.segmenter import load_segmenter

    began = time.perf_counter() if began is None else began
    segmenter = segmenter or load_segmenter(settings or Segmenting())
    found = segmenter(file.volume)
    seconds = time.perf_counter() - began
    return Segmented(file, found.labels, seconds, segmenter=segmenter, found=found.notes)


def _in_plane(volume: Volume, settings: InPlane, kind: Kind) -> tuple[Measurement, dict[str, Any]]:
    from mrisr.physics.measurement import measure_in_plane

    return measure_in_plane(volume, settings.scale, kind), {"scale": settings.scale}


def _through_plane(
    volume: Volume, settings: ThroughPlane, kind: Kind, model: Model
) -> tuple[Measurement, dict[str, Any]]:
    from mrisr.physics.measurement import measure_through_plane

    factor = _factor(volume, settings, model.card.factors)
    thickness, why = _thickness(volume, settings.slice_thickness)
    measurement = measure_through_plane(volume, factor, kind, thickness)
    between = float(volume.spacing[volume.slice_axis])
    return measurement, {
        "factor": factor,
        "slice_thickness_mm": round(thickness * between, 4),
        "slice_thickness_from": why,
        "reformats": len(measurement.views),
    }


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
    return 1.0, "slice spacing"
