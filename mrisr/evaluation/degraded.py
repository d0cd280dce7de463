"""Stacks degraded as a scanner would have written them, restored by the product itself, and compared."""

import hashlib
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrisr import metrics
from mrisr.config import Job
from mrisr.core import geometry
from mrisr.core.errors import UsageError
from mrisr.core.volume import Volume
from mrisr.data import cache
from mrisr.evaluation.case import Case, Scale, Scored
from mrisr.evaluation.methods import Method
from mrisr.evaluation.settings import ComparisonSettings, EvaluationSettings
from mrisr.metrics import Lpips
from mrisr.physics.measurement import (
    Measurement,
    degraded,
    fitting_size,
    measure_in_plane,
    measure_through_plane,
    noisy,
    stack_order,
)
from mrisr.physics.noise import grain
from mrisr.planes.joint import Joint
from mrisr.restore import Restored

T = TypeVar("T")

#: One image is restored this often for its time, as long as that takes no more than so many seconds.
TIMED, TIMED_SECONDS = 5, 3.0
#: Share of a slice's edges that the pictures show: the prostate lies at the centre; and pixels at least.
ZOOM, SMALLEST = 0.4, 128


def degraded_shape(volume: Volume, settings: ComparisonSettings, factor: float) -> tuple[int, ...]:
    """The largest shape up to the volume's whose coarse grid has the same field of view.

    Raises:
        UsageError: there are too few voxels.
    """
    axes = stack_order(volume)
    coarse = axes[1:] if settings.job == "inplane" else axes[:1]
    shape = [fitting_size(n, factor) if a in coarse else n for a, n in enumerate(volume.shape)]
    if min(shape) < 1:
        raise UsageError(f"x{factor:g}: {volume.name} has too few voxels for it")
    return tuple(shape)


def measurement_of(
    truth: Volume, settings: ComparisonSettings, scale: Scale, seed: int = 0
) -> Measurement:
    """The measurement that a method restores: of the truth degraded, or of the volume as it was measured.

    The truth must have the shape of :func:`degraded_shape`; ``seed`` is that of the noise.
    """
    volume, kind = truth, settings.kind
    if scale.scoring == "degraded":
        volume = degraded(truth, settings.job, scale.factor, kind, settings.thickness)
        volume = noisy(volume, settings.noise, seed)
    if settings.job == "inplane":
        measured = measure_in_plane(volume, scale.factor, kind)
    else:
        measured = measure_through_plane(volume, scale.factor, kind, settings.thickness)
    if scale.scoring == "degraded":
        return replace(measured, noise=settings.noise)
    return measured.with_estimated_noise()


def figures_of(restored: Restored, method: Method) -> dict[str, float]:
    """Residual of a restoration which has just been done, and its cost (see :class:`Scored`): the median of
    restoring the middle image alone, warm, be it a slice or a reformatted image."""
    measurement = restored.measurement
    views = measurement.views[:1]
    across = 3 - views[0] if views else 0
    part = measurement.y.narrow(across, measurement.y.shape[across] // 2, 1)
    one = replace(measurement, y=part, views=views)
    found: list[tuple[float, float]] = []
    while len(found) < TIMED and sum(wall for wall, _ in found) < TIMED_SECONDS:
        found.append(clocked(lambda: method.restore(one))[1:])
    seconds, processor = map(statistics.median, zip(*found, strict=True))
    residual = measurement.residual(restored.volume)["rms_of_range"]
    on_pixels = restored.stack
    if not measurement.views:
        on_pixels = measurement.apply(measurement.operator, on_pixels)
    return {
        "noise": grain(on_pixels) / max(grain(measurement.y), 1e-9),
        "residual": residual,
        "consistency": residual**2 * 1e5,
        "seconds": seconds,
        "cpu_seconds": processor,
        "evaluations": restored.evaluations,
    }


def notes_of(*notes: Iterable[str]) -> dict[str, list[str]]:
    """Notes, each once, as a fact of a score."""
    every = list(dict.fromkeys(note for some in notes for note in some))
    return {"notes": every} if every else {}


def planes_of(made: Joint) -> dict[str, Any]:
    """What became of the further planes of a joint volume, as a fact of a score."""
    used = [
        {"plane": u.volume.plane, "agreement": round(u.agreement, 3), "left_out": u.why}
        for u in made.used
    ]
    return {"planes": used}


def clocked(work: Callable[[], T]) -> tuple[T, float, float]:
    """The result of ``work``, and the seconds that it took: on the clock, and of the processor, which other
    load on the machine does not lengthen."""
    began = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - began[0], time.process_time() - began[1]


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


def image_metrics(job: Job, factor: float) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Metrics of a result against its reference, images ``(b, 1, h, w)`` that are coarse by a factor: through
    the plane along their rows' axis alone."""
    dims, factors = ((-2, -1), (factor, factor)) if job == "inplane" else ((-2,), (factor, 1.0))
    return {
        "psnr": metrics.psnr,
        "ssim": metrics.ssim,
        "spectrum": lambda x, r: metrics.spectrum_error(x, r, dims),
        "texture": lambda x, r: metrics.texture(x, r, factors),
    }


@dataclass(frozen=True, eq=False)
class DegradedCase(Case):
    """A held-out stack whose slices are degraded, restored and compared with what they were.

    Attributes:
        stack: slices along the first axis, on 0..1 and clipped to the 0..99.5 percentile range.
        settings: of the degradation.
        lpips: measured as well where it is there.
    """

    stack: Volume
    settings: EvaluationSettings
    lpips: Lpips | None = None

    @cached_property
    def digest(self) -> str:
        return digest_of(self.stack, more=self.lpips.digest if self.lpips else "")

    def truth(self, factor: float) -> Volume:
        """The central part that a factor can degrade, sliced along the axis that the job works along: through
        the plane the rows of its slices become the slices of a thick stack."""
        n, *edges = self.stack.shape
        part = central(self.stack, (n, *(min(edge, self.settings.crop) for edge in edges)))
        part = replace(part, stacked_along=0 if self.settings.job == "inplane" else 1)
        return central(part, degraded_shape(part, self.settings, factor))

    def score(self, method: Method, scale: Scale) -> Scored:
        """Restore all slices, then the middle image alone for its time."""
        truth = self.truth(scale.factor)
        restored = method.restore(measurement_of(truth, self.settings, scale))
        result, reference = (
            torch.from_numpy(v.array.astype(np.float32)).clamp(0, 1)[:, None]
            for v in (restored.volume, truth)
        )
        measured = image_metrics(self.settings.job, scale.factor)
        if self.lpips is not None:
            measured["lpips"] = self.lpips
        batches = list(zip(result.split(8), reference.split(8), strict=True))
        shown = {"result": result, "reference": reference}
        return Scored(
            figures=figures_of(restored, method),
            slices={k: torch.cat([f(*b) for b in batches]).tolist() for k, f in measured.items()},
            pictures={k: centre(v[len(v) // 2, 0].numpy()) for k, v in shown.items()},
            facts=notes_of(restored.notes),
        )


@dataclass(frozen=True, eq=False)
class MeasuredCase(Case):
    """A real stack, restored as it was measured, without a truth: its noise, its agreement, its cost."""

    stack: Volume
    settings: EvaluationSettings

    @cached_property
    def digest(self) -> str:
        return digest_of(self.stack)

    def score(self, method: Method, scale: Scale) -> Scored:
        measurement = measurement_of(self.stack, self.settings, scale)
        restored = method.restore(measurement)
        axis = 0 if self.settings.job == "inplane" else 1  # a slice, or a reformatted image
        shown = {"result": restored.stack, "reference": measurement.interpolated()}
        pictures = {
            k: centre(v.select(axis, v.shape[axis] // 2).add(1).div(2).clamp(0, 1).numpy())
            for k, v in shown.items()
        }
        facts = {"noise_level": measurement.noise, **notes_of(restored.notes)}
        return Scored(figures_of(restored, method), pictures=pictures, facts=facts)


def centre(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The central part ``(h, w)`` of a slice that the pictures show."""
    sizes = [max(min(n, SMALLEST), round(n * ZOOM)) for n in image.shape]
    top, left = ((n - m) // 2 for n, m in zip(image.shape, sizes, strict=True))
    return image[top : top + sizes[0], left : left + sizes[1]]


def stack_volume(stack: cache.Stack) -> Volume:
    """A stack of the cache as a volume on 0..1, clipped to the 0..99.5 percentile range, slices first, at the
    scanner's own pixel size.

    Raises:
        UsageError: it is a picture.
    """
    if stack.spacing is None or stack.plane not in geometry.DISPLAYED:
        raise UsageError(f"{stack.case} {stack.series}: expected a volume, found a {stack.plane}")
    _, affine = geometry.reoriented(np.empty((1, 1, 1)), np.eye(4), geometry.DISPLAYED[stack.plane])
    affine[:3, :3] *= stack.spacing
    array = np.clip(stack.levels.astype(np.float32) / cache.LEVELS, 0, 1)
    return Volume(array, affine, stacked_along=0, name=f"{stack.case} {stack.series}")
