"""Configuration of a training, of a restoring model or a segmenter: all that ``mrisr train`` needs besides
the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mrisr.config.base import Positive, Settings, Share, checked, read_mapping
from mrisr.config.methods import AdversarialSettings, MethodSettings
from mrisr.core.options import STRONGEST_TOLD, Job, Kind

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
    #: Largest level of the Rician noise that is added last, drawn per crop and told to the network: a share
    #: of the intensity range. 0: the network is told of none.
    noise: Annotated[float, Field(ge=0, le=STRONGEST_TOLD)] = 0.0
    #: Share of the crops without noise; of the groups whose noise is coloured, and range of its bandwidth.
    noise_free: Share = 0.15
    coloured: Share = 0.5
    bandwidth: tuple[Share, Share] = (0.5, 1.0)
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


class ZonesNetworkSettings(Settings):
    """:class:`mrisr.zones.network.CrossSliceUNet`: a U-Net within slices, attention across them."""

    #: Edge of the squares of pixels that become channels of one.
    fold: Annotated[int, Field(ge=1)] = 2
    #: Channels of each level; every level has half the pixels of the one above along both axes.
    widths: Annotated[tuple[int, ...], Field(min_length=2)] = (32, 64, 96, 128)
    #: Levels (0 is the finest) whose features look at those of the other slices.
    attention_levels: tuple[int, ...] = (2, 3)
    heads: Annotated[int, Field(ge=1)] = 4
    dropout: Share = 0.0

    @model_validator(mode="after")
    def _levels_fit(self) -> ZonesNetworkSettings:
        for level in self.attention_levels:
            if not 0 <= level < len(self.widths):
                raise ValueError(f"attention_levels: there is no level {level}")
            if self.widths[level] % self.heads:
                raise ValueError(
                    f"widths[{level}]: expected a multiple of {self.heads} heads, "
                    f"found {self.widths[level]}"
                )
        return self

    @property
    def multiple(self) -> int:
        """Number that rows and columns must be multiples of."""
        return int(self.fold * 2 ** (len(self.widths) - 1))


class AugmentationSettings(Settings):
    """Augmentation of training stacks. Ranges are drawn from uniformly, per stack unless said otherwise."""

    #: Degrees within the slices.
    rotation: Annotated[float, Field(ge=0)] = 15.0
    #: Size of the anatomy, log-uniformly; along rows and columns each by ``stretch`` more.
    scale: tuple[Positive, Positive] = (0.75, 1.35)
    stretch: tuple[Positive, Positive] = (0.88, 1.14)
    #: Standard deviations in mm: of the shift of the crop against the gland, and of smooth deformation.
    shift_mm: Annotated[float, Field(ge=0)] = 14.0
    elastic_mm: Annotated[float, Field(ge=0)] = 2.5
    #: Share of crops that lie anywhere in the slice.
    anywhere: Share = 0.15
    #: Exponent, log-uniformly, and gain of the scaled intensity.
    gamma: tuple[Positive, Positive] = (0.6, 1.6)
    gain: tuple[Positive, Positive] = (0.6, 1.5)
    #: Standard deviation of the logarithm of a smooth bias field, and largest one of added noise.
    bias: Annotated[float, Field(ge=0)] = 0.3
    noise: Annotated[float, Field(ge=0)] = 0.08
    #: Share of stacks whose pixels are made coarser (and interpolated back), and by how much, log-uniformly.
    coarse: Share = 0.5
    coarse_factor: tuple[Positive, Positive] = (1.2, 6.0)
    #: Share of stacks whose slices bleed into their neighbours.
    thick: Share = 0.2


class ZonesDataSettings(Settings):
    """Selection of the labelled stacks, and the grid that they are brought to."""

    validation: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    #: In-plane pixel in mm on which the network works, and edge of a crop in such pixels.
    pixel_mm: Positive = 0.6
    crop: Annotated[int, Field(ge=32)] = 160
    #: Slices of a crop, and of the windows in which whole volumes are segmented.
    slices: Annotated[int, Field(ge=1)] = 12


class ZonesConfig(Settings):
    """Configuration of the training of a zonal segmenter."""

    name: str
    job: Literal["zones"]
    description: str = ""
    network: ZonesNetworkSettings = ZonesNetworkSettings()
    data: ZonesDataSettings = ZonesDataSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    train: TrainSettings
    card: CardSettings = CardSettings()

    @model_validator(mode="after")
    def _settings_agree(self) -> ZonesConfig:
        if self.data.crop % self.network.multiple:
            raise ValueError(
                f"crop {self.data.crop} is not a multiple of {self.network.multiple}, which the "
                f"network's {len(self.network.widths)} levels need"
            )
        if self.train.adversarial is not None:
            raise ValueError("a segmenter has no critic")
        return self


def load_config(path: str | Path) -> Config | ZonesConfig:
    """Read the configuration of a training; its ``job`` says of what kind. See :func:`load_settings`."""
    content = read_mapping(Path(path))
    if content.get("job") == "zones":
        return checked(path, content, ZonesConfig)
    return checked(path, content, Config)
