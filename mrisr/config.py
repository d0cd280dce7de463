"""Configuration of networks, diffusion, data and training: frozen, checked, loaded from YAML.

A file may name a ``base`` (a path relative to itself) whose settings it changes: mappings are merged,
lists replaced, and ``null`` takes a setting (or a key of the base) back to its default. What was resolved is
written beside every run, so a run can be repeated from its own folder.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mrisr.errors import InputError
from mrisr.matrices import Interpolation, Kind

#: How a model restores; see :mod:`mrisr.restorers`.
Method = Literal["diffusion", "regression", "implicit", "inversion", "interpolation"]
Job = Literal["inplane", "throughplane"]
Plane = Literal["axial", "coronal", "sagittal"]
#: What a training may learn from: the planes of volumes, or pictures (:mod:`mrisr.cache`).
TrainingPlane = Literal["axial", "coronal", "sagittal", "picture"]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
#: Noise scale at which InvSR may start: a signal-to-noise ratio g^2 / (1 - g^2) of at least 1.44.
StartScale = Annotated[float, Field(ge=0.768, lt=1)]


class Settings(BaseModel):
    """Base: frozen, and an unknown key is an error rather than a silent no-op."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ScheduleSettings(Settings):
    """A linear beta schedule."""

    beta_start: Positive
    beta_end: Positive
    steps: Annotated[int, Field(ge=1)]


class DiffusionSettings(Settings):
    """Path, parameterisation and schedules (PartDiff Sec. 4; see docs/explanation/partial-diffusion.md)."""

    path: Literal["aligned", "plain"] = "aligned"
    #: Noise scale g_K of the partial start; the published K = 25, 50, 75 are 0.72, 0.25, 0.042.
    start: Annotated[float, Field(gt=0, lt=1)] = 0.25
    prediction: Literal["high", "noise"] = "high"
    loss: Literal["l1", "l2"] = "l1"
    #: Share of each batch trained exactly at the start, where the aligned estimate is a regression.
    at_start: Share = 0.25
    #: Start sampling from pure noise instead of the noised low-resolution image: SR3.
    from_noise: bool = False
    training: ScheduleSettings = ScheduleSettings(beta_start=5e-5, beta_end=1e-2, steps=2000)
    inference: ScheduleSettings = ScheduleSettings(beta_start=1e-5, beta_end=0.213, steps=100)
    #: Noise scales to sample at, by the number of steps (`mrisr analyze schedule` finds them): ``steps + 1``
    #: increasing levels, the first the start, the last 1. Any other number of steps is spaced evenly in time.
    schedules: dict[int, tuple[float, ...]] = {}

    @model_validator(mode="after")
    def _levels_rise(self) -> DiffusionSettings:
        for steps, levels in self.schedules.items():
            rising = all(a < b for a, b in pairwise(levels))
            if len(levels) != steps + 1 or not rising or levels[0] <= 0 or levels[-1] != 1:
                raise ValueError(f"schedules[{steps}]: expected {steps + 1} rising levels up to 1")
        return self


class UnshuffleSettings(Settings):
    """The default denoiser, :class:`mrisr.networks.unshuffle.UnshuffleResNet`."""

    type: Literal["unshuffle"] = "unshuffle"
    channels: Annotated[int, Field(ge=1)] = 1
    width: Annotated[int, Field(ge=8)] = 64
    blocks: Annotated[int, Field(ge=1)] = 12
    fold: Annotated[int, Field(ge=1)] = 4


class UNetSettings(Settings):
    """The published U-Net (SR3's, PartDiff Table 1), :class:`mrisr.networks.unet.UNet`."""

    type: Literal["unet"]
    channels: Annotated[int, Field(ge=1)] = 1
    width: Annotated[int, Field(ge=8)] = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    blocks: Annotated[int, Field(ge=1)] = 3
    channels_per_group: Annotated[int, Field(ge=1)] = 16
    attention_levels: tuple[int, ...] = ()
    dropout: Share = 0.0

    @model_validator(mode="after")
    def _groups_divide(self) -> UNetSettings:
        if self.width % self.channels_per_group:
            raise ValueError(
                f"width {self.width} is not a multiple of channels_per_group {self.channels_per_group}"
            )
        return self


class LiifSettings(Settings):
    """The implicit network of LIIF in reduced size, :class:`mrisr.networks.liif.Liif`."""

    type: Literal["liif"]
    channels: Annotated[int, Field(ge=1)] = 1
    width: Annotated[int, Field(ge=8)] = 64
    blocks: Annotated[int, Field(ge=1)] = 8
    hidden: Annotated[int, Field(ge=8)] = 96
    layers: Annotated[int, Field(ge=1)] = 3


class InterpolationSettings(Settings):
    """No network: the interpolation that brings the measurement to the target grid is the answer."""

    type: Literal["interpolation"]
    channels: Annotated[int, Field(ge=1)] = 1
    kind: Interpolation = "bicubic"


DenoiserSettings = Annotated[UnshuffleSettings | UNetSettings, Field(discriminator="type")]
NetworkSettings = Annotated[
    UnshuffleSettings | UNetSettings | LiifSettings | InterpolationSettings,
    Field(discriminator="type"),
]


class InversionSettings(Settings):
    """InvSR's noise predictor on a frozen denoiser (Yue et al., arXiv 2412.09013)."""

    #: Name or path of the model whose denoiser is frozen; its weights become part of the new model's.
    denoiser: str
    #: The frozen denoiser's network; filled in when the training begins.
    network: DenoiserSettings | None = None
    #: The five noise scales among which 1 to 5 steps choose, rising. These are InvSR's steps 250, 200, 150,
    #: 100 and 50 of Stable Diffusion's 1000; none may have g^2 / (1 - g^2) below 1.44 (its Sec. 3.3).
    levels: tuple[StartScale, StartScale, StartScale, StartScale, StartScale] = (
        0.8208,
        0.8682,
        0.9098,
        0.9456,
        0.9755,
    )
    #: Weight of the KL term that keeps the noise of the later levels Gaussian; the start is free.
    kl: Annotated[float, Field(ge=0)] = 0.1
    #: Share of each batch that is trained as a start, from x_LR; the rest are later states, from x_HR.
    at_start: Share = 0.5


class AdversarialSettings(Settings):
    """A critic beside the pixel loss: SRGAN's adversarial term and, in place of VGG's features, its own."""

    #: Weight of the adversarial term (SRGAN's 1e-3).
    weight: Annotated[float, Field(ge=0)] = 1e-3
    #: Weight of the L1 distance of the critic's features: the perceptual term.
    features: Annotated[float, Field(ge=0)] = 0.0
    width: Annotated[int, Field(ge=8)] = 32
    lr: Positive = 2e-4
    #: Share of the run after which the adversarial terms begin; the critic learns from the start.
    after: Share = 0.3


class MethodSettings(Settings):
    """What a model is: everything needed to build it, apart from the length of its condition."""

    method: Method = "diffusion"
    network: NetworkSettings = UnshuffleSettings()
    diffusion: DiffusionSettings = DiffusionSettings()
    inversion: InversionSettings | None = None

    @model_validator(mode="after")
    def _method_fits(self) -> MethodSettings:
        types = {"implicit": ("liif",), "interpolation": ("interpolation",)}
        fitting = types.get(self.method, ("unshuffle", "unet"))
        if self.method == "inversion":
            fitting = ("unshuffle",)
        if self.network.type not in fitting:
            raise ValueError(f"method {self.method} needs a network of type {' or '.join(fitting)}")
        if (self.method == "inversion") != (self.inversion is not None):
            raise ValueError(
                "the settings `inversion` belong to the method inversion, and to no other"
            )
        return self


class DegradationSettings(Settings):
    """One kind of degradation in the training mixture, drawn with ``weight``.

    ``factors`` lists exact factors; left empty, the factor is drawn log-uniformly in ``range``.
    ``thickness`` is slice thickness over slice spacing, drawn uniformly in its range.
    """

    kind: Kind
    weight: Positive = 1.0
    factors: tuple[Positive, ...] = ()
    range: tuple[Positive, Positive] = (1.5, 8.0)
    thickness: tuple[Positive, Positive] = (1.0, 1.0)


class DataSettings(Settings):
    """Which slices of the cache become which pairs."""

    planes: dict[TrainingPlane, Positive] = {"axial": 1.0}
    #: Patients kept out of training and used for validation. Split by patient, never by slice. Pictures are
    #: split by the folder they lie in, or by name.
    validation: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    #: In-plane pixel in mm to which all stacks are brought first; none keeps each scanner's own.
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
    """What only a person knows of a model: it goes into the card as it stands."""

    data_licences: tuple[str, ...] = ()
    weights_licence: str = "Apache-2.0"
    limitations: tuple[str, ...] = ()


class Config(MethodSettings):
    """Everything that ``mrisr train`` needs besides the cache."""

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

    def dump(self) -> str:
        """The resolved configuration as YAML."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def _merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in change.items():
        old = out.get(key)
        out[key] = (
            _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
        if value is None:
            del out[key]  # back to the default
    return out


def _read(path: Path, children: tuple[Path, ...] = ()) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, expected="a readable YAML file", found=str(error)) from error
    except yaml.YAMLError as error:
        raise InputError(path, expected="YAML", found=" ".join(str(error).split())) from error
    if not isinstance(content, dict):
        raise InputError(path, expected="a mapping of settings", found=type(content).__name__)
    base = content.pop("base", None)
    if base is None:
        return content
    children = (*children, path.resolve())
    if not isinstance(base, str) or (path.parent / base).resolve() in children:
        raise InputError(path, expected="a base that is another file", found=repr(base))
    return _merged(_read(path.parent / base, children), content)


AnySettings = TypeVar("AnySettings", bound=Settings)


def load_settings(path: str | Path, kind: type[AnySettings]) -> AnySettings:
    """Read a YAML file of settings of the given kind, its ``base`` resolved.

    Raises:
        InputError: the file is missing, is not YAML, or a setting is unknown or out of range.
    """
    try:
        return kind.model_validate(_read(Path(path)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        found = "none" if first["type"] == "missing" else f"{first['input']!r} ({first['msg']})"
        raise InputError(path, expected=f"a valid setting {where}", found=found) from error


def load_config(path: str | Path) -> Config:
    """Read a training configuration; see :func:`load_settings`."""
    return load_settings(path, Config)
