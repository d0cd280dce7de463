"""Volume in, volume out: in-plane and through-plane super-resolution on the scanner's own grid."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from mrisr.config import Job
from mrisr.core.errors import InputError, UsageError
from mrisr.core.volume import Volume
from mrisr.models.store import Model, load_model, model_for
from mrisr.physics.measurement import Measurement, measure_in_plane, measure_through_plane
from mrisr.physics.rows import Kind
from mrisr.physics.separable import through_plane_operator
from mrisr.restore.engine import Engine, Progress, restore_all
from mrisr.restore.sampling import Options

SCALES = (1.5, 8.0)
#: A reformat whose pixels are coarser than the target by more than this factor is left out.
COARSE = 1.5
IN_PLANE: tuple[Kind, ...] = ("bicubic", "kspace")
THROUGH_PLANE: tuple[Kind, ...] = ("gaussian", "box")


@dataclass(frozen=True)
class Restored:
    """What an upsampler returns: the volume, the measurement it explains, and how it was made."""

    volume: Volume
    measurement: Measurement
    engine: Engine
    parameters: dict[str, object]
    notes: tuple[str, ...]


def upsample_in_plane(
    volume: Volume,
    scale: float,
    options: Options,
    progress: Progress | None = None,
    *,
    model: Model | None = None,
) -> Restored:
    """Super-resolve every slice of a stack by ``scale`` along both in-plane axes.

    ``model``: from :func:`model_of`, where it is to serve several volumes.

    Raises:
        UsageError: the scale is out of range, or the model is not an in-plane one.
    """
    if not (math.isfinite(scale) and SCALES[0] <= scale <= SCALES[1]):
        raise UsageError(f"scale: expected {SCALES[0]:g} to {SCALES[1]:g}, found {scale:g}")
    options = options.for_job(IN_PLANE)
    engine = Engine(model or model_of(options, "inplane"), options)
    measurement = measure_in_plane(volume, scale, options.degradation or IN_PLANE[0])
    restored = restore_all(engine, measurement.stack(), measurement.operator, progress)
    result = measurement.project(restored, engine.consistency)
    parameters: dict[str, object] = {"scale": scale, "degradation": options.degradation}
    return Restored(
        measurement.to_volume(result),
        measurement,
        engine,
        parameters,
        _notes(engine, scale),
    )


def upsample_through_plane(
    volume: Volume,
    options: Options,
    *,
    factor: float | None = None,
    spacing: float | None = None,
    slice_thickness: float | None = None,
    progress: Progress | None = None,
    model: Model | None = None,
) -> Restored:
    """Super-resolve a stack along its slice axis, from both families of reformatted images.

    Args:
        factor: slices made out of one; or
        spacing: the target distance between slices in mm. With neither: the in-plane pixel size.
        slice_thickness: mm; by default what the source states, else the slice spacing.
        model: from :func:`model_of`, where it is to serve several volumes.

    Raises:
        InputError: the stack has a single slice.
        UsageError: the factor is out of the model's range, or the model is not a through-plane one.
    """
    if volume.shape[volume.slice_axis] < 2:
        raise InputError(volume.name, expected="at least 2 slices", found="1")
    options = options.for_job(THROUGH_PLANE)
    engine = Engine(model or model_of(options, "throughplane"), options)
    factor = _factor(volume, factor, spacing, engine.card.factors)
    thickness, why = _thickness(volume, slice_thickness)
    kind = options.degradation or THROUGH_PLANE[0]
    measurement = measure_through_plane(volume, factor, kind, thickness)
    views = reformats(measurement)
    restored = restore_reformats(engine, measurement, views, progress)
    result = measurement.project(restored, engine.consistency)
    parameters: dict[str, object] = {
        "factor": factor,
        "degradation": kind,
        "slice_thickness_mm": round(thickness * float(volume.spacing[measurement.order[0]]), 4),
        "slice_thickness_from": why,
        "reformats": len(views),
    }
    thin = measurement.to_volume(result)
    thin = replace(thin, slice_thickness=float(thin.spacing[measurement.order[0]]))
    return Restored(thin, measurement, engine, parameters, _notes(engine, factor))


def restore_reformats(
    engine: Engine, measurement: Measurement, views: list[int], progress: Progress | None = None
) -> torch.Tensor:
    """Mean of the stacks that come out of each family of reformatted images, not yet projected.

    ``views`` names a family by the stack's dimension (1 rows, 2 columns) that serves as its images' columns.
    """
    axis = measurement.operator.axes[-3]
    operator = through_plane_operator(
        axis.n_low, axis.n_high, axis.factor, kind=axis.kind, thickness=axis.thickness
    )
    stack = measurement.stack()
    total = torch.zeros([measurement.shape[a] for a in measurement.order])
    counts = [stack.shape[3 - view] for view in views]
    for i, view in enumerate(views):
        images = stack.movedim(3 - view, 0).contiguous()  # (others, slices, pixels of this view)
        done = _shifted(progress, sum(counts[:i]), sum(counts))
        total += restore_all(engine, images, operator, done).movedim(0, 3 - view)
    return total / len(views)


def model_of(options: Options, job: Job) -> Model:
    """The model that a job is done with, loaded.

    Raises:
        UsageError: there is no such model, or it is for another job or for pictures.
        InputError: its weights are missing or damaged.
    """
    model = load_model(options.model or model_for(job, options.method))
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


def _factor(
    volume: Volume, factor: float | None, spacing: float | None, trained: tuple[float, float]
) -> float:
    """The through-plane factor asked for, or the one that makes the volume isotropic."""
    if factor is not None and spacing is not None:
        raise UsageError("give --factor or --spacing, not both")
    between = float(volume.spacing[volume.slice_axis])
    pixel = min(float(s) for a, s in enumerate(volume.spacing) if a != volume.slice_axis)
    asked = factor is not None or spacing is not None
    if spacing is not None and not spacing > 0:
        raise UsageError(f"spacing: expected a positive number of mm, found {spacing:g}")
    # Rounded, because spacings are: a NIfTI's 2.999998 mm is the DICOM's 3 mm, and both mean x6.
    chosen = factor if factor is not None else round(between / (spacing or pixel), 4)
    low, high = 1.5, trained[1]
    if not asked:
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


def reformats(measurement: Measurement) -> list[int]:
    """Stack dimensions (1 rows, 2 columns) that serve as the columns of reformatted images: all whose
    pixels are not much coarser than the target, and at least the finest."""
    spacing = measurement.volume.spacing
    target = float(spacing[measurement.order[0]]) * (
        measurement.volume.shape[measurement.order[0]] / measurement.shape[measurement.order[0]]
    )
    pixels = {view: float(spacing[measurement.order[view]]) for view in (1, 2)}
    fine = [view for view, pixel in pixels.items() if pixel <= COARSE * target]
    return fine or [min(pixels, key=lambda view: pixels[view])]


def _shifted(progress: Progress | None, offset: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(offset + done, total)


def _notes(engine: Engine, factor: float) -> tuple[str, ...]:
    """What is worth knowing: of the run, and of a factor that the model was not trained for."""
    low, high = engine.card.factors
    outside = (
        ()
        if low <= factor <= high
        else (f"x{factor:g} lies outside the model's x{low:g} to x{high:g}",)
    )
    return (*engine.notes, *outside)
