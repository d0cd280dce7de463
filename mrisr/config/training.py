"""Configuration of a training: everything that ``mrisr train`` needs besides the cache."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mrisr.config.base import Positive, Settings, Share
from mrisr.config.methods import AdversarialSettings, MethodSettings
from mrisr.core.options import Job, Kind

Plane = Literal["axial", "coronal", "sagittal"]
#: What a training may learn from: the planes of volumes, or pictures (:mod:`mrisr.data.cache`).
TrainingPlane = Literal["axial", "coronal", "sagittal", "picture"]


class DegradationSettings(Settings):
    """Kind of degradation in the training mixture, drawn with ``weight``.

    ``factors`` lists exact factors; left empty, the factor is drawn log-uniformly in ``range``.
    ``thickness`` is slice thickness over slice spacing, drawn uniformly in its range.
    """

    kind: Kind
    weight: Positive = 1.0
    factors: tuple[Positive, ...] = ()
    range: tuple[Positive, Positive] = (1.5, 8.0)
    thickness: tuple[Positive, Positive] = (1.0, 1.0)


class DataSettings(Settings):
    """Selection of slices of the cache and their degradation into pairs."""

    planes: dict[TrainingPlane, Positive] = Field(default={"axial": 1.0})
    #: Patients kept out of training and used for validation. Split by patient, never by slice. Pictures are
    #: split by the folder they lie in, or by name.
    validation: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    #: In-plane pixel in mm to which all stacks are brought first; ``None`` keeps each scanner's own.
    #: Several sizes make as many copies.
    pixel_mm: Positive | tuple[Positive, ...] | None = None
    crop: Annotated[int, Field(ge=16)] = 128
    margin: Annotated[int, Field(ge=0)] = 24
    degradations: tuple[DegradationSettings, ...]
    #: Degradations drawn per batch; the batch is shared out among them.
    groups: Annotated[int, Field(ge=1)] = 4
    blur_probability: Share = 0.0
    blur_sigma: tuple[float, float] = (0.0, 1.5)
    #: Planes whose slices may be transposed. All others only flip; pictures only left to right.
    transpose: tuple[TrainingPlane, ...] = ("axial",)

    @model_validator(mode="after")
    def _pictures_stay_apart(self) -> DataSettings:
        if "picture" in self.planes and len(self.planes) > 1:
            others = ", ".join(p for p in self.planes if p != "picture")
            raise ValueError(f"planes: pictures have three channels; take {others} away (null)")
        if "picture" in self.planes and self.pixel_mm is not None:
            raise ValueError("pixel_mm: pictures have no size in mm")
        return self


class TrainSettings(Settings):
    """Optimisation, as published unless a file says otherwise."""

    #: Steps; with ``minutes`` the most that are made.
    iterations: Annotated[int, Field(ge=1)]
    #: Budget of training time: the run ends, and the learning rate falls, along it instead of along the
    #: steps. Counted in minutes of one core on a CPU, so other load does not count, else on the clock.
    minutes: Positive | None = None
    batch: Annotated[int, Field(ge=1)] = 16
    lr: Positive = 1e-4
    lr_final: Annotated[float, Field(ge=0)] | None = None
    warmup: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    betas: tuple[Share, Share] = (0.9, 0.999)
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    clip: Positive = 1.0
    precision: Literal["fp32", "bf16"] = "bf16"
    seed: int = 0
    validate_every: Annotated[int, Field(ge=1)] = 1000
    checkpoint_every: Annotated[int, Field(ge=1)] = 500
    log_every: Annotated[int, Field(ge=1)] = 50
    #: Name or path of a model whose weights the training starts from.
    initialize: str | None = None
    #: Numbers of the released weights file; half precision takes half the room.
    store: Literal["float32", "float16"] = "float32"
    adversarial: AdversarialSettings | None = None


class CardSettings(Settings):
    """Statements that only a person can make of a model; they go into the card as they stand."""

    data_licences: tuple[str, ...] = ()
    weights_licence: str = "Apache-2.0"
    limitations: tuple[str, ...] = ()


class Config(MethodSettings):
    """Configuration of the training of a model that restores."""

    name: str
    job: Job
    description: str = ""
    data: DataSettings
    train: TrainSettings
    card: CardSettings = CardSettings()

    @model_validator(mode="after")
    def _settings_agree(self) -> Config:
        if self.train.batch % self.data.groups:
            raise ValueError(
                f"batch {self.train.batch} is not a multiple of groups {self.data.groups}"
            )
        if self.method == "interpolation":
            raise ValueError("an interpolation has nothing to train")
        if self.train.adversarial and self.method not in ("regression", "inversion"):
            raise ValueError(f"a critic serves regression and inversion, not {self.method}")
        return self
