"""A stack degraded and restored as the product restores one."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from mrisr.core import geometry
from mrisr.core.intensity import scaling
from mrisr.core.volume import Volume
from mrisr.evaluation.methods import Method
from mrisr.evaluation.zones.settings import Scale, ZonesSettings
from mrisr.physics.measurement import (
    Measurement,
    measure_in_plane,
    measure_through_plane,
    stack_order,
)
from mrisr.restore.engine import restore_all
from mrisr.restore.volumes import reformats, restore_reformats


@dataclass(frozen=True)
class RestoredStack:
    """A restored volume; seconds are those of one slice of the result, on the clock and of the processor."""

    volume: Volume
    seconds: float
    cpu_seconds: float


def measurement_of(volume: Volume, scale: Scale, settings: ZonesSettings) -> Measurement:
    """The volume degraded, as a scanner with a coarser grid would have stored it; or as it was measured.
    Intensities are scaled as those of the volume."""
    if scale.scoring == "measured":
        return _measured(volume, scale.factor, settings)
    order = stack_order(volume)
    degraded = order[1:] if settings.job == "inplane" else order[:1]
    factors = [1 / scale.factor if axis in degraded else 1.0 for axis in range(3)]
    shape, affine = geometry.resampled_grid(volume.shape, volume.affine, factors)
    coarse = replace(
        volume,
        array=np.zeros(shape, volume.array.dtype),
        affine=affine,
        stacked_along=volume.slice_axis,
    )
    empty = _measured(coarse, scale.factor, settings)
    if empty.shape != volume.shape:
        raise ValueError(f"{volume.shape} voxels cannot be degraded by {scale.factor:g}")
    values = torch.from_numpy(volume.array.transpose(order).astype(np.float32, order="C"))
    seen = empty.apply(empty.operator, values).numpy().transpose(np.argsort(order))
    storage = volume.storage
    stored = replace(coarse, array=storage.decode(storage.encode(seen)))
    offset, span = scaling(volume.array)
    return replace(empty, volume=stored, affine=volume.affine, offset=offset, scale=span)


def _measured(volume: Volume, factor: float, settings: ZonesSettings) -> Measurement:
    if settings.job == "inplane":
        return measure_in_plane(volume, factor, settings.kind)
    return measure_through_plane(volume, factor, settings.kind, settings.thickness)


def restore(measured: Measurement, method: Method) -> RestoredStack:
    """Restore all slices, or both families of reformats, and project onto the measurement."""
    engine = method.engine
    assert engine is not None
    began = time.perf_counter(), time.process_time()
    through = -3 in measured.operator.axes
    if through:
        stack = restore_reformats(engine, measured, reformats(measured))
    else:
        stack = restore_all(engine, measured.stack(), measured.operator)
    volume = measured.to_volume(measured.project(stack, method.consistency))
    wall, processor = (time.perf_counter() - began[0], time.process_time() - began[1])
    if through:
        between = float(volume.spacing[measured.order[0]])
        volume = replace(volume, slice_thickness=between, stacked_along=measured.order[0])
    return RestoredStack(volume, wall / len(stack), processor / len(stack))
