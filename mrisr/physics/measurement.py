"""A volume as the measurement ``y = A x`` of the volume to be found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mrisr.core import geometry
from mrisr.core.errors import MrisrError
from mrisr.core.intensity import scaling
from mrisr.core.volume import Volume
from mrisr.physics.separable import (
    Kind,
    SeparableOperator,
    in_plane_operator,
    through_plane_operator,
)

#: RMS of ``A x - y`` at which the projection is done, on the scaled range of 2: 0.0002 of the range.
TOLERANCE = 4e-4


@dataclass(frozen=True)
class Measurement:
    """What was measured, the grid it is to be brought to, and the operator between the two.

    Tensors are *stacks*: ``(slices, rows, columns)``, the measured volume's axes in ``order``, its
    slice axis first. Scaled intensities are -1..1 over the volume's 0..99.5 percentile range.

    Attributes:
        volume: the measured volume.
        operator: ``A`` on stacks.
        order: volume axes of a stack's dimensions.
        shape: voxels of the target volume, in the volume's own axis order.
        affine: of the target volume.
        offset, scale: intensity ``v`` is scaled to ``2 (v - offset) / scale - 1``.
    """

    volume: Volume
    operator: SeparableOperator
    order: tuple[int, int, int]
    shape: tuple[int, int, int]
    affine: geometry.Affine
    offset: float
    scale: float

    def stack(self) -> Tensor:
        """The measured voxels as a scaled stack, float32."""
        values = self.volume.array.transpose(self.order).astype(np.float32, order="C")
        return torch.from_numpy(values).sub_(self.offset).mul_(2 / self.scale).sub_(1)

    def apply(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """A method of the operator on a stack; slice by slice where it acts within slices, to save memory."""
        if -3 in self.operator.axes:
            return function(x)
        return torch.cat([function(part) for part in x.split(1)])

    def to_volume(self, stack: Tensor) -> Volume:
        """A scaled stack on the target grid as a volume in the source's units and storage."""
        if not bool(torch.isfinite(stack).all()):
            raise MrisrError(f"{self.volume.name}: the model gave numbers that are not finite")
        values = stack.add(1).mul_(self.scale / 2).add_(self.offset).numpy()
        storage = self.volume.storage
        array = storage.decode(storage.encode(values.transpose(np.argsort(self.order))))
        return self.volume.with_array(array, self.affine)

    def interpolated(self) -> Volume:
        """The measurement interpolated on the target grid: what a result is compared with."""
        return self.to_volume(self.apply(self.operator.interpolate, self.stack()))

    def project(self, stack: Tensor, weight: float) -> Tensor:
        """Data consistency ``x + weight A^+ (y - A x)``, within the bounds of
        the source."""
        bounds = self._bounds()
        parts = [(stack, self.stack())]
        if -3 not in self.operator.axes:
            parts = list(zip(stack.split(1), parts[0][1].split(1), strict=True))
        done = []
        for x, y in parts:
            x = self.operator.project(x, y, weight)
            if weight == 1:
                x = self.operator.project_within(x, y, bounds, tolerance=TOLERANCE)
            done.append(x.clamp(*bounds))
        return torch.cat(done)

    def residual(self, result: Volume) -> dict[str, float]:
        """How well the result, as stored, agrees with the measurement: RMS and maximum of ``A x - y`` in
        the source's units, and the RMS as a share of the intensity range."""
        x = torch.from_numpy(result.array.transpose(self.order).astype(np.float32, order="C"))
        y = torch.from_numpy(self.volume.array.transpose(self.order).astype(np.float32, order="C"))
        difference = self.apply(self.operator, x) - y
        rms = float(difference.double().square().mean().sqrt())
        return {
            "rms": rms,
            "max": float(difference.abs().max()),
            "intensity_range": self.scale,
            "rms_of_range": rms / self.scale,
        }

    def _bounds(self) -> tuple[float, float]:
        """Smallest and largest scaled intensity of a result: what the storage can hold, and no
        negative values where the measurement has none (a magnitude image)."""
        storage = self.volume.storage
        ends = [-np.inf, np.inf]
        if np.issubdtype(storage.dtype, np.integer):
            info = np.iinfo(storage.dtype)
            ends = sorted(storage.slope * v + storage.intercept for v in (info.min, info.max))
        if self.volume.array.min() >= 0:
            ends[0] = max(ends[0], 0.0)
        low, high = (2 * (v - self.offset) / self.scale - 1 for v in ends)
        return low, high


def stack_order(volume: Volume) -> tuple[int, int, int]:
    """The volume's axes with its slice axis first."""
    through = volume.slice_axis
    rows, columns = (a for a in range(3) if a != through)
    return through, rows, columns


def measure_in_plane(volume: Volume, scale: float, kind: Kind) -> Measurement:
    """The volume as a measurement of one with ``scale`` times as many pixels along both in-plane axes."""
    order = stack_order(volume)
    factors = [1.0 if a == order[0] else scale for a in range(3)]
    shape, affine = geometry.resampled_grid(volume.shape, volume.affine, factors)
    low, high = ((s[order[1]], s[order[2]]) for s in (volume.shape, shape))
    operator = in_plane_operator(low, high, scale, kind)
    return Measurement(volume, operator, order, shape, affine, *scaling(volume.array))


def measure_through_plane(
    volume: Volume, factor: float, kind: Kind, thickness: float
) -> Measurement:
    """The volume as a measurement of one with ``factor`` times as many slices.

    ``thickness`` is the slice thickness over the slice spacing.
    """
    order = stack_order(volume)
    factors = [factor if a == order[0] else 1.0 for a in range(3)]
    shape, affine = geometry.resampled_grid(volume.shape, volume.affine, factors)
    operator = through_plane_operator(
        volume.shape[order[0]], shape[order[0]], factor, kind=kind, thickness=thickness, dim=-3
    )
    return Measurement(volume, operator, order, shape, affine, *scaling(volume.array))
