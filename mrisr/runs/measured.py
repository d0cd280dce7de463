"""What a job takes its volume for: a measurement of a finer one, with its degradation and its noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import KINDS_OF, InPlane, Kind, ThroughPlane
from mrisr.core.stages import stage
from mrisr.core.volume import Volume

if TYPE_CHECKING:
    from mrisr.models.store import Model
    from mrisr.physics.measurement import Measurement
    from mrisr.physics.thickness import Thickness

AnyJob = TypeVar("AnyJob", bound=InPlane | ThroughPlane)
#: Where a slice thickness comes from that nobody states, and by how many standard deviations an estimate
#: must differ from it to be taken instead.
UNKNOWN, SURE = "slice spacing", 3.0


def with_degradation(settings: AnyJob) -> tuple[AnyJob, Kind]:
    """The settings with the degradation that is assumed. Raises UsageError: it is of another job."""
    kinds = KINDS_OF[settings.job]
    kind = settings.degradation or kinds[0]
    if kind not in kinds:
        raise UsageError(f"degradation: expected one of {', '.join(kinds)}, found {kind}")
    return replace(settings, degradation=kind), kind


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


def with_noise(measurement: Measurement, settings: InPlane | ThroughPlane) -> Measurement:
    """A measurement with the noise that the settings state, or else its estimate."""
    if settings.noise_level is None:
        return measurement.with_estimated_noise()
    return replace(measurement, noise=settings.noise_level)


def thickness_notes(parameters: Mapping[str, Any]) -> Iterator[str]:
    """A note on a slice thickness that was estimated."""
    found = parameters.get("slice_thickness_estimate_mm")
    if found is not None:
        mm, sd = found
        taken = parameters["slice_thickness_mm"]
        yield f"slice thickness estimated from the volume: {mm:g} mm (SD {sd:g}); {taken:g} mm assumed"


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
