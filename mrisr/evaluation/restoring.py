"""Stacks degraded as a scanner would have written them, and restored by the product's own function."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np

from mrisr.core.errors import UsageError
from mrisr.core.volume import Volume
from mrisr.evaluation.case import Scale
from mrisr.evaluation.methods import Method
from mrisr.evaluation.settings import ComparisonSettings
from mrisr.physics.measurement import (
    Measurement,
    degraded,
    fitting_size,
    measure_in_plane,
    measure_through_plane,
    stack_order,
)
from mrisr.restore.restore import Restored, restore

T = TypeVar("T")

#: One image is restored this often for its time, as long as that takes no more than so many seconds.
TIMED, TIMED_SECONDS = 5, 3.0


class Seconds(NamedTuple):
    """Seconds on the clock, and of the processor, which other load on the machine does not lengthen."""

    wall: float
    processor: float


def degraded_shape(volume: Volume, settings: ComparisonSettings, factor: float) -> tuple[int, ...]:
    """The largest shape up to the volume's whose coarse grid has the same field of view.

    Raises:
        UsageError: there are too few voxels.
    """
    through, *inside = stack_order(volume)
    coarse = inside if settings.job == "inplane" else [through]
    shape = [fitting_size(n, factor) if a in coarse else n for a, n in enumerate(volume.shape)]
    if min(shape) < 1:
        raise UsageError(f"x{factor:g}: {volume.name} has too few voxels for it")
    return tuple(shape)


def measurement_of(truth: Volume, settings: ComparisonSettings, scale: Scale) -> Measurement:
    """The measurement that a method restores: of the truth degraded, or of the volume as it was measured.

    The truth must have the shape of :func:`degraded_shape`.
    """
    volume, job, kind = truth, settings.job, settings.kind
    if scale.scoring == "degraded":
        volume = degraded(truth, job, scale.factor, kind, settings.thickness)
    if job == "inplane":
        return measure_in_plane(volume, scale.factor, kind)
    return measure_through_plane(volume, scale.factor, kind, settings.thickness)


def restored_by(method: Method, measurement: Measurement) -> Restored:
    """The product's restoration of a measurement."""
    return restore(measurement, method.restorer, method.entry)


def figures_of(restored: Restored, method: Method) -> dict[str, float]:
    """Residual and cost of a restoration, which has just been done; see :class:`Scored`."""
    residual = restored.measurement.residual(restored.volume)["rms_of_range"]
    seconds = seconds_of_one(method, restored.measurement)
    return {
        "residual": residual,
        "consistency": residual**2 * 1e5,
        "seconds": seconds.wall,
        "cpu_seconds": seconds.processor,
        "evaluations": restored.evaluations,
    }


def notes_of(*notes: Iterable[str]) -> dict[str, list[str]]:
    """Notes, each once, as a fact of a score."""
    every = list(dict.fromkeys(note for some in notes for note in some))
    return {"notes": every} if every else {}


def seconds_of_one(method: Method, measurement: Measurement) -> Seconds:
    """Median seconds of restoring the middle image alone, warm: a slice, or a reformatted image."""
    view = measurement.views[0] if measurement.views else None
    across = 0 if view is None else 3 - view
    part = measurement.y.narrow(across, measurement.y.shape[across] // 2, 1)
    one = replace(measurement, y=part, views=() if view is None else (view,))
    found: list[Seconds] = []
    while len(found) < TIMED and sum(s.wall for s in found) < TIMED_SECONDS:
        found.append(clocked(lambda: restored_by(method, one))[1])
    wall, processor = zip(*found, strict=True)
    return Seconds(statistics.median(wall), statistics.median(processor))


def clocked(work: Callable[[], T]) -> tuple[T, Seconds]:
    """The result of ``work`` and the seconds that it took."""
    began = time.perf_counter(), time.process_time()
    result = work()
    return result, Seconds(time.perf_counter() - began[0], time.process_time() - began[1])


def central(volume: Volume, shape: Sequence[int]) -> Volume:
    """The central voxels of a smaller shape; where it cannot be central, the far edge loses one more."""
    for axis, (n, wanted) in enumerate(zip(volume.shape, shape, strict=True)):
        if wanted < n:
            first = (n - wanted) // 2
            volume = cut(volume, axis, first, first + wanted)
    return volume


def cut(volume: Volume, axis: int, first: int, last: int) -> Volume:
    """Voxels ``first`` to before ``last`` along one array axis; the slice axis stays what it is."""
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, axis] * first
    array = np.take(volume.array, np.arange(first, last), axis=axis)
    return replace(volume, array=array, affine=affine, stacked_along=volume.slice_axis)


def digest_of(*volumes: Volume, more: str = "") -> str:
    """SHA-256 of voxels and grids, and of ``more``."""
    content = hashlib.sha256(more.encode())
    for volume in volumes:
        facts = (volume.shape, volume.array.dtype, volume.slice_thickness, volume.slice_axis)
        content.update(str(facts).encode())
        content.update(np.round(volume.affine, 6).tobytes())
        content.update(np.ascontiguousarray(volume.array).tobytes())
    return content.hexdigest()
