"""Prepared stacks to training pairs: crops drawn on the CPU as integers, degraded on the device.

Every step's randomness is a function of (seed, step, rank), so a resumed run sees what the
uninterrupted one would have seen.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mrisr.config import DataSettings, Job, Kind
from mrisr.core.statistics import seeded
from mrisr.data import cache
from mrisr.physics.measurement import Measurement, within_reach
from mrisr.physics.noise import Colour, told, with_rician_noise
from mrisr.physics.rows import degradation_matrix
from mrisr.physics.separable import (
    SeparableOperator,
    describe,
    in_plane_operator,
    resample_pixels,
    through_plane_operator,
)

#: Scaled intensities of a magnitude image whose smallest value is 0.
BOUNDS = (-1.0, float("inf"))
FWHM = float(np.sqrt(8 * np.log(2)))


class Measured(NamedTuple):
    """A group of a batch as it was measured: ``y`` ``(b, c, rows, columns)`` in -1..1, and by which ``A``."""

    y: Tensor
    operator: SeparableOperator


class Pair(NamedTuple):
    """A batch: x_HR and x_LR on the target grid ``(b, c, h, w)`` in -1..1, and the condition ``(b, n)``.

    ``measured`` are its groups, in order, with ``margin`` more target pixels on every side.
    """

    x_high: Tensor
    x_low: Tensor
    condition: Tensor
    measured: tuple[Measured, ...] = ()
    margin: int = 0


class Drawn(NamedTuple):
    """Degradation of one group of a batch.

    Attributes:
        kind, factor, thickness: as in :func:`mrisr.physics.rows.degradation_matrix`.
        blur_sigma: of a Gaussian blur after it, in pixels of the degraded image.
        noise: levels of the noise that is added last, one an image (:mod:`mrisr.physics.noise`); empty
            without noise.
        colour: of the noise.
    """

    kind: Kind
    factor: float
    thickness: float = 1.0
    blur_sigma: float = 0.0
    noise: tuple[float, ...] = ()
    colour: Colour = Colour()


def on_pixels(stack: cache.Stack, pixel_mm: float | None) -> cache.Stack:
    """Resample a stack to square in-plane pixels of ``pixel_mm``; `None` keeps it as it is."""
    if pixel_mm is None or stack.spacing is None:
        return stack
    between, *in_plane = stack.spacing
    levels = resample_pixels(torch.from_numpy(stack.levels), (in_plane[0], in_plane[1]), pixel_mm)
    levels = levels.round().clamp(0, np.iinfo(np.int16).max).short()
    return stack._replace(spacing=(between, pixel_mm, pixel_mm), levels=levels.numpy())


class Crops:
    """Draws square crops from stacks: plane by weight, then slices uniformly within the plane.

    ``channels`` are those of the crops.

    Raises:
        ValueError: there are no slices in the planes of the settings, or they differ in their channels.
    """

    def __init__(self, stacks: Sequence[cache.Stack], settings: DataSettings, job: Job) -> None:
        self.size = settings.crop + 2 * settings.margin
        self.settings, self.job = settings, job
        used = [s for s in stacks if s.plane in settings.planes]
        sizes = settings.pixel_mm
        pixels = sizes if isinstance(sizes, tuple) else (sizes,)
        self.stacks = [on_pixels(s, p) for s in used for p in pixels]
        slices = [(i, k) for i, s in enumerate(self.stacks) for k in range(len(s.levels))]
        if not slices:
            raise ValueError(
                f"the cache has no training slices in the planes {', '.join(settings.planes)}"
            )
        self.channels, *others = sorted({s.channels for s in used})
        if others:
            raise ValueError(f"slices of {self.channels} and of {others[0]} channels")
        plane = [self.stacks[i].plane for i, _ in slices]
        weight = torch.tensor([settings.planes[p] for p in plane])  # type: ignore[index]
        counted = Counter(plane)
        self.slices = slices
        self.weights = weight / torch.tensor([float(counted[p]) for p in plane])

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` crops with flips (and transposition where allowed), int16 ``(n, c, size, size)``."""
        picks = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        u = torch.rand(n, 5, generator=generator).tolist()
        return torch.stack([self._crop(int(p), *v) for p, v in zip(picks, u, strict=True)])

    def _crop(
        self, pick: int, row: float, column: float, flip: float, mirror: float, turn: float
    ) -> Tensor:
        index, k = self.slices[pick]
        stack = self.stacks[index]
        image = stack.images[k]
        if min(image.shape[1:]) < self.size:
            need = [(0, max(0, self.size - m)) for m in image.shape[1:]]
            image = np.pad(image, [(0, 0), *need], mode="symmetric")
        r = int(row * (image.shape[1] - self.size + 1))
        c = int(column * (image.shape[2] - self.size + 1))
        cut = image[:, r : r + self.size, c : c + self.size]
        crop = torch.from_numpy(np.ascontiguousarray(cut))
        if flip < 0.5:
            crop = crop.flip(-1)
        if mirror < 0.5 and self.channels == 1:  # of pictures the sky stays above
            crop = crop.flip(-2)
        if turn < 0.5 and stack.plane in self.settings.transpose:
            crop = crop.mT
        return crop


def draw_degradation(settings: DataSettings, n: int, generator: torch.Generator) -> Drawn:
    """Draw the degradation of a group of ``n`` crops (apart from applying it, so that it can be replayed)."""
    weights = torch.tensor([d.weight for d in settings.degradations])
    d = settings.degradations[int(torch.multinomial(weights, 1, generator=generator))]
    u = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
    if d.factors:
        factor = d.factors[int(u[0] * len(d.factors))]
    else:
        factor = float(np.exp(np.log(d.range[0]) + u[0] * np.log(d.range[1] / d.range[0])))
    low, high = settings.blur_sigma
    sigma = low + u[2] * (high - low) if u[1] < settings.blur_probability else 0.0
    thin, thick = d.thickness
    drawn = Drawn(d.kind, factor, thin + u[3] * (thick - thin), sigma)
    return drawn._replace(**_draw_noise(settings, n, generator)) if settings.noise else drawn


def _draw_noise(settings: DataSettings, n: int, generator: torch.Generator) -> dict[str, Any]:
    """Levels of ``n`` images, weak ones more often than strong ones and some without noise; and a colour."""
    u = torch.rand(n, 2, generator=generator, dtype=torch.float64)
    levels = torch.where(u[:, 0] < settings.noise_free, 0, settings.noise * u[:, 1].square())
    return {"noise": tuple(levels.tolist()), "colour": draw_colour(settings, generator)}


def draw_colour(settings: DataSettings, generator: torch.Generator) -> Colour:
    """Draw the spectrum of a group's noise: white, or as a scanner leaves it."""
    coloured, rows, columns, elliptic = torch.rand(4, generator=generator).tolist()
    low, high = settings.bandwidth
    colour = Colour(low + rows * (high - low), low + columns * (high - low), elliptic < 0.5)
    return colour if coloured < settings.coloured else Colour()


def pair_operator(job: Job, drawn: Drawn, high: tuple[int, int]) -> SeparableOperator:
    """The operator of a job on images of shape ``high`` (rows, columns): both axes in-plane, a slice profile
    along the rows' axis through-plane. At factor 1 it is the identity, whichever the job."""
    low = [max(1, round(n / drawn.factor)) for n in high]
    if job == "inplane" or drawn.factor == 1:
        return in_plane_operator((low[0], low[1]), high, drawn.factor, drawn.kind)
    return through_plane_operator(
        low[0], high[0], drawn.factor, kind=drawn.kind, thickness=drawn.thickness
    )


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of ``(b, c, h, w)`` by ``sigma`` pixels in both directions."""
    for dim in (-2, -1):
        rows = degradation_matrix("gaussian", images.shape[dim], 1.0, round(sigma, 2) * FWHM + 1e-3)
        h = torch.tensor(rows, dtype=images.dtype, device=images.device)
        images = (images.movedim(dim, -1) @ h.T).movedim(-1, dim)
    return images


def measure(
    x_high: Tensor, job: Job, drawn: Drawn, generator: torch.Generator | None = None
) -> Measured:
    """Degrade images ``(b, c, h, w)`` as drawn; ``generator``, on their device, makes the noise."""
    operator = pair_operator(job, drawn, (x_high.shape[-2], x_high.shape[-1]))
    y = operator(x_high)
    if drawn.blur_sigma > 0.05:
        y = blurred(y, drawn.blur_sigma)
    if drawn.noise:
        levels = torch.tensor(drawn.noise, device=y.device)
        y = with_rician_noise(y, levels, generator or seeded(y.device, 0), drawn.colour)
    return Measured(y, operator)


def measurement_of(images: Tensor, job: Job, drawn: Drawn) -> Measurement:
    """Degrade images ``(n, c, h, w)`` in -1..1 to the measurement of a magnitude image, on the CPU. Their
    noise, where there is any, is of one level.

    Through the plane the images are reformatted ones, of one channel, whose rows are the slices of the
    measured stack.
    """
    y, operator = measure(images.cpu(), job, drawn)
    noise = max(drawn.noise, default=0.0)
    if job == "inplane":
        return Measurement(y, operator, within_reach(y, BOUNDS), noise)
    stacked = SeparableOperator({-3: operator.axes[-2]})
    stack = y[:, 0].movedim(1, 0).contiguous()
    return Measurement(stack, stacked, within_reach(y, BOUNDS), noise, views=(2,))


def as_images(measurement: Measurement, stack: Tensor) -> Tensor:
    """A stack on the target grid of :func:`measurement_of` as images ``(n, c, h, w)``."""
    return stack.movedim(1, 0)[:, None] if measurement.views else stack


def make_pairs(
    crops: Tensor,
    draws: Sequence[Drawn],
    job: Job,
    margin: int,
    generator: torch.Generator | None = None,
) -> Pair:
    """Degrade integer crops ``(b, c, s, s)`` to pairs: one draw for each equal share of the batch.

    The margin is cut off after degradation, so no pair shows a border that a slice does not have.
    ``generator``, on the device of the crops, makes the noise.
    """
    x = crops.float() * (2.0 / cache.LEVELS) - 1.0
    groups = x.chunk(len(draws))
    measured = tuple(measure(g, job, d, generator) for g, d in zip(groups, draws, strict=True))
    low = torch.cat([operator.interpolate(y) for y, operator in measured])
    condition = torch.cat([_condition(m, d) for m, d in zip(measured, draws, strict=True)])
    inner = slice(margin, x.shape[-1] - margin)
    return Pair(
        x[..., inner, inner].contiguous(),
        low[..., inner, inner].contiguous(),
        condition,
        measured,
        margin,
    )


def _condition(measured: Measured, drawn: Drawn) -> Tensor:
    """Collect what the network is told of a group: the degradation of all, and the noise of each."""
    y = measured.y
    condition = describe(measured.operator).to(y).expand(len(y), -1)
    if not drawn.noise:
        return condition
    return torch.cat([condition, told(torch.tensor(drawn.noise)).to(y)[:, None]], dim=1)


def split(
    stacks: Sequence[cache.Stack], settings: DataSettings
) -> tuple[list[cache.Stack], list[cache.Stack]]:
    """Training and validation stacks, split by patient."""
    training = [s for s in stacks if s.case not in (*settings.validation, *settings.exclude)]
    return training, [s for s in stacks if s.case in settings.validation]


def validation_images(
    stacks: Sequence[cache.Stack],
    planes: Sequence[str],
    crop: int | None = 320,
) -> Iterator[tuple[cache.Stack, Tensor]]:
    """Each validation stack of the given planes as ``(slices, c, h, w)`` in -1..1: centre crop, values
    clipped to the volume's 0..99.5 percentile range (the published protocol)."""
    for stack in stacks:
        if stack.plane not in planes:
            continue
        h, w = stack.images.shape[2:]
        size = (min(crop or h, h), min(crop or w, w))
        top, left = (h - size[0]) // 2, (w - size[1]) // 2
        cut = stack.images[..., top : top + size[0], left : left + size[1]]
        yield stack, torch.from_numpy(cut.astype(np.float32) / cache.LEVELS).clamp(0, 1) * 2 - 1
