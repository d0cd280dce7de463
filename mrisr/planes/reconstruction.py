"""One isotropic volume out of the stacks of a patient: the posterior mean under the network's prior.

Every stack is ``y_i = A_i R_i b_i x + n_i``: moved, seen through its slice profile, brighter by a smooth
field, with noise of its own. The prior's mean is what the network makes of each stack by itself, every
frequency from the stacks that measured it; conjugate gradients then bring it into agreement with all. What
contradicts the axial stack, whose frame the result lies in, counts less the more it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mrisr.core import geometry
from mrisr.core.statistics import scaling
from mrisr.core.volume import Storage, Volume
from mrisr.physics.measurement import TargetGrid, local_mean, stack_order
from mrisr.physics.noise import estimated_level
from mrisr.physics.operator import (
    Composed,
    LinearOperator,
    Moved,
    Sloped,
    Stacked,
    Weighted,
    conjugate_gradients,
)
from mrisr.physics.separable import through_plane_operator
from mrisr.planes.intensities import matched_field
from mrisr.planes.registration import Points
from mrisr.planes.slices import Fit

if TYPE_CHECKING:
    import SimpleITK as sitk

#: Standard deviation of the prior's error, a share of the intensity range.
PRIOR = 0.05
#: Frequency along the slice axis, as a share of the slices' Nyquist frequency, at which a restoration counts
#: half.
CUTOFF = 0.6
#: Power of the noise in what single stacks add, over that of the stacks: chosen by the phantom and by eye.
SHRUNK = 0.1
#: Disagreement at the resolution of both stacks at which a stack counts a quarter, a share of the range.
DISAGREEMENT = 0.12
#: Distance in mm over which a stack fades at its edges, and iterations of the conjugate gradients.
FADE, ROUNDS = 8.0, 12


@dataclass(frozen=True, eq=False)
class Stack:
    """A measured stack in the joint volume's frame and units.

    Attributes:
        volume: as measured.
        restored: what the network makes of it alone, on the joint grid, scaled.
        fit: its motion to the joint volume's frame; None for one that lies as it was measured.
        y: ``(slices, rows, columns)``, matched to the joint volume's scaled intensities.
        trust: how far each voxel of ``y`` agrees with the axial stack, 0 to 1; 0 beyond the joint volume.
        share: the same on the joint grid.
        noise: standard deviation in ``y``.
    """

    volume: Volume
    restored: Tensor
    fit: Fit | None
    y: Tensor
    trust: Tensor
    share: Tensor
    noise: float

    @property
    def motion(self) -> geometry.Affine:
        """World RAS mm of the stack to that of the joint volume."""
        return np.eye(4) if self.fit is None else self.fit.matrix

    def moved(self, grid: TargetGrid) -> Volume:
        """The measured voxels where they lie in the joint frame, in the joint volume's units."""
        order = list(stack_order(self.volume))
        array = self.y.add(1).mul(grid.scale / 2).add(grid.offset).numpy()
        affine = self.motion @ self.volume.affine[:, [*order, 3]]
        return Volume(array, affine, stacked_along=0, name=self.volume.name)


def joint_grid(axial: Volume, spacing: float) -> tuple[tuple[int, int, int], geometry.Affine]:
    """Isotropic grid over the field of view of a stack."""
    return geometry.resampled_grid(
        axial.shape, axial.affine, [float(s) / spacing for s in axial.spacing]
    )


def slice_operator(
    shape: Sequence[int], affine: geometry.Affine, stack: Volume, motion: geometry.Affine
) -> Composed[Tensor]:
    """``A`` from a joint grid to a stack ``(slices, rows, columns)``: motion, then the slice profile.

    The profile is a Gaussian whose full width at half maximum is the slice thickness, or the spacing where
    none is stated.
    """
    order = stack_order(stack)
    between = float(stack.spacing[order[0]])
    points = max(2, round(between / float(geometry.spacing(affine).min())))
    turned = stack.affine[:, [*order, 3]]
    low = [stack.shape[a] for a in order]
    fine, fine_affine = geometry.resampled_grid(low, turned, (points, 1, 1))
    thickness = (stack.slice_thickness or between) / between
    profile = through_plane_operator(low[0], fine[0], points, thickness=thickness, dim=-3)
    return Composed(profile, Moved(shape, affine, fine, fine_affine, motion))


def brought(
    volume: Volume,
    shape: Sequence[int],
    affine: geometry.Affine,
    motion: geometry.Affine,
    linear: bool = False,
) -> Tensor:
    """A volume on a joint grid by cubic B-splines or linearly, the motion as in :func:`slice_operator`; its
    smallest value outside."""
    import SimpleITK as sitk

    image = _image(volume)
    lps = geometry.LPS_TO_RAS @ np.linalg.inv(motion) @ geometry.LPS_TO_RAS
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(lps[:3, :3].ravel().tolist())
    transform.SetTranslation(lps[:3, 3].tolist())
    grid = geometry.LPS_TO_RAS @ affine
    directions = geometry.directions(grid).ravel().tolist()
    place = (grid[:3, 3].tolist(), geometry.spacing(grid).tolist(), directions)
    low = float(volume.array.min())
    kind = sitk.sitkLinear if linear else sitk.sitkBSpline
    found = sitk.Resample(image, [int(n) for n in shape], transform, kind, *place, low)
    return torch.from_numpy(sitk.GetArrayFromImage(found).transpose(2, 1, 0).copy())


def _image(volume: Volume) -> sitk.Image:
    from mrisr.io.itk import to_image

    array = volume.array.astype(np.float32)
    return to_image(replace(volume, array=array, storage=Storage()))


def leading(
    grid: TargetGrid, volume: Volume, restored: Volume, level: float | None = None
) -> Stack:
    """The stack that gives frame and units; its noise is estimated unless its level is stated."""
    y = grid.stack(volume)
    own = scaled(grid, brought(restored, grid.shape, grid.affine, np.eye(4)))
    ones = torch.ones(())
    return Stack(volume, own, None, y, ones, ones, _deviation(y, level))


def _deviation(y: Tensor, level: float | None) -> float:
    """Standard deviation of the noise in a scaled stack, of a level that is stated or estimated; never 0, so
    that the stacks can be weighed."""
    return 2 * max(estimated_level(y) if level is None else level, 1e-3)


def scaled(grid: TargetGrid, values: Tensor) -> Tensor:
    """Intensities in the units of the leading stack, scaled to -1..1."""
    return (values - grid.offset) * (2 / grid.scale) - 1


def placed(
    grid: TargetGrid,
    volume: Volume,
    restored: Volume,
    fit: Fit | None,
    reference: Tensor,
    centre: Points,
    level: float | None = None,
) -> Stack:
    """A stack in the joint frame: its intensities matched to the reference, and trusted where the two agree.

    Both are compared at a resolution that both have, so that what one stack alone can see is no disagreement.

    Args:
        grid: of the joint volume.
        volume, restored: the stack and what the network made of it.
        fit: its motion; None where it lies as it was measured.
        reference: on the joint grid, scaled: what is known without this stack.
        centre: of the gland in the joint frame, RAS mm.
        level: of the noise, where it is stated.
    """
    from scipy.ndimage import gaussian_filter

    order = stack_order(volume)
    motion = np.eye(4) if fit is None else fit.matrix
    operator = slice_operator(grid.shape, grid.affine, volume, motion)
    covered = operator(torch.ones(grid.shape)) > 0.99
    spacing = volume.spacing[list(order)]
    coarse = float(grid.measured.spacing.max()) / 2.355  # as wide as the leading stack's slices
    sigma = np.array([0.0, *(coarse / spacing[1:])])

    def blurred(x: Tensor) -> Tensor:
        return torch.from_numpy(gaussian_filter(x.numpy(), sigma, mode="nearest"))

    offset, span = scaling(volume.array)
    values = volume.array.transpose(order).astype(np.float32)
    y = torch.from_numpy((values - offset) / span)
    expected = operator(reference).add(1).div(2)
    shape = tuple(y.shape)
    affine = motion @ volume.affine[:, [*order, 3]]
    field = matched_field(blurred(y), blurred(expected), covered, shape, affine, centre)
    y = field(y, shape, affine)
    apart = local_mean(blurred(y - expected).square(), 9).sqrt()
    trust = 1 / (1 + (apart / DISAGREEMENT).square()).square()
    trust = trust * covered * _fading(shape, spacing)
    back = volume.with_array(trust.numpy().transpose(np.argsort(order)))
    share = brought(back, grid.shape, grid.affine, motion, linear=True)
    own = brought(restored, grid.shape, grid.affine, motion)
    own = field((own - offset) / span, grid.shape, grid.affine)
    y = 2 * y - 1
    return Stack(volume, 2 * own - 1, fit, y, trust, share, _deviation(y, level))


def _fading(shape: Sequence[int], spacing: Points) -> Tensor:
    """1 inside a stack, falling to 0 over ``FADE`` mm at its edges."""
    total = torch.ones(())
    for dim, (n, step) in enumerate(zip(shape, spacing, strict=True)):
        at = torch.arange(n, dtype=torch.float32)
        edge = (torch.minimum(at, n - 1 - at) + 0.5) * float(step) / FADE
        ramp = edge.clamp(max=1).reshape([-1 if d == dim else 1 for d in range(3)])
        total = total * ramp
    return total


def reconstruct(grid: TargetGrid, stacks: Sequence[Stack]) -> Tensor:
    """Posterior mean of the joint volume, scaled, on the grid ``(i, j, k)`` in the volume's own axis order.

    Minimises ``sum_i |w_i (A_i x - y_i)|^2 / sigma_i^2 + (|e|^2 + |grad e|^2) / tau^2`` with ``e = x - m``:
    ``m`` from :func:`fused`, ``w_i^2`` the trust, ``tau`` of ``PRIOR``.
    """
    shape, affine = grid.shape, grid.affine
    prior = fused(grid, stacks)
    operators: list[LinearOperator[Tensor]] = [Weighted(Sloped(), torch.tensor(0.5 / PRIOR))]
    measured = [operators[0](prior)]
    for stack in stacks:
        weight = stack.trust.sqrt() / stack.noise
        seen = slice_operator(shape, affine, stack.volume, stack.motion)
        operators.append(Weighted(seen, weight))
        measured.append(weight * stack.y)
    joint = Stacked(operators)
    return conjugate_gradients(joint, tuple(measured), prior, tolerance=1e-3, rounds=ROUNDS)


def fused(grid: TargetGrid, stacks: Sequence[Stack]) -> Tensor:
    """Mean of the stacks' own restorations, every frequency from those that measured it.

    A stack is sharp along its rows and columns and blurred across its slices: the error of its restoration
    grows with the frequency along its slice axis, and its weight falls with it. Where a stack counts less, or
    does not reach, the plain mean stands in for it; and so it does where what the frequencies add is no
    stronger than their noise (local Wiener filter, as in :class:`~mrisr.physics.measurement.Measurement`):
    noise that runs along two planes would cross to a weave.
    """
    total, shares = torch.zeros(grid.shape), torch.zeros(grid.shape)
    for stack in stacks:
        total += stack.restored * stack.share
        shares += stack.share
    mean = total / shares.clamp(min=1e-6)
    spacing = geometry.spacing(grid.affine)
    axes = [
        torch.fft.fftfreq(n, float(d)) for n, d in zip(grid.shape[:2], spacing[:2], strict=True)
    ]
    axes.append(torch.fft.rfftfreq(grid.shape[2], float(spacing[2])))
    frequency = torch.meshgrid(*axes, indexing="ij")
    spectrum, weights = None, torch.zeros(frequency[0].shape)
    for stack in stacks:
        between = float(stack.volume.spacing[stack.volume.slice_axis])
        normal = geometry.directions(stack.volume.affine)[:, stack.volume.slice_axis]
        normal = np.linalg.inv(geometry.directions(grid.affine)) @ stack.motion[:3, :3] @ normal
        along = sum(f * float(n) for f, n in zip(frequency, normal, strict=True))
        weight = 1 / (1 + (along * (2 * between / CUTOFF)) ** 4)
        filled = torch.fft.rfftn(mean + stack.share * (stack.restored - mean))
        spectrum = weight * filled if spectrum is None else spectrum + weight * filled
        weights += weight
    assert spectrum is not None
    detail = torch.fft.irfftn(spectrum / weights, s=grid.shape) - mean
    noise = SHRUNK * sum(stack.noise**2 for stack in stacks) / len(stacks)
    power = F.avg_pool3d(detail.square()[None, None], 9, 1, 4, count_include_pad=False)[0, 0]
    calm: Tensor = mean + detail * ((power - noise).clamp(min=0) / power.clamp(min=1e-12))
    return calm
