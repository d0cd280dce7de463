"""The measurement ``y = A x + n`` of the image to be found, and where its voxels lie."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mrisr.core import geometry
from mrisr.core.errors import MrisrError, UsageError
from mrisr.core.options import Job, Kind
from mrisr.core.stages import stage
from mrisr.core.statistics import DARK, scaling, seeded
from mrisr.core.volume import Storage, Volume
from mrisr.physics.noise import estimated_level, with_rician_noise
from mrisr.physics.separable import SeparableOperator, in_plane_operator, through_plane_operator

#: RMS of ``A x - y`` at which the projection is done, on the scaled range of 2: 0.0002 of the range.
TOLERANCE = 4e-4
#: A family of reformatted images whose pixels are coarser than the target by more than this is left out.
COARSE = 1.5
#: Edge in measured pixels of the squares over which a residual is compared with the noise.
WINDOW = 9
#: Share of the measured range by which a result may be brighter than all that was measured.
OVERSHOOT = 0.25
UNBOUNDED = (-float("inf"), float("inf"))


@dataclass(frozen=True, eq=False)
class TargetGrid:
    """Where a stack's voxels lie: between scaled stacks and volumes in the scanner's units.

    Attributes:
        measured: the measured volume.
        order: volume axes of a stack's dimensions, the slice axis first.
        shape: of the target volume, in the volume's own axis order.
        affine: of the target volume, RAS mm.
        offset, scale: intensity ``v`` is scaled to ``2 (v - offset) / scale - 1``: -1..1 over the measured
            volume's 0..99.5 percentile range.
    """

    measured: Volume
    order: tuple[int, int, int]
    shape: tuple[int, int, int]
    affine: geometry.Affine
    offset: float
    scale: float

    @property
    def of_small_object(self) -> bool:
        """Whether the scale is that of a small object on an empty background (:func:`scaling`)."""
        bright = np.greater(self.measured.array, self.offset + DARK * self.scale)
        return bool(np.count_nonzero(bright) < 0.005 * bright.size)

    def stack(self, volume: Volume) -> Tensor:
        """A volume's voxels as a scaled stack ``(slices, rows, columns)``, float32."""
        values = volume.array.transpose(self.order).astype(np.float32, order="C")
        return torch.from_numpy(values).sub_(self.offset).mul_(2 / self.scale).sub_(1)

    @stage("write")
    def volume(self, stack: Tensor) -> Volume:
        """A scaled stack on the target grid as a volume, in the measured volume's units and storage.

        Raises:
            MrisrError: the stack holds numbers that are not finite.
        """
        if not bool(torch.isfinite(stack).all()):
            raise MrisrError(f"{self.measured.name}: the model gave numbers that are not finite")
        values = stack.add(1).mul_(self.scale / 2).add_(self.offset).numpy()
        storage = self.measured.storage
        array = storage.decode(storage.encode(values.transpose(np.argsort(self.order))))
        return self.measured.with_array(array, self.affine)


@dataclass(frozen=True, eq=False)
class Measurement:
    """Measurement ``y = A x + n``: what was measured, and by which ``A``.

    Attributes:
        y: measured stack ``(slices, rows, columns)``, or images ``(n, channels, rows, columns)`` of pictures;
            float32, scaled to -1..1.
        operator: ``A`` on such stacks.
        bounds: smallest and largest scaled intensity that ``x`` may have.
        noise: level of ``n``: its standard deviation as a share of the intensity range, which is 2 in ``y``.
        views: through the plane, the stack's dimensions (1 rows, 2 columns) that serve as the columns of
            reformatted images; empty where images are restored in their own plane.
        grid: where the voxels lie; None for images without a place.
    """

    y: Tensor
    operator: SeparableOperator
    bounds: tuple[float, float] = UNBOUNDED
    noise: float = 0.0
    views: tuple[int, ...] = ()
    grid: TargetGrid | None = None

    @property
    def placed(self) -> TargetGrid:
        """The grid of a measurement that has one. Raises ValueError for others."""
        if self.grid is None:
            raise ValueError("these images have no place in the world")
        return self.grid

    def apply(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """A method of the operator on a stack; slice by slice where it acts within slices, to save memory."""
        found = [function(part) for (part,) in self._parts(x)]
        return found[0] if len(found) == 1 else torch.cat(found)

    def interpolated(self) -> Tensor:
        """The measurement interpolated on the target grid: x_LR, what a result is compared with."""
        return self.apply(self.operator.interpolate, self.y)

    @stage("consistency")
    def project(self, stack: Tensor, weight: float | None = None) -> Tensor:
        """Data consistency ``x + weight A^+ (y - A x)`` within the bounds; without a weight, up to the noise.

        Up to the noise, only what of the residual the noise does not explain is projected: around every
        pixel its power above that of the noise (local Wiener filter, Lee 1980, "Digital image enhancement
        and noise filtering by use of local statistics", eq. 14). What is left is about as strong as the
        noise: weaker means that noise was copied, stronger that something measured was left out.
        """
        done = torch.empty_like(stack)
        for out, x, y in self._parts(done, stack, self.y):
            out.copy_(self._projected(x, y, weight)).clamp_(*self.bounds)
        return done

    def _projected(self, x: Tensor, y: Tensor, weight: float | None) -> Tensor:
        if weight is None and self.noise:
            return self._up_to_noise(x, y)
        x = self.operator.project(x, y, 1.0 if weight is None else weight)
        if weight in (None, 1):
            x = self.operator.project_within(x, y, self.bounds, tolerance=TOLERANCE)
        return x

    def _up_to_noise(self, x: Tensor, y: Tensor) -> Tensor:
        residual = y - self.operator(x)
        power = local_mean(residual.square())
        explained = (power - (2 * self.noise) ** 2).clamp(min=0) / power.clamp(min=1e-12)
        return x + self.operator.pinv(explained * residual)

    def _parts(self, *stacks: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Parts of stacks that belong together: slices where ``A`` acts within slices."""
        one = -3 not in self.operator.axes
        return zip(*(stack.split(1 if one else len(stack)) for stack in stacks), strict=True)

    @stage("to grid")
    def with_estimated_noise(self) -> "Measurement":
        """The same measurement, its noise estimated from its slices, to 0.01% of the range."""
        return replace(self, noise=round(estimated_level(self.y), 4))

    @stage("consistency")
    def residual(self, result: Volume) -> dict[str, float]:
        """Agreement of a result, as stored, with the measurement: RMS and maximum of ``A x - y`` in the
        source's units; the RMS as a share of the intensity range and, where there is noise, in units of its
        standard deviation: 0 is noise copied, about 1 as near as the noise allows."""
        return agreement(self._difference(result), self.placed.scale, self.noise)

    def residual_map(self, result: Volume) -> Volume:
        """``A x - y`` of a result on the measured voxels, in standard deviations of the noise or, without
        noise, in percent of the intensity range."""
        grid = self.placed
        values = (self._difference(result) / (grid.scale * (self.noise or 0.01))).numpy()
        return grid.measured.with_array(values.transpose(np.argsort(grid.order)))

    def _difference(self, result: Volume) -> Tensor:
        grid = self.placed
        x, y = (
            torch.from_numpy(v.array.transpose(grid.order).astype(np.float32, order="C"))
            for v in (result, grid.measured)
        )
        return self.apply(self.operator, x) - y


def agreement(difference: Tensor, scale: float, noise: float) -> dict[str, float]:
    """The figures of a residual from the differences, the intensity range and the noise's level."""
    rms = float(difference.double().square().mean().sqrt())
    found = {
        "rms": rms,
        "max": float(difference.abs().max()),
        "intensity_range": scale,
        "rms_of_range": rms / scale,
    }
    return found | ({"rms_of_noise": rms / (scale * noise)} if noise else {})


def local_mean(images: Tensor, edge: int = WINDOW) -> Tensor:
    """Mean over squares of ``edge`` pixels around every pixel of ``(..., rows, columns)``."""
    flat = images.reshape(-1, 1, *images.shape[-2:])
    mean = F.avg_pool2d(flat, edge, 1, edge // 2, count_include_pad=False)
    return mean.reshape(images.shape)


def noise_level(volume: Volume) -> float:
    """The estimated level of a volume's noise, a share of its intensity range, as a run without ``--noise``
    assumes it."""
    offset, scale = scaling(volume.array)
    values = volume.array.transpose(stack_order(volume)).astype(np.float32)
    return round(estimated_level(torch.from_numpy((values - offset) * (2 / scale) - 1)), 4)


def stack_order(volume: Volume) -> tuple[int, int, int]:
    """The volume's axes with its slice axis first."""
    through = volume.slice_axis
    rows, columns = (a for a in range(3) if a != through)
    return through, rows, columns


def measure_in_plane(volume: Volume, scale: float, kind: Kind = "bicubic") -> Measurement:
    """The volume as a measurement of one with ``scale`` times as many pixels along both in-plane axes."""
    return _measured(volume, "inplane", scale, kind, 1.0)


def measure_through_plane(
    volume: Volume, factor: float, kind: Kind = "gaussian", thickness: float = 1.0
) -> Measurement:
    """The volume as a measurement of one with ``factor`` times as many slices.

    ``thickness`` is the slice thickness over the slice spacing.
    """
    return _measured(volume, "throughplane", factor, kind, thickness)


def _measured(volume: Volume, job: Job, factor: float, kind: Kind, thickness: float) -> Measurement:
    order = stack_order(volume)
    shape, affine = geometry.resampled_grid(
        volume.shape, volume.affine, _factors(order, job, factor)
    )
    grid = TargetGrid(volume, order, shape, affine, *scaling(volume.array))
    low, high = ([s[a] for a in order] for s in (volume.shape, shape))
    operator = _stack_operator(job, low, high, factor, kind, thickness)
    views = _reformats(grid) if job == "throughplane" else ()
    y = grid.stack(volume)
    return Measurement(y, operator, within_reach(y, _bounds(grid)), views=views, grid=grid)


def _stack_operator(
    job: Job,
    low: Sequence[int],
    high: Sequence[int],
    factor: float,
    kind: Kind,
    thickness: float = 1.0,
) -> SeparableOperator:
    """``A`` on stacks of ``high`` (slices, rows, columns), which become ``low``."""
    if job == "inplane":
        return in_plane_operator((low[1], low[2]), (high[1], high[2]), factor, kind)
    return through_plane_operator(low[0], high[0], factor, kind=kind, thickness=thickness, dim=-3)


def degraded(truth: Volume, job: Job, factor: float, kind: Kind, thickness: float = 1.0) -> Volume:
    """The coarse volume that a scanner would have written of ``truth``: ``A x``, float32.

    Negative overshoot of ``A`` is cut where the truth has no negative values, as in a magnitude image.

    Args:
        truth: the fine volume.
        job: whether its pixels (``inplane``) or its slices become coarser by ``factor``.
        kind, thickness: of the degradation, as in :func:`mrisr.physics.rows.degradation_matrix`.

    Raises:
        UsageError: upsampling the coarse grid by ``factor`` would not give the truth's grid again.
    """
    order = stack_order(truth)
    factors = _factors(order, job, 1 / factor)
    shape, affine = geometry.resampled_grid(truth.shape, truth.affine, factors)
    back, _ = geometry.resampled_grid(shape, affine, _factors(order, job, factor))
    if back != truth.shape:
        raise UsageError(
            f"{truth.name}: x{factor:g} of {shape} is {back}, not {truth.shape}; see fitting_size"
        )
    low, high = ([s[a] for a in order] for s in (shape, truth.shape))
    operator = _stack_operator(job, low, high, factor, kind, thickness)
    x = torch.from_numpy(truth.array.transpose(order).astype(np.float32, order="C"))
    y = operator(x)
    if truth.array.min() >= 0:
        y = y.clamp(min=0)
    array = y.numpy().transpose(np.argsort(order))
    spacing = float(geometry.spacing(affine)[order[0]])
    return replace(
        truth,
        array=np.ascontiguousarray(array),
        affine=affine,
        storage=Storage(),
        stacked_along=order[0],
        slice_thickness=truth.slice_thickness if job == "inplane" else spacing * thickness,
    )


def noisy(volume: Volume, level: float, seed: int = 0) -> Volume:
    """A magnitude image with white Rician noise of a level, a share of its intensity range; one seed always
    draws the same noise on the same shape."""
    if not level:
        return volume
    _, span = scaling(volume.array)
    order = stack_order(volume)
    signal = torch.from_numpy(volume.array.transpose(order).astype(np.float32)).mul(2 / span).sub(1)
    found = with_rician_noise(signal[None], torch.tensor([level]), seeded("cpu", seed))
    array = found[0].add(1).mul(span / 2).numpy().transpose(np.argsort(order))
    return replace(volume, array=np.ascontiguousarray(array))


def fitting_size(size: int, factor: float) -> int:
    """The largest number of voxels up to ``size`` that ``factor`` leads back to from its coarse grid; 0 where
    there is none."""
    fitting = (
        n
        for n in range(size, 0, -1)
        if geometry.resampled_size(geometry.resampled_size(n, 1 / factor), factor) == n
    )
    return next(fitting, 0)


def _factors(order: tuple[int, int, int], job: Job, factor: float) -> list[float]:
    """The factor of each volume axis."""
    through = order[0]
    return [factor if (a == through) == (job == "throughplane") else 1.0 for a in range(3)]


def _bounds(grid: TargetGrid) -> tuple[float, float]:
    """Smallest and largest scaled intensity of a result: what the storage can hold, and no negative
    values where the measurement has none (a magnitude image)."""
    storage = grid.measured.storage
    ends = list(UNBOUNDED)
    if np.issubdtype(storage.dtype, np.integer):
        info = np.iinfo(storage.dtype)
        ends = sorted(storage.slope * v + storage.intercept for v in (info.min, info.max))
    if grid.measured.array.min() >= 0:
        ends[0] = max(ends[0], 0.0)
    low, high = (2 * (v - grid.offset) / grid.scale - 1 for v in ends)
    return low, high


def within_reach(y: Tensor, bounds: tuple[float, float]) -> tuple[float, float]:
    """Bounds of a result that is no brighter or darker than what was measured by more than a share of its
    range: beside the rim of a masked image sharpening would reach twice the brightest voxel."""
    low, high = float(y.min()), float(y.max())
    reach = OVERSHOOT * (high - low)
    return max(bounds[0], low - reach), min(bounds[1], high + reach)


def _reformats(grid: TargetGrid) -> tuple[int, ...]:
    """Stack dimensions that serve as the columns of reformatted images: all whose pixels are not much
    coarser than the target, and at least the finest."""
    spacing = grid.measured.spacing
    target = float(geometry.spacing(grid.affine)[grid.order[0]])
    pixels = {view: float(spacing[grid.order[view]]) for view in (1, 2)}
    fine = tuple(view for view, pixel in pixels.items() if pixel <= COARSE * target)
    return fine or (min(pixels, key=lambda view: pixels[view]),)
