"""Rigid registration of a stack on the gland, through its slice profile.

Whole stacks register by the pelvis and its fat, so a ball around the gland decides. Mutual information in two
balls of different size starts the search; what a volume shows under the slice profile decides it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mrisr.core import geometry
from mrisr.core.volume import Volume
from mrisr.planes.registration import Points, Registration, apart, register_rigid

#: Diameters in mm of the balls whose mutual information starts the search; the first also bounds the fit.
BALLS = (60.0, 45.0)
#: Distance in mm from the centre at which motions are compared, and by which two of them count as one.
RADIUS, SAME = 35.0, 2.0
#: Two fits whose correlations differ by less are of like value.
LIKE = 0.01
#: Standard deviations in mm of the blur, from coarse to fine, and points along a slice profile.
BLURS, ALONG = (2.0, 1.0, 0.0), 7


@dataclass(frozen=True)
class Fit:
    """A motion by which a volume predicts the slices of a stack.

    Attributes:
        matrix: ``(4, 4)``, world RAS mm of the stack to that of the volume.
        shift_mm: ``(3,)`` displacement of the centre of the ball towards R, A, S.
        angles_deg: ``(3,)`` as of a :class:`Registration`.
        correlation: of prediction and stack in the ball, its middle above all, after a gain that is linear in
            space.
        uncertainty_mm: standard deviation of the motion ``RADIUS`` from the centre: of the least squares,
            and how far apart the searches from different starts ended.
        doubt: why it should not be believed, in one line; None if it should.
    """

    matrix: geometry.Affine
    shift_mm: Points
    angles_deg: Points
    correlation: float
    uncertainty_mm: float
    doubt: str | None = None


def register_slices(stack: Volume, volume: Volume, centre: Points) -> Fit:
    """Find the rigid motion by which a volume predicts the thick slices of a stack, around the gland.

    Mutual information in two balls (:func:`register_rigid`) and the identity start Gauss-Newton iterations on
    the difference of the slices and what the volume shows under their profile; the best fit counts, if those
    that are as good agree with it.

    Args:
        stack: thick slices of any orientation.
        volume: another scan of the patient, restored or isotropic, 0 where there is no signal: shading is a
            gain.
        centre: of the gland in the stack's world, RAS mm.

    Raises:
        InputError: the two do not overlap around the gland.
    """
    starts = [np.eye(4)]
    for diameter in BALLS:
        found = register_rigid(stack, volume, (centre, diameter))
        if found.doubt is None:
            starts.append(found.matrix)
    fits = [_improved(stack, volume, centre, matrix) for matrix in starts]
    believed = [fit for fit in fits if fit.doubt is None]
    best = max(believed or fits, key=lambda fit: fit.correlation)
    rivals = [fit for fit in believed if fit.correlation > best.correlation - LIKE]
    apart_mm = max((_apart_mm(fit.matrix, best.matrix, centre) for fit in rivals), default=0.0)
    total = float(np.hypot(best.uncertainty_mm, apart_mm))
    if best.doubt is None and apart_mm > SAME:
        doubt = f"two motions of like value, {apart_mm:.1f} mm apart"
        return replace(best, uncertainty_mm=total, doubt=doubt)
    return replace(best, uncertainty_mm=total)


def _apart_mm(a: geometry.Affine, b: geometry.Affine, centre: Points) -> float:
    """Root mean square distance of a point under two motions, ``RADIUS`` from the centre."""
    away = np.vstack([np.eye(3), -np.eye(3)]) * RADIUS + centre
    points = np.column_stack([away, np.ones(len(away))])
    return float(np.sqrt(np.square((points @ (a - b).T)[:, :3]).sum(1).mean()))


def _improved(stack: Volume, volume: Volume, centre: Points, matrix: geometry.Affine) -> Fit:
    """The motion after Gauss-Newton iterations from coarse to fine."""
    from scipy.spatial.transform import Rotation

    seen = _Seen(stack, centre)
    correlation, spread = 0.0, 0.0
    for blur in BLURS:
        target = _Target.of(volume, matrix @ [*centre, 1.0], blur)
        measured = seen.measured(blur)
        for _ in range(12):
            predicted, slopes, inside = seen.predicted(target, matrix)
            if inside.sum() < 0.3 * len(inside):
                raise apart(stack, volume, "too little overlap around the gland")
            step, correlation, spread = _step(
                measured, predicted, slopes, inside, seen.position, seen.near
            )
            turn = np.eye(4)
            turn[:3, :3] = Rotation.from_rotvec(step[3:] / RADIUS).as_matrix()
            pivot = (matrix @ [*centre, 1.0])[:3]
            turn[:3, 3] = pivot - turn[:3, :3] @ pivot + step[:3]
            matrix = turn @ matrix
            if np.linalg.norm(step) < 0.005:
                break
    angles = Rotation.from_matrix(matrix[:3, :3]).as_euler("xyz", degrees=True)
    shift = (matrix @ [*centre, 1.0])[:3] - centre
    doubt = Registration(matrix, shift, angles, (0.0, 0.0)).doubt
    return Fit(matrix, shift, angles, correlation, spread, doubt)


def _step(
    measured: Tensor,
    predicted: Tensor,
    slopes: Tensor,
    inside: Tensor,
    position: Tensor,
    near: Tensor,
) -> tuple[Points, float, float]:
    """One robust Gauss-Newton step in mm (rotations in mm at ``RADIUS``), the correlation of the fit and the
    standard deviation of the motion in mm; ``slopes`` are the predictions' derivatives ``(n, 6)``."""
    every = (measured, predicted, position, slopes, near)
    y, p, u, slopes, near = (t[inside].double() for t in every)
    shading = torch.cat([p[:, None], p[:, None] * u, torch.ones_like(p)[:, None]], 1)
    rooted = near.sqrt()[:, None]
    gain = torch.linalg.lstsq(rooted * shading, rooted * y[:, None]).solution[:, 0]
    local = gain[0] + u @ gain[1:4]
    terms = torch.cat([shading, local[:, None] * slopes], 1)
    residual = y - shading @ gain
    scale = 1.4826 * residual.abs().median() + 1e-12
    weight = near * (2.0 * scale / residual.abs().clamp(min=1e-12)).clamp(max=1.0)  # Huber's
    normal = terms.T @ (weight[:, None] * terms)
    normal += 1e-9 * normal.diagonal().mean() * torch.eye(len(normal), dtype=normal.dtype)
    solved = torch.linalg.solve(normal, terms.T @ (weight * y))
    step = solved[-6:]
    step = step * min(1.0, 2.0 / float(step.norm() + 1e-12))
    fitted = shading @ gain
    a, b = (v - (near * v).sum() / near.sum() for v in (fitted, y))
    power = (near * a * a).sum() * (near * b * b).sum()
    correlation = float((near * a * b).sum() / (power.sqrt() + 1e-12))
    covariance = float(scale) ** 2 * torch.linalg.inv(normal)[-6:, -6:]
    return step.numpy(), correlation, float(covariance.diagonal().sum().clamp(min=0).sqrt())


class _Seen:
    """The voxels of a stack in a ball, and the points along the slice profile behind each."""

    def __init__(self, stack: Volume, centre: Points) -> None:
        self.stack = stack
        index = np.indices(stack.shape).reshape(3, -1).T
        world = index @ stack.affine[:3, :3].T + stack.affine[:3, 3]
        within = np.linalg.norm(world - centre, axis=1) <= BALLS[0] / 2
        self.index, self.world = index[within], world[within]
        self.position = torch.from_numpy((self.world - centre) / RADIUS)
        away = np.linalg.norm(self.world - centre, axis=1) / (BALLS[0] / 2)
        self.near = torch.from_numpy(np.square(1 - np.square(away)))  # the gland before all
        axis = stack.slice_axis
        between = float(stack.spacing[axis])
        normal = geometry.directions(stack.affine)[:, axis]
        at = np.linspace(-1, 1, ALONG) * (stack.slice_thickness or between)
        weight = np.exp(-4 * np.log(2) * np.square(at / (stack.slice_thickness or between)))
        self.weight = torch.from_numpy(weight / weight.sum())
        self.points = self.world[:, None] + at[:, None] * normal

    def measured(self, blur: float) -> Tensor:
        """The stack's voxels in the ball, blurred in the plane by a standard deviation in mm."""
        from scipy.ndimage import gaussian_filter

        array = self.stack.array.astype(np.float32)
        if blur:
            sigma = blur / self.stack.spacing
            sigma[self.stack.slice_axis] = 0
            array = gaussian_filter(array, sigma, mode="nearest")
        return torch.from_numpy(array[tuple(self.index.T)])

    def predicted(self, target: _Target, matrix: geometry.Affine) -> tuple[Tensor, Tensor, Tensor]:
        """What the volume shows of the voxels ``(n,)``, its derivatives by the motion ``(n, 6)``, and
        whether the volume reaches there."""
        moved = torch.from_numpy(self.points @ matrix[:3, :3].T + matrix[:3, 3])
        values, inside = target.sample(moved)  # (n, along, 4)
        slope = values[..., 1:]
        arm = (moved - torch.from_numpy(target.pivot)) / RADIUS
        turning = torch.linalg.cross(arm, slope)
        every = torch.cat([values[..., :1], slope, turning], -1)
        mean = torch.einsum("nac,a->nc", every, self.weight)
        return mean[:, 0], mean[:, 1:], inside.all(1)


@dataclass(frozen=True)
class _Target:
    """A part of a volume with its derivatives by R, A and S as channels ``(1, 4, i, j, k)``."""

    channels: Tensor
    to_index: NDArray[np.floating]
    pivot: NDArray[np.floating]

    @classmethod
    def of(cls, volume: Volume, centre: Points, blur: float) -> _Target:
        """The surroundings of a point, blurred by a standard deviation in mm."""
        from scipy.ndimage import gaussian_filter

        inverse = np.asarray(np.linalg.inv(volume.affine))
        reach = (BALLS[0] / 2 + 15 + 3 * blur) / volume.spacing
        middle = (inverse @ centre)[:3]
        low = np.clip(np.floor(middle - reach), 0, np.array(volume.shape) - 2).astype(int)
        high = np.clip(np.ceil(middle + reach), low + 2, volume.shape).astype(int)
        part = volume.array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        part = part.astype(np.float32)
        if blur:
            part = gaussian_filter(part, blur / volume.spacing, mode="nearest")
        by_index = np.stack(np.gradient(part), -1)
        by_world = by_index @ inverse[:3, :3].astype(np.float32)
        channels = np.concatenate([part[..., None], by_world], -1)
        inverse[:3, 3] -= low
        return cls(torch.from_numpy(channels).movedim(-1, 0)[None], inverse, centre[:3])

    def sample(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Channels at world points ``(n, a, 3)``, trilinear: ``(n, a, 4)``; and whether they lie inside."""
        matrix = torch.from_numpy(self.to_index)
        index = points @ matrix[:3, :3].T + matrix[:3, 3]
        last = torch.tensor(self.channels.shape[2:], dtype=torch.float64) - 1
        inside = ((index >= 0) & (index <= last)).all(-1)
        grid = (2 * index / last - 1).flip(-1)[None, None].float()
        found = F.grid_sample(self.channels, grid, align_corners=True)
        return found[0, :, 0].movedim(0, -1).double(), inside
