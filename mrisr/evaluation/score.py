"""Degrade held-out slices, restore them with the product's own engine, and score them."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mrisr import metrics
from mrisr.core.errors import UsageError
from mrisr.data import cache, pairs
from mrisr.evaluation.case import Scored
from mrisr.evaluation.methods import Method
from mrisr.evaluation.perceptual import Lpips
from mrisr.evaluation.settings import EvaluationSettings
from mrisr.physics.separable import SeparableOperator

#: One slice is restored this often for its time, as long as that takes no more than so many seconds.
TIMED, TIMED_SECONDS = 5, 3.0


@dataclass(frozen=True)
class DegradedCase:
    """A held-out stack whose slices are degraded, restored and compared with what they were.

    Attributes:
        name: the patient.
        series: the stack.
        images: slices ``(n, 1, h, w)`` in -1..1, clipped to the volume's 0..99.5 percentile range.
        settings: of the degradation.
        lpips: measured as well where it is there.
    """

    name: str
    series: str
    images: Tensor
    settings: EvaluationSettings
    lpips: Lpips | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the slices, and of the weights of LPIPS."""
        shape = str(tuple(self.images.shape)).encode()
        content = hashlib.sha256(shape + self.images.numpy().tobytes())
        content.update((self.lpips.digest if self.lpips else "").encode())
        return content.hexdigest()

    def score(self, method: Method, factor: float) -> Scored:
        """Restore all slices in batches, then the middle one alone for its time."""
        engine = method.engine
        if engine is None:
            raise UsageError(f"{method.name}: volumes cannot be compared with degraded slices")
        operator = operator_for(self.settings, factor, self.images.shape)

        def restore(y: Tensor) -> Tensor:
            return operator.project(engine.restore(y, operator), y, method.consistency)

        size = engine.batch_size((self.images.shape[-2], self.images.shape[-1]))
        results = [restore(operator(x)) for x in self.images.split(size)]
        x = torch.cat(results)
        square = (operator(x) - operator(self.images)).square().mean() / 4  # on 0..1, not -1..1
        result, reference = ((i + 1).div(2).clamp(0, 1) for i in (x, self.images))
        middle = len(x) // 2
        seconds, cpu_seconds = timed(lambda: restore(operator(self.images[middle : middle + 1])))
        return Scored(
            slices={k: v.tolist() for k, v in self._figures(result, reference, operator).items()},
            volume={"residual": float(square.sqrt()), "consistency": float(square) * 1e5},
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            evaluations=method.evaluations,
            result=result[middle, 0].numpy(),
            reference=reference[middle, 0].numpy(),
            facts=_notes(engine.notes),
        )

    def _figures(
        self, result: Tensor, reference: Tensor, operator: SeparableOperator
    ) -> dict[str, Tensor]:
        """Every metric per slice, ``(n,)`` each."""
        rows, columns = (operator.axes[d].factor if d in operator.axes else 1.0 for d in (-2, -1))
        measured: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "psnr": metrics.psnr,
            "ssim": metrics.ssim,
            "spectrum": lambda x, r: metrics.spectrum_error(x, r, tuple(operator.axes)),
            "texture": lambda x, r: metrics.texture(x, r, (rows, columns)),
        }
        if self.lpips is not None:
            measured["lpips"] = self.lpips
        batches = list(zip(result.split(8), reference.split(8), strict=True))
        return {name: torch.cat([f(x, r) for x, r in batches]) for name, f in measured.items()}


def _notes(notes: Sequence[str]) -> dict[str, Any]:
    return {"notes": list(notes)} if notes else {}


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Median wall and processor seconds of a few calls; the caller has made one before, to warm up."""
    wall: list[float] = []
    processor: list[float] = []
    while len(wall) < TIMED and sum(wall) < TIMED_SECONDS:
        began = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - began[0])
        processor.append(time.process_time() - began[1])
    return statistics.median(wall), statistics.median(processor)


def degraded_cases(
    stacks: Sequence[cache.Stack],
    settings: EvaluationSettings,
    names: Sequence[str],
    lpips: Lpips | None = None,
) -> list[DegradedCase]:
    """The stacks to score, centre-cropped, at each scanner's own pixel size."""
    chosen = [s for s in stacks if s.case in names]
    images = pairs.validation_images(chosen, settings.planes, settings.crop)
    return [DegradedCase(s.case, s.series, x, settings, lpips) for s, x in images]


def operator_for(
    settings: EvaluationSettings, factor: float, shape: Sequence[int]
) -> SeparableOperator:
    """The degradation of images ``(..., rows, columns)`` of this shape."""
    drawn = pairs.Drawn(settings.kind, factor, settings.thickness)
    return pairs.pair_operator(settings.job, drawn, (shape[-2], shape[-1]))
