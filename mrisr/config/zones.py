"""Settings of the zonal segmenter, network, training data, augmentation; and of whatever is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mrisr.config.base import Positive, Settings, Share, checked, read_mapping
from mrisr.config.training import CardSettings, Config, TrainSettings


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
