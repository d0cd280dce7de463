"""The card of a model: how it is built, what it was trained on, and what it reached."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from mrisr.config import DiffusionSettings, Job, NetworkSettings, Settings


class TrainingRecord(Settings):
    """How the weights came about."""

    cases: tuple[str, ...]
    validation_cases: tuple[str, ...]
    slices: int
    iterations: int
    batch: int
    crop: int
    seconds: float
    hardware: str
    precision: str
    seed: int
    software: str
    initialized_from: str | None = None


class ModelCard(Settings):
    """JSON beside the weights. ``sha256`` is that of the weights file."""

    format: int = 1
    name: str
    job: Job
    description: str = ""
    version: str
    sha256: str = ""
    condition: int
    network: NetworkSettings
    diffusion: DiffusionSettings
    #: Factors the model was trained for.
    factors: tuple[float, float]
    default_steps: int = 1
    default_churn: float = 0.0
    training: TrainingRecord
    #: Held-out figures by ``mrisr evaluate``: rows, the command and the data they came from.
    figures: dict[str, Any] = Field(default_factory=dict)
    data_licences: tuple[str, ...] = ()
    weights_licence: str = "Apache-2.0"
    intended_use: str = "Research on prostate T2-weighted MRI. Not for diagnosis."
    limitations: tuple[str, ...] = ()
