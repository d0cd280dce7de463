"""Augmentation of the segmenter's training stacks: in space, in intensity, in resolution.

Every variation is drawn first and applied after (``draw_variation``, ``vary``), so any crop can be made
again. One draw holds for all slices of a stack.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mrisr.config import AugmentationSettings, ZonesDataSettings
from mrisr.data import cache
from mrisr.physics.separable import in_plane_operator
from mrisr.zones.data import WHOLE, RawCrops

#: Control points of the deformation, and of the bias field, along each axis.
ELASTIC_POINTS, BIAS_POINTS = 6, 4


class Variation(NamedTuple):
    """Parameters of the augmentation of one stack."""

    matrix: (
        Tensor  #: ``(2, 2)``, places (row, column) of the new image to the old, about the centre
    )
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
