"""Held-out slices degraded, restored as the product does it, and compared with what they were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrisr import metrics
from mrisr.core import geometry
from mrisr.core.errors import UsageError
from mrisr.core.volume import Volume
from mrisr.data import cache
from mrisr.evaluation.case import Scale, Scored
from mrisr.evaluation.methods import Method
from mrisr.evaluation.restoring import (
    central,
    degraded_shape,
    digest_of,
    figures_of,
    measurement_of,
    notes_of,
    restored_by,
)
from mrisr.evaluation.settings import EvaluationSettings
from mrisr.metrics.lpips import Lpips

#: Share of a slice's edges that the pictures show: the prostate lies at the centre.
ZOOM = 0.4
#: Pixels of an edge that are shown at least.
SMALLEST = 128


@dataclass(frozen=True, eq=False)
class DegradedCase:
    """A held-out stack whose slices are degraded, restored and compared with what they were.

    Attributes:
        name: the patient.
        series: the stack.
        stack: slices along the first axis, on 0..1 and clipped to the 0..99.5 percentile range.
        settings: of the degradation.
        lpips: measured as well where it is there.
    """

    name: str
    series: str
    stack: Volume
    settings: EvaluationSettings
    lpips: Lpips | None = None
    seen: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the slices, and of the weights of LPIPS."""
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
        restored = restored_by(method, measurement_of(truth, self.settings, scale))
        result, reference = (
            torch.from_numpy(v.array.astype(np.float32)).clamp(0, 1)[:, None]
            for v in (restored.volume, truth)
        )
        middle = len(result) // 2
        return Scored(
            figures=figures_of(restored, method),
            slices=self._figures(result, reference, scale.factor),
            pictures={
                "result": centre(result[middle, 0].numpy()),
                "reference": centre(reference[middle, 0].numpy()),
            },
            facts=notes_of(restored.notes),
        )

    def _figures(self, result: Tensor, reference: Tensor, factor: float) -> dict[str, list[float]]:
        """Every metric per slice; images are ``(n, 1, h, w)``."""
        both = self.settings.job == "inplane"
        dims, factors = ((-2, -1), (factor, factor)) if both else ((-2,), (factor, 1.0))
        measured: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "psnr": metrics.psnr,
            "ssim": metrics.ssim,
            "spectrum": lambda x, r: metrics.spectrum_error(x, r, dims),
            "texture": lambda x, r: metrics.texture(x, r, factors),
        }
        if self.lpips is not None:
            measured["lpips"] = self.lpips
        batches = list(zip(result.split(8), reference.split(8), strict=True))
        return {k: torch.cat([f(x, r) for x, r in batches]).tolist() for k, f in measured.items()}


def centre(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The central part ``(h, w)`` of a slice that the pictures show."""
    sizes = [max(min(n, SMALLEST), round(n * ZOOM)) for n in image.shape]
    top, left = ((n - m) // 2 for n, m in zip(image.shape, sizes, strict=True))
    return image[top : top + sizes[0], left : left + sizes[1]]


def stack_volume(stack: cache.Stack) -> Volume:
    """A stack of the cache as a volume on 0..1, clipped to the 0..99.5 percentile range, slices first.

    Raises:
        UsageError: it is a picture.
    """
    if stack.spacing is None or stack.plane not in geometry.DISPLAYED:
        raise UsageError(f"{stack.case} {stack.series}: expected a volume, found a {stack.plane}")
    _, affine = geometry.reoriented(np.empty((1, 1, 1)), np.eye(4), geometry.DISPLAYED[stack.plane])
    affine[:3, :3] *= stack.spacing
    array = np.clip(stack.levels.astype(np.float32) / cache.LEVELS, 0, 1)
    name = f"{stack.case} {stack.series}"
    return Volume(array, affine, stacked_along=0, name=name)


def degraded_cases(
    stacks: Sequence[cache.Stack],
    settings: EvaluationSettings,
    names: Sequence[str],
    lpips: Lpips | None = None,
) -> list[DegradedCase]:
    """The stacks to score, at each scanner's own pixel size."""
    return [
        DegradedCase(s.case, s.series, stack_volume(s), settings, lpips)
        for s in stacks
        if s.case in names and s.plane in settings.planes
    ]
