"""What a score is, and what can be scored: the two things that all kinds of evaluation share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mrisr.evaluation.methods import Method


class Metric(NamedTuple):
    """How a figure is printed, and what is better: 1 more, -1 less, 0 nearest to zero, none nothing."""

    title: str
    format: str
    better: int | None


#: Figures that are measured on every slice.
SLICE_METRICS = {
    "psnr": Metric("PSNR dB", ".2f", 1),
    "ssim": Metric("SSIM", ".4f", 1),
    "spectrum": Metric("spectrum error dB", ".2f", -1),
    "texture": Metric("texture dB", "+.1f", 0),
    "ncc": Metric("NCC", ".4f", 1),
    "lpips": Metric("LPIPS", ".4f", -1),
}
#: Figures of a whole stack, and what its restoration cost.
STACK_METRICS = {
    "residual": Metric("residual", ".1e", None),
    "consistency": Metric("MSE of A x - y, 1e-5", ".3g", None),
    "seconds": Metric("s / slice", ".3g", None),
    "cpu_seconds": Metric("CPU s / slice", ".3g", None),
    "evaluations": Metric("evaluations", "g", None),
}
METRICS = SLICE_METRICS | STACK_METRICS


@dataclass(frozen=True)
class Scored:
    """What one method reached on one stack.

    Attributes:
        slices: name of a metric (:data:`SLICE_METRICS`) -> its value on each slice, dB where it is one.
        volume: ``residual``, the RMS of ``A x - y`` over the intensity range, and ``consistency``, its mean
            square on intensities 0..1 in units of 1e-5, the way SR3 and PartDiff quote it; left out
            where there is none.
        seconds: wall seconds per restored image, alone and warm.
        cpu_seconds: processor seconds of the same, which other load on the machine does not lengthen.
        evaluations: of the network, per image.
        facts: what else is worth knowing of this result, ready for JSON.
        result: one slice ``(h, w)`` of the result on 0..1, for pictures.
        reference: the same slice of what it is compared with.
    """

    slices: Mapping[str, Sequence[float]]
    volume: Mapping[str, float]
    seconds: float
    cpu_seconds: float
    evaluations: int
    result: NDArray[np.float32]
    reference: NDArray[np.float32]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """Every figure of the stack: means over slices, then those of the whole. Not finite ones are left
        out."""
        values = {name: float(np.mean(v)) for name, v in self.slices.items()}
        values |= self.volume
        values |= {
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "evaluations": float(self.evaluations),
        }
        return {name: float(v) for name, v in values.items() if math.isfinite(v)}


class Case(Protocol):
    """A patient's stack that methods are scored on.

    Attributes:
        name: the patient.
        series: the stack's name within the patient.
        digest: SHA-256 of all data that a score depends on.
    """

    @property
    def name(self) -> str:
        """The patient."""

    @property
    def series(self) -> str:
        """The stack's name within the patient."""

    @property
    def digest(self) -> str:
        """SHA-256 of all data that a score depends on."""

    def score(self, method: Method, factor: float) -> Scored:
        """Score one method at one factor. Raises MrisrError where that cannot be done."""
