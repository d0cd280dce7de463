"""Card of a model: how it is built, what it was trained on, and what it reached."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from mrisr.config import (
    DiffusionSettings,
    Job,
    MethodSettings,
    NetworkSettings,
    Settings,
    ZonesNetworkSettings,
)
from mrisr.core.options import Kind
from mrisr.physics.rows import condition_length


class TrainingRecord(Settings):
    """Record of the training that made the weights."""

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
    #: Budget of training time in minutes (of one core on a CPU), if the run ended by it.
    minutes: float | None = None

    @classmethod
    def none(cls) -> TrainingRecord:
        """Make the record of what was not trained."""
        numbers = dict.fromkeys(("slices", "iterations", "batch", "crop", "seed"), 0)
        words = dict.fromkeys(("hardware", "precision", "software"), "none")
        return cls(cases=(), validation_cases=(), seconds=0.0, **numbers, **words)


class Card(Settings):
    """Card of any model: JSON beside the weights. ``sha256`` is that of the weights file,
    empty where there are none."""

    format: int = 1
    name: str
    description: str = ""
    version: str
    sha256: str = ""
    training: TrainingRecord
    #: Held-out figures by ``mrisr evaluate``: rows, the command and the data they came from.
    figures: dict[str, Any] = Field(default_factory=dict)
    data_licences: tuple[str, ...] = ()
    weights_licence: str = "Apache-2.0"
    intended_use: str = "Research on prostate T2-weighted MRI. Not for diagnosis."
    limitations: tuple[str, ...] = ()


class ModelCard(Card, MethodSettings):
    """Card of a model that restores. ``job`` is ``None`` for an interpolation, which serves both."""

    # A card leaves nothing of what the model is to a default that may change.
    network: NetworkSettings
    diffusion: DiffusionSettings
    job: Job | None
    condition: int
    #: Degradations that the network was conditioned on, in the order of its one-hot vector.
    kinds: tuple[Kind, ...] = ("bicubic", "kspace", "gaussian", "box")
    #: Factors the model was trained for.
    factors: tuple[float, float]
    default_steps: int = 1
    default_eta: float = 0.0
    #: Weight of the final projection onto the measurement.
    default_consistency: float = 1.0

    @model_validator(mode="before")
    @classmethod
    def _former_names(cls, content: Any) -> Any:
        """Cards written before DDIM's eta was called so say ``default_churn``."""
        if isinstance(content, dict) and "default_churn" in content:
            content = dict(content)
            content["default_eta"] = content.pop("default_churn")
        return content

    @model_validator(mode="after")
    def _condition_fits(self) -> ModelCard:
        if self.condition != condition_length(self.kinds):
            raise ValueError(
                f"condition: expected {condition_length(self.kinds)} for {len(self.kinds)} kinds of "
                f"degradation, found {self.condition}"
            )
        return self


class ZonesCard(Card):
    """Card of a model that segments the zones of the prostate."""

    network: ZonesNetworkSettings
    job: Literal["zones"]
    #: In-plane pixel in mm on which the network works, its window in such pixels and in slices.
    pixel_mm: float
    window: tuple[int, int]
    #: Distances of slices in mm it was trained on.
    slice_spacing: tuple[float, float]
