"""Card of a model: how it is built, what it was trained on, and what it reached; and how it is found.

None of the libraries that run models are needed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from mrisr.config import (
    DiffusionSettings,
    Job,
    MethodSettings,
    NetworkSettings,
    Settings,
    ZonesNetworkSettings,
)
from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import Kind
from mrisr.physics.rows import Interpolation, condition_length

BUNDLED = Path(__file__).parent
#: The methods of the published comparison, each trained for a few minutes. Wheels hold the cards alone.
COMPARISON = BUNDLED / "comparison"
#: Folder with further models, searched before the bundled ones.
FOLDER_VARIABLE = "MRISR_MODELS"
DEFAULTS: dict[Job, str] = {"inplane": "partdiff-inplane", "throughplane": "partdiff-throughplane"}
#: Models without weights, for both jobs.
INTERPOLATIONS: tuple[Interpolation, ...] = ("bicubic", "bicubic-sharp", "bspline", "lanczos")


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


class Calibration(Settings):
    """What turns spread into a standard deviation, at a factor and a level of noise.

    ``scalar`` is what the samples' standard deviation is multiplied by; ``weights`` are those of one answer's
    features (:func:`mrisr.uncertainty.estimated`).
    """

    factor: float
    noise: float
    scalar: float
    weights: tuple[float, ...]

    @property
    def numbers(self) -> tuple[float, ...]:
        """All of it in a row."""
        return (self.factor, self.noise, self.scalar, *self.weights)


class Uncertainty(Settings):
    """How samples are drawn, and the standard deviation of a result is calibrated, at rising factors and
    levels of noise; ``figures`` are what it was found to cover (docs/scripts/uncertainty.py)."""

    steps: int
    eta: float
    calibration: tuple[Calibration, ...]
    figures: dict[str, Any] = Field(default_factory=dict)


class Adaptation(Settings):
    """Fine-tuning of a model on one scan (:mod:`mrisr.training.adapt`), as record and card keep it.

    ``base`` is the model that it started from. ``minutes`` are None where steps were asked for, by which
    it can be repeated. Slices ``held_back`` were not learned from: their PSNR in dB, degraded and
    restored, by either model, decides whether the adapted one is ``kept``. ``sha256`` is that of its
    weights, kept or not.
    """

    base: str
    base_sha256: str
    sha256: str
    #: Of the scans; of those that came from no file there is none.
    inputs_sha256: tuple[str, ...] = ()
    minutes: float | None
    steps: int
    seconds: float
    slices: int
    held_back: int
    psnr_before: float
    psnr_after: float
    kept: bool

    @property
    def in_words(self) -> str:
        """What came of it, in one line."""
        gain, n = self.psnr_after - self.psnr_before, self.held_back
        on = f"{gain:+.2f} dB on {n} of its slices held back"
        if self.kept:
            return f"adapted to the scan in {self.steps} steps: {on}"
        return (
            f"adaptation gained nothing in {self.steps} steps ({on}): {self.base} was used as it is"
        )


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
    #: Whether the network is told the level of the noise.
    noise: bool = False
    #: Factors the model was trained for.
    factors: tuple[float, float]
    default_steps: int = 1
    default_eta: float = 0.0
    #: Weight of the final projection onto the measurement.
    default_consistency: float = 1.0
    #: None: nobody has calibrated the spread of its answers.
    uncertainty: Uncertainty | None = None
    #: Of a model that was fine-tuned on one scan.
    adaptation: Adaptation | None = None

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
        expected = condition_length(self.kinds, self.noise)
        if self.condition != expected:
            raise ValueError(
                f"condition: expected {expected} for {len(self.kinds)} kinds of degradation"
                f"{' and noise' if self.noise else ''}, found {self.condition}"
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


#: Where the weights are that wheels and sdists leave out.
LEFT_OUT = (
    "weights are no part of the installed package; MRISR_MODELS names a folder with them, "
    "a copy of mrisr/models/comparison of the repository"
)


def available() -> dict[str, Path]:
    """Map names to card files of every model that is bundled or installed; the first hit wins."""
    extra = os.environ.get(FOLDER_VARIABLE)
    found: dict[str, Path] = {}
    for folder in (*([Path(extra)] if extra else []), BUNDLED, COMPARISON):
        for card in sorted(folder.glob("*.json")):
            if card.with_suffix(".safetensors").exists():
                found.setdefault(card.stem, card)
    return found


def left_out() -> dict[str, Path]:
    """Map names to card files of the models of the comparison whose weights are not here."""
    cards = {card.stem: card for card in sorted(COMPARISON.glob("*.json"))}
    return {name: cards[name] for name in cards.keys() - available().keys()}


def model_for(job: Job, method: str | None = None) -> str:
    """Name of a job's model: of a method (``sr3``, ``invsr``, ``bicubic`` ...), or its default one."""
    if method is None:
        return DEFAULTS[job]
    return method if method in INTERPOLATIONS else f"{method}-{job}"


def card_path(name_or_path: str | Path, *, weights: bool = True) -> Path:
    """Find the card of a model given by name, by its weights or card file, or by a training run's folder.

    ``weights`` says whether they are needed too.

    Raises:
        UsageError: there is no such model, or its weights are not here; the message lists those there are.
    """
    path = Path(name_or_path)
    if path.is_dir():
        path = path / "model.json"
    if path.suffix in (".safetensors", ".json") and path.exists():
        return path.with_suffix(".json")
    if path.suffix in (".pt", ".pth", ".ckpt", ".bin", ".pkl"):
        raise UsageError(f"{path}: only safetensors weights are loaded, never pickles")
    known = available()
    if (absent := left_out().get(str(name_or_path))) is not None:
        if not weights:
            return absent
        raise UsageError(f"model {name_or_path}: {LEFT_OUT}")
    if str(name_or_path) not in known:
        raise UsageError(
            f"no model {str(name_or_path)!r}; there are: {', '.join([*known, *INTERPOLATIONS])}"
        )
    return known[str(name_or_path)]


def read_card(path: Path) -> ModelCard:
    """Read the card of a model that restores.

    Raises:
        InputError: it is missing or not a card.
        UsageError: it is that of a model that segments.
    """
    card = read_any_card(path)
    if isinstance(card, ZonesCard):
        raise UsageError(
            f"model {card.name}: expected one that restores, found one for `mrisr segment`"
        )
    return card


def read_zones_card(path: Path) -> ZonesCard:
    """Read the card of a model that segments zones. Raises as :func:`read_card`, the other way round."""
    card = read_any_card(path)
    if isinstance(card, ModelCard):
        raise UsageError(
            f"model {card.name}: expected one that segments zones, found one that restores"
        )
    return card


def read_any_card(path: Path) -> ModelCard | ZonesCard:
    """Read a card of either kind. Raises InputError: it is missing or not a card."""
    try:
        content = path.read_bytes()
        zones = _job(content) == "zones"
        return (ZonesCard if zones else ModelCard).model_validate_json(content)
    except OSError as error:
        raise InputError(
            path, expected="a model card", found=error.strerror or str(error)
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            path, expected=f"a model card with a valid {where!r}", found=first["msg"]
        ) from error


def _job(content: bytes) -> object:
    try:
        card = json.loads(content)
    except ValueError:
        return None
    return card.get("job") if isinstance(card, dict) else None


def gains(figures: Mapping[str, Any]) -> dict[float, float]:
    """Factor -> mean gain over the baseline of the model's default, dB."""
    rows = figures.get("means", [])
    return {r["factor"]: r["gain"] for r in rows if r["method"] == figures["default"]}
