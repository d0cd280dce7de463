"""Labelled stacks of the cache on the grid on which the segmenter works, and crops of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrisr.config import AugmentationSettings, ZonesDataSettings
from mrisr.data import cache
from mrisr.physics.rows import interpolation_matrix
from mrisr.physics.separable import resample_pixels
from mrisr.zones.labels import ZONES

#: Soft label of a voxel that all readers agree on, as it is stored.
WHOLE = 255
#: Edge of a raw crop in edges of the final one, which rotation and scaling need.
PADDING = 1.6


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
