"""Configuration of networks, diffusion, data and training: frozen, checked, loaded from YAML.

A file may name a ``base`` (a path relative to itself) whose settings it changes: mappings are merged,
lists replaced, and ``null`` takes a setting (or a key of the base) back to its default. What was resolved is
written beside every run, so a run can be repeated from its own folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mrisr.errors import InputError
from mrisr.matrices import Kind

Job = Literal["inplane", "throughplane"]
Plane = Literal["axial", "coronal", "sagittal"]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


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


NetworkSettings = Annotated[UnshuffleSettings | UNetSettings, Field(discriminator="type")]


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

    planes: dict[Plane, Positive] = {"axial": 1.0}
    #: Patients kept out of training and used for validation. Split by patient, never by slice.
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
    #: Planes whose slices may be transposed (all others only flip).
    transpose: tuple[Plane, ...] = ("axial",)


class TrainSettings(Settings):
    """Optimisation, as published unless a file says otherwise."""

    iterations: Annotated[int, Field(ge=1)]
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


class CardSettings(Settings):
    """What only a person knows of a model: it goes into the card as it stands."""

    data_licences: tuple[str, ...] = ()
    weights_licence: str = "Apache-2.0"
    limitations: tuple[str, ...] = ()


class Config(Settings):
    """Everything that ``mrisr train`` needs besides the cache."""

    name: str
    job: Job
    description: str = ""
    diffusion: DiffusionSettings = DiffusionSettings()
    network: NetworkSettings = UnshuffleSettings()
    data: DataSettings
    train: TrainSettings
    card: CardSettings = CardSettings()

    @model_validator(mode="after")
    def _groups_divide(self) -> Config:
        if self.train.batch % self.data.groups:
            raise ValueError(
                f"batch {self.train.batch} is not a multiple of groups {self.data.groups}"
            )
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
