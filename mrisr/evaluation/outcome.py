"""All that an evaluation found, as its reports need it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mrisr.evaluation.methods import Method
from mrisr.evaluation.results import Result
from mrisr.evaluation.settings import EvaluationSettings
from mrisr.evaluation.statistics import Row

PROTOCOL = {
    "degraded": "slices of patients that no model was trained on: centre crop, volume scaled to its 0..99.5 "
    "percentile and clipped to 0..1, degraded, restored, compared with what they were",
    "reference": "a real stack, restored, compared with another scan of the same patient after registration: "
    "a reference, not the truth",
}
FIGURES = (
    "PSNR, SSIM and spectrum error per slice, then the mean over slices, then over patients with the 95% "
    "interval of Student's t; residual is the RMS of A x - y over the intensity range, its mean square is "
    "given in 1e-5; seconds are those of one slice alone, on the clock and summed over the processor's "
    "threads, which other load lengthens less"
)


class Failure(NamedTuple):
    """A method that could not be scored on a stack, and why."""

    case: str
    series: str
    factor: float
    method: str
    reason: str


@dataclass(frozen=True)
class Evaluation:
    """All that an evaluation found.

    Attributes:
        settings: of the file.
        methods: that were compared.
        results: of every stack, factor and method.
        rows: the same over patients.
        failures: what could not be scored.
        notes: what else a reader must know.
        command: that makes the figures.
        machine: hardware and software, for the seconds.
    """

    settings: EvaluationSettings
    methods: Sequence[Method]
    results: Sequence[Result]
    rows: Sequence[Row]
    failures: Sequence[Failure]
    notes: Sequence[str]
    command: str
    machine: dict[str, str]

    @property
    def protocol(self) -> str:
        """How the figures came about, in words."""
        return f"{PROTOCOL[self.settings.scoring]}; {FIGURES}"

    @property
    def factors(self) -> list[float]:
        """The factors that have results."""
        return sorted({r.factor for r in self.results})

    def at(self, factor: float) -> list[Row]:
        """The rows of one factor."""
        return [row for row in self.rows if row.factor == factor]
