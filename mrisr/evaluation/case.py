"""Cases and their scores: what all kinds of evaluation share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mrisr.evaluation.methods import Method

Scoring = Literal["degraded", "measured", "reference"]


class Scale(NamedTuple):
    """One way to take a stack: ``degraded`` by a factor, as it was ``measured`` and coarse by it, or
    upsampled by it and compared with a ``reference`` scan."""

    scoring: Scoring
    factor: float

    def __str__(self) -> str:
        return f"x{self.factor:g}" + (" as measured" if self.scoring == "measured" else "")


class Metric(NamedTuple):
    """A figure's title, format, and better values: 1 higher, -1 lower, 0 nearer to zero, None neither.

    ``interval`` says whether its mean is printed with an interval.
    """

    title: str
    format: str
    better: int | None
    interval: bool = False


#: Figures that are measured on every slice.
SLICE_METRICS = {
    "psnr": Metric("PSNR dB", ".2f", 1, True),
    "ssim": Metric("SSIM", ".4f", 1, True),
    "spectrum": Metric("spectrum error dB", ".2f", -1),
    "texture": Metric("texture dB", "+.1f", 0),
    "ncc": Metric("NCC", ".4f", 1),
    "lpips": Metric("LPIPS", ".4f", -1),
}
#: Cost of restoring one image.
COST_METRICS = {
    "seconds": Metric("s / slice", ".3g", None),
    "cpu_seconds": Metric("CPU s / slice", ".3g", None),
    "evaluations": Metric("evaluations", "g", None),
}
#: Figures of images.
METRICS = {
    **SLICE_METRICS,
    "residual": Metric("residual", ".1e", None),
    "consistency": Metric("MSE of A x - y, 1e-5", ".3g", None),
    **COST_METRICS,
}


@dataclass(frozen=True, eq=False)
class Scored:
    """Figures of one method on one stack.

    Attributes:
        figures: name -> figure of the whole stack. ``residual`` is the RMS of ``A x - y`` over the intensity
            range and ``consistency`` its mean square on intensities 0..1 in units of 1e-5, the way SR3
            and PartDiff quote it; ``seconds`` and ``cpu_seconds`` are wall and processor seconds per
            restored image, ``evaluations`` those of the network per image. NaN is not defined.
        slices: name of a metric -> its value on each slice.
        pictures: arrays to draw.
        facts: further findings, ready for JSON.
    """

    figures: Mapping[str, float]
    slices: Mapping[str, Sequence[float]] = field(default_factory=dict)
    pictures: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """Means over slices, then the figures of the stack; those that are not finite left out."""
        values = {name: float(np.mean(v)) for name, v in self.slices.items()} | dict(self.figures)
        return {name: float(v) for name, v in values.items() if math.isfinite(v)}


@dataclass(frozen=True, eq=False)
class Case(ABC):
    """A patient's stack that methods are scored on.

    Attributes:
        name: the patient.
        series: the stack's name within the patient.
        seen: the models that were trained on the patient.
    """

    name: str
    series: str
    seen: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of all data that a score depends on."""

    @abstractmethod
    def score(self, method: Method, scale: Scale) -> Scored:
        """Score one method at one scale. Raises MrisrError where that cannot be done."""


@dataclass(frozen=True, eq=False)
class ScoredResult:
    """The score of one method on one stack at one scale; ``seen`` names the models that knew the patient."""

    case: str
    series: str
    scale: Scale
    method: str
    scored: Scored
    seen: tuple[str, ...] = ()


class Failure(NamedTuple):
    """A method that could not be scored on a stack, and why."""

    case: str
    series: str
    factor: float
    method: str
    reason: str
