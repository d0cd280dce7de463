"""Training data of the segmenter: labelled stacks on its working pixels, their crops, their augmentation.

Every variation of a crop, in space, intensity and resolution, is drawn first and applied after
(``draw_variation``, ``vary``), so any crop can be made again. One draw holds for all slices of a stack.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mrisr.config import AugmentationSettings, ZonesDataSettings
from mrisr.data import cache
from mrisr.physics.rows import interpolation_matrix
from mrisr.physics.separable import in_plane_operator, resample_pixels
from mrisr.zones.labels import ZONES

#: Soft label of a voxel that all readers agree on, as it is stored.
WHOLE = 255
#: Edge of a raw crop in edges of the final one, which rotation and scaling need.
PADDING = 1.6
#: Control points of the deformation, and of the bias field, along each axis.
ELASTIC_POINTS, BIAS_POINTS = 6, 4


class LabelledStack(NamedTuple):
    """A stack on the working pixels, slices from inferior to superior."""

    case: str
    series: str
    levels: NDArray[np.int16]  #: ``(slices, rows, columns)``, as in the cache
    #: Soft labels ``(2, slices, rows, columns)``: the share of the readers, 255 for all, who call it
    #: peripheral and transition zone; in between also where a voxel is cut by a border.
    shares: NDArray[np.uint8]
    spacing: tuple[float, float, float]  #: mm between slices, rows, columns
    centre: tuple[float, float]  #: row and column of the gland's centroid


class RawCrops(NamedTuple):
    """A batch before augmentation."""

    levels: Tensor  #: int16 ``(b, slices, n, n)``
    shares: Tensor  #: soft labels, uint8 ``(b, 2, slices, n, n)``
    offset: Tensor  #: ``(b, 2)``, pixels (rows, columns) from the crop's centre to the wanted one


def labelled_stacks(
    stacks: Sequence[cache.Stack], settings: ZonesDataSettings
) -> tuple[list[LabelledStack], list[LabelledStack]]:
    """The labelled axial stacks to train on and those to validate on, split by patient."""
    training: list[LabelledStack] = []
    validation: list[LabelledStack] = []
    for stack in stacks:
        if stack.labels is None or stack.plane != "axial" or not stack.labels.any():
            continue
        held_out = stack.case in settings.validation
        if held_out or stack.case not in settings.exclude:
            made = on_working_pixels(stack, settings.pixel_mm)
            (validation if held_out else training).append(made)
    return training, validation


def on_working_pixels(stack: cache.Stack, pixel_mm: float) -> LabelledStack:
    """A labelled stack with square pixels of ``pixel_mm``."""
    if stack.labels is None or stack.spacing is None:
        raise ValueError(f"{stack.case} {stack.series}: not labelled")
    between, *pixels = stack.spacing
    levels = to_pixel_size(stack.levels, (pixels[0], pixels[1]), pixel_mm)
    votes = np.stack([(stack.labels == label).mean(axis=0) for label in ZONES.values()])
    factors = [s / pixel_mm for s in pixels]
    shares = resized(torch.from_numpy(votes.astype(np.float32)), factors, levels.shape[1:])
    gland = shares.sum((0, 1))
    rows, columns = (
        np.average(np.arange(gland.shape[d]), weights=gland.sum(1 - d).numpy()) for d in (0, 1)
    )
    return LabelledStack(
        stack.case,
        stack.series,
        levels,
        shares.mul(WHOLE).round().clamp(0, WHOLE).byte().numpy(),
        (between, pixel_mm, pixel_mm),
        (float(rows), float(columns)),
    )


def to_pixel_size(
    levels: NDArray[np.int16], spacing_mm: tuple[float, float], pixel_mm: float
) -> NDArray[np.int16]:
    """Levels ``(slices, rows, columns)`` on square pixels of ``pixel_mm``, rounded to levels again."""
    images = resample_pixels(torch.from_numpy(levels), spacing_mm, pixel_mm)
    resampled: NDArray[np.int16] = images.round().clamp(0, np.iinfo(np.int16).max).short().numpy()
    return resampled


def resized(x: Tensor, factors: Sequence[float], size: Sequence[int]) -> Tensor:
    """Images ``(..., rows, columns)``, linearly interpolated at ``factors`` times as many pixels per mm, of
    which there are ``size`` from the same first edge on."""
    for dim, factor, n in zip((-2, -1), factors, size, strict=True):
        if factor != 1 or x.shape[dim] != n:
            rows = interpolation_matrix("linear", x.shape[dim], factor, n)
            x = (x.movedim(dim, -1) @ torch.tensor(rows.T, dtype=x.dtype)).movedim(-1, dim)
    return x


class ZoneCrops:
    """Random crops of consecutive slices around the gland, sometimes anywhere: stacks with equal chances.

    Raises:
        ValueError: there is no labelled stack.
    """

    def __init__(
        self,
        stacks: Sequence[LabelledStack],
        settings: ZonesDataSettings,
        variation: AugmentationSettings,
    ) -> None:
        if not stacks:
            raise ValueError("the cache has no labelled axial stacks to train on")
        self.stacks, self.settings, self.variation = stacks, settings, variation
        self.size = math.ceil(settings.crop * PADDING / 2) * 2

    def draw(self, n: int, generator: torch.Generator) -> RawCrops:
        """Draw ``n`` crops, larger than the final ones by what their augmentation needs."""
        picks = torch.randint(len(self.stacks), (n,), generator=generator).tolist()
        u = torch.rand(n, 4, generator=generator).tolist()
        shift = torch.randn(n, 2, generator=generator).tolist()
        drawn = zip(picks, u, shift, strict=True)
        crops = [self._crop(self.stacks[p], *v) for p, *v in drawn]
        return RawCrops(*(torch.stack(part) for part in zip(*crops, strict=True)))

    def _crop(
        self, stack: LabelledStack, u: Sequence[float], shift: Sequence[float]
    ) -> tuple[Tensor, Tensor, Tensor]:
        count, *extent = stack.levels.shape
        if u[0] < self.variation.anywhere:
            centre = [v * n for v, n in zip(u[1:3], extent, strict=True)]
        else:
            sd = self.variation.shift_mm / self.settings.pixel_mm
            centre = [c + sd * s for c, s in zip(stack.centre, shift, strict=True)]
        first = int(u[3] * max(1, count - self.settings.slices + 1))
        slices = np.minimum(np.arange(first, first + self.settings.slices), count - 1)
        starts = [
            min(max(0, round(c - self.size / 2)), max(0, n - self.size))
            for c, n in zip(centre, extent, strict=True)
        ]
        rows, columns = (slice(s, s + self.size) for s in starts)
        missing = [(0, max(0, self.size - n)) for n in extent]
        levels = np.pad(stack.levels[slices, rows, columns], [(0, 0), *missing], mode="edge")
        shares = np.pad(stack.shares[:, slices, rows, columns], [(0, 0), (0, 0), *missing])
        offset = [c - s - self.size / 2 for c, s in zip(centre, starts, strict=True)]
        return torch.from_numpy(levels), torch.from_numpy(shares), torch.tensor(offset)


class Variation(NamedTuple):
    """Parameters of the augmentation of one stack."""

    #: ``(2, 2)``, places (row, column) of the new image to the old, about the centre
    matrix: Tensor
    elastic: Tensor  #: displacements of control points in pixels, ``(2, n, n)``
    gamma: float  #: of ``gain * intensity ** gamma``
    gain: float
    bias: Tensor  #: logarithm of the bias field at its control points, ``(m, m)``
    noise: float  #: standard deviation
    factor: float  #: by which pixels are made coarser; 1 for not
    kspace: bool  #: whether by cutting k-space instead of averaging
    bleed: float  #: weight of the neighbouring slices


def draw_variation(
    settings: AugmentationSettings, data: ZonesDataSettings, generator: torch.Generator
) -> Variation:
    """Draw the augmentation of one stack, on the CPU."""
    u = torch.rand(16, generator=generator, dtype=torch.float64).tolist()

    def log_uniform(i: int, limits: tuple[float, float]) -> float:
        return float(limits[0] * (limits[1] / limits[0]) ** u[i])

    angle = math.radians(settings.rotation) * (2 * u[0] - 1)
    size = log_uniform(1, settings.scale)
    rows, columns = (size * log_uniform(i, settings.stretch) for i in (2, 3))
    mirror = -1.0 if u[4] < 0.5 else 1.0
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    shrink = torch.diag(torch.tensor([1 / rows, mirror / columns]))
    points = torch.randn(2, ELASTIC_POINTS, ELASTIC_POINTS, generator=generator)
    bias = torch.randn(BIAS_POINTS, BIAS_POINTS, generator=generator)
    return Variation(
        matrix=shrink @ turn,
        elastic=points * (settings.elastic_mm / data.pixel_mm),
        gamma=log_uniform(5, settings.gamma),
        gain=log_uniform(6, settings.gain),
        bias=bias * (settings.bias * u[7]),
        noise=settings.noise * u[8] if u[9] < 0.5 else 0.0,
        factor=log_uniform(10, settings.coarse_factor) if u[11] < settings.coarse else 1.0,
        kspace=u[12] < 0.5,
        bleed=0.3 * u[13] if u[14] < settings.thick else 0.0,
    )


def vary(
    crops: RawCrops, variations: list[Variation], size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Augment crops.

    Returns:
        Images ``(b, 1, slices, size, size)``, about 0..1, and soft labels ``(b, 3, slices, size, size)`` of
        background, peripheral and transition zone. ``generator`` draws the noise.
    """
    images, targets = [], []
    for levels, shares, offset, variation in zip(*crops, variations, strict=True):
        image = levels.float()[:, None] / cache.LEVELS
        zones = shares.float().movedim(0, 1) / WHOLE
        grid = _grid(variation, offset, levels.shape[-1], size).expand(len(image), -1, -1, -1)
        image = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
        zones = F.grid_sample(zones, grid, padding_mode="zeros", align_corners=False)
        images.append(_varied_intensity(image, variation, generator)[:, 0])
        background = (1 - zones.sum(1, keepdim=True)).clamp(min=0)
        targets.append(torch.cat([background, zones], dim=1).movedim(1, 0))
    return torch.stack(images)[:, None], torch.stack(targets)


def _grid(variation: Variation, offset: Tensor, extent: int, size: int) -> Tensor:
    """Source of each pixel of the new image, as ``grid_sample`` takes it: ``(1, size, size, 2)``."""
    line = torch.arange(size, device=offset.device) - (size - 1) / 2
    places = torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1)
    moved = F.interpolate(
        variation.elastic[None].to(offset), (size, size), mode="bicubic", align_corners=True
    )
    places = places @ variation.matrix.to(offset).T + moved[0].movedim(0, -1) + offset
    return (places * (2 / extent)).flip(-1)[None]


def _varied_intensity(image: Tensor, v: Variation, generator: torch.Generator) -> Tensor:
    """Images ``(slices, 1, h, w)`` with the slices' bleeding, resolution, bias, contrast and noise varied."""
    if v.bleed:
        before, after = image[[0, *range(len(image) - 1)]], image[[*range(1, len(image)), -1]]
        image = (1 - 2 * v.bleed) * image + v.bleed * (before + after)
    if v.factor > 1:
        high = (image.shape[-2], image.shape[-1])
        low = (round(high[0] / v.factor), round(high[1] / v.factor))
        operator = in_plane_operator(low, high, v.factor, "kspace" if v.kspace else "bicubic")
        image = operator.interpolate(operator(image))
    field = F.interpolate(v.bias[None, None].to(image), image.shape[-2:], mode="bicubic")
    image = v.gain * image.clamp(min=0) ** v.gamma * field.exp()
    if v.noise:
        noise = torch.randn(image.shape, generator=generator, device=image.device)
        image = image + v.noise * noise
    return image
