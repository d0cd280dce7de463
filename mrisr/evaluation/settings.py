"""Settings of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from mrisr.config import Job, Kind, Plane, Positive, Settings, load_settings
from mrisr.diffusion.sampler import Update


class Sampler(Settings):
    """One way to sample: a point on the curve of fidelity and texture."""

    steps: Annotated[int, Field(ge=1)] = 1
    churn: Annotated[float, Field(ge=0, le=1)] = 0.0
    update: Update = "corrected"


class EvaluationSettings(Settings):
    """Degrade, restore, score: which patients, which degradation, which samplers.

    ``cases`` lists the patients to score; left empty, the model's own validation patients.
    """

    job: Job
    model: str
    cases: tuple[str, ...] = ()
    planes: tuple[Plane, ...]
    kind: Kind
    factors: tuple[Positive, ...]
    thickness: Positive = 1.0
    #: Edge of the central square that is scored, in pixels.
    crop: int = 320
    consistency: Annotated[float, Field(ge=0, le=1)] = 1.0
    #: The curve; the model's default is always scored patient by patient.
    samplers: tuple[Sampler, ...] = ()
    #: Factor at which the curve is measured; by default the largest.
    curve_factor: Positive | None = None


def load_evaluation(path: str | Path) -> EvaluationSettings:
    """Read an evaluation file. Raises InputError."""
    return load_settings(path, EvaluationSettings)
