"""Settings of a restoring model: its method, its network, its diffusion."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mrisr.config.base import Positive, Settings, Share
from mrisr.physics.rows import Interpolation

#: Method by which a model restores; see :mod:`mrisr.methods`.
Method = Literal["diffusion", "regression", "implicit", "inversion", "interpolation"]
#: Signal level g = sqrt(alpha_bar) at which InvSR may start: g^2 / (1 - g^2) of at least 1.44.
StartScale = Annotated[float, Field(ge=0.768, lt=1)]
INVSR_LEVELS = (0.8208, 0.8682, 0.9098, 0.9456, 0.9755)


class ScheduleSettings(Settings):
    """Linear beta schedule."""

    beta_start: Positive
    beta_end: Positive
    steps: Annotated[int, Field(ge=1)]


class DiffusionSettings(Settings):
    """Path, parameterisation and schedules (PartDiff Sec. 4; see docs/explanation/partial-diffusion.md)."""

    path: Literal["aligned", "plain"] = "aligned"
    #: Signal level g_K = sqrt(alpha_bar_K) of the partial start; the published K = 25, 50, 75 are 0.72,
    #: 0.25, 0.042.
    start: Annotated[float, Field(gt=0, lt=1)] = 0.25
    prediction: Literal["high", "noise"] = "high"
    loss: Literal["l1", "l2"] = "l1"
    #: Share of each batch trained exactly at the start, where the aligned estimate is a regression.
    at_start: Share = 0.25
    #: Start sampling from pure noise instead of the noised low-resolution image: SR3.
    from_noise: bool = False
    training: ScheduleSettings = ScheduleSettings(beta_start=5e-5, beta_end=1e-2, steps=2000)
    inference: ScheduleSettings = ScheduleSettings(beta_start=1e-5, beta_end=0.213, steps=100)
    #: Signal levels to sample at, by the number of steps (`mrisr analyze schedule` finds them): ``steps + 1``
    #: increasing levels, the first the start, the last 1. Any other number of steps is spaced evenly in time.
    schedules: dict[int, tuple[float, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _levels_rise(self) -> DiffusionSettings:
        for steps, levels in self.schedules.items():
            rising = all(a < b for a, b in pairwise(levels))
            if len(levels) != steps + 1 or not rising or levels[0] <= 0 or levels[-1] != 1:
                raise ValueError(f"schedules[{steps}]: expected {steps + 1} rising levels up to 1")
        return self


class UnshuffleSettings(Settings):
    """Default denoiser, :class:`mrisr.networks.unshuffle.UnshuffleResNet`."""

    type: Literal["unshuffle"] = "unshuffle"
    channels: Annotated[int, Field(ge=1)] = 1
    width: Annotated[int, Field(ge=8)] = 64
    blocks: Annotated[int, Field(ge=1)] = 12
    fold: Annotated[int, Field(ge=1)] = 4
    #: Two networks, one for images without noise (:class:`mrisr.networks.unshuffle.ByNoise`).
    by_noise: bool = False


class UNetSettings(Settings):
    """Published U-Net (SR3's, PartDiff Table 1), :class:`mrisr.networks.unet.UNet`."""

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
    """Implicit network of LIIF in reduced size, :class:`mrisr.networks.liif.Liif`."""

    type: Literal["liif"]
    channels: Annotated[int, Field(ge=1)] = 1
    width: Annotated[int, Field(ge=8)] = 64
    blocks: Annotated[int, Field(ge=1)] = 8
    hidden: Annotated[int, Field(ge=8)] = 96
    layers: Annotated[int, Field(ge=1)] = 3


class InterpolationSettings(Settings):
    """Interpolation to the target grid instead of a network."""

    type: Literal["interpolation"]
    channels: Annotated[int, Field(ge=1)] = 1
    kind: Interpolation = "bicubic"


DenoiserSettings = Annotated[UnshuffleSettings | UNetSettings, Field(discriminator="type")]
NetworkSettings = Annotated[
    UnshuffleSettings | UNetSettings | LiifSettings | InterpolationSettings,
    Field(discriminator="type"),
]


class InversionSettings(Settings):
    """Noise predictor of InvSR on a frozen denoiser (Yue et al., arXiv 2412.09013)."""

    #: Name or path of the model whose denoiser is frozen; its weights become part of the new model's.
    denoiser: str
    #: The frozen denoiser's network; filled in when the training begins.
    network: DenoiserSettings | None = None
    #: The five signal levels among which 1 to 5 steps choose, rising. These are InvSR's steps 250, 200, 150,
    #: 100 and 50 of Stable Diffusion's 1000; none may have g^2 / (1 - g^2) below 1.44 (its Sec. 3.3).
    levels: Annotated[tuple[StartScale, ...], Field(min_length=5, max_length=5)] = INVSR_LEVELS
    #: Weight of the KL term that keeps the noise of the later levels Gaussian; the start is free.
    kl: Annotated[float, Field(ge=0)] = 0.1
    #: Share of each batch that is trained as a start, from x_LR; the rest are later states, from x_HR.
    at_start: Share = 0.5


class AdversarialSettings(Settings):
    """Critic beside the pixel loss: SRGAN's adversarial term and, in place of VGG's features, its own."""

    #: Weight of the adversarial term (SRGAN's 1e-3).
    weight: Annotated[float, Field(ge=0)] = 1e-3
    #: Weight of the L1 distance of the critic's features: the perceptual term.
    features: Annotated[float, Field(ge=0)] = 0.0
    width: Annotated[int, Field(ge=8)] = 32
    lr: Positive = 2e-4
    #: Share of the run after which the adversarial terms begin; the critic learns from the start.
    after: Share = 0.3


class MethodSettings(Settings):
    """Everything needed to build a model, apart from the length of its condition."""

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
