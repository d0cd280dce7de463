"""The joint volume of a patient's planes: restore every stack, register it on the gland, reconstruct.

A stack whose motion is in doubt, or which contradicts the first one around the gland, is left out in words;
with none left the first stack's own result stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.options import Sampling, Segmenting
from mrisr.core.statistics import scaling
from mrisr.core.volume import Volume
from mrisr.models.store import Model
from mrisr.physics.measurement import Measurement, TargetGrid, agreement, stack_order
from mrisr.planes.reconstruction import (
    Stack,
    joint_grid,
    leading,
    placed,
    reconstruct,
    slice_operator,
)
from mrisr.planes.registration import Points
from mrisr.planes.slices import Fit, register_slices
from mrisr.restore import Progress, Restored, restore

#: Radius in mm around the gland, and the mean trust that a stack must have there to be used.
AROUND, LEAST_TRUST = 25.0, 0.2
#: Distance in mm from the middle of the stacks at which a gland is believed, and sizes in ml.
FARTHEST, SIZES = 30.0, (8.0, 400.0)


@dataclass(frozen=True, eq=False)
class Used:
    """What became of a stack: its motion, and how far it agrees with the axial one around the gland (0 to 1);
    ``why`` it was left out, None if it was used."""

    volume: Volume
    fit: Fit | None
    agreement: float
    why: str | None = None


@dataclass(frozen=True, eq=False)
class Joint:
    """The volume of all planes on an isotropic grid in the frame of the first stack.

    Attributes:
        volume: in the first stack's units and storage.
        grid: where it lies.
        lead: the first stack's own result.
        stacks: what was reconstructed from.
        used: what became of every stack but the first.
        measurements: of all stacks.
        notes: what had to be done otherwise than usual.
    """

    volume: Volume
    grid: TargetGrid
    lead: Restored
    stacks: tuple[Stack, ...]
    used: tuple[Used, ...]
    measurements: tuple[Measurement, ...]
    notes: tuple[str, ...] = ()

    def residual(self, result: Volume) -> dict[str, float]:
        """Agreement of a result with the first stack, as of a
        :meth:`~mrisr.physics.measurement.Measurement.residual`, where the result reaches."""
        first = self.stacks[0]
        operator = slice_operator(self.grid.shape, self.grid.affine, first.volume, first.motion)
        order = list(self.grid.order)
        y = torch.from_numpy(first.volume.array.transpose(order).astype(np.float32))
        reached = operator(torch.ones(self.grid.shape)) > 0.99
        x = torch.from_numpy(result.array.astype(np.float32))
        return agreement((operator(x) - y)[reached], self.grid.scale, self.measurements[0].noise)


def gland_centre(volumes: Sequence[Volume]) -> tuple[Points, str | None]:
    """Centre of the gland, RAS mm, by the bundled segmenter of zones; and a note where it was not found.

    Exams are planned around the gland, so the middle of what all stacks show stands in for it, also where
    what the segmenter found lies far from that or is too small or large for a gland.

    Raises:
        InputError: the stacks do not overlap.
    """
    middle = overlap_centre(volumes)
    found = segmented_centre(volumes[0]) if volumes[0].plane == "axial" else None
    if found is None or np.linalg.norm(found - middle) > FARTHEST:
        return middle, "no gland was found: stacks are registered around the middle of all"
    return found, None


def segmented_centre(volume: Volume) -> Points | None:
    """Centroid of the gland as the bundled model finds it, RAS mm; None without one of a plausible size."""
    from mrisr.zones.segmenter import load_segmenter

    labels = load_segmenter(Segmenting())(volume).labels
    inside = np.argwhere(np.asarray(labels.array, dtype=np.uint8) > 0)
    size_ml = len(inside) * abs(float(np.linalg.det(volume.affine[:3, :3]))) / 1000
    if not SIZES[0] <= size_ml <= SIZES[1]:
        return None
    return np.asarray(volume.affine[:3, :3] @ inside.mean(0) + volume.affine[:3, 3])


def overlap_centre(volumes: Sequence[Volume]) -> Points:
    """Centre of what all stacks show, RAS mm, before registration. Raises InputError: nothing."""
    first = volumes[0]
    index = np.indices(first.shape)[:, ::4, ::4].reshape(3, -1)
    world = first.affine[:3, :3] @ index + first.affine[:3, 3:]
    inside = np.ones(world.shape[1], dtype=bool)
    for volume in volumes[1:]:
        inverse = np.linalg.inv(volume.affine)
        at = inverse[:3, :3] @ world + inverse[:3, 3:]
        last = np.array(volume.shape)[:, None] - 1
        inside &= ((at >= 0) & (at <= last)).all(0)
    if not inside.any():
        names = " and ".join(volume.name for volume in volumes[1:])
        raise InputError(names, expected=f"stacks that overlap with {first.name}", found="none")
    return np.asarray(world[:, inside].mean(axis=1))


def join(
    measurements: Sequence[Measurement],
    model: Model,
    sampling: Sampling,
    spacing: float,
    register: bool = True,
    progress: Progress | None = None,
) -> Joint:
    """Reconstruct one isotropic volume out of several stacks of a patient.

    Args:
        measurements: of the stacks; the first gives frame, field of view and units.
        model: through-plane.
        sampling: of the model.
        spacing: of the joint volume, mm.
        register: find the motion between the stacks; else they are taken as they lie.
        progress: told how many images of all stacks are done.

    Raises:
        InputError: the stacks do not overlap.
    """
    volumes = [_as_assumed(m) for m in measurements]
    stated = sampling.noise_level
    results = _restored(measurements, model, sampling, progress)
    lead, axial = results[0], volumes[0]
    shape, affine = joint_grid(axial, spacing)
    grid = TargetGrid(axial, stack_order(axial), shape, affine, *scaling(axial.array))
    first = leading(grid, axial, lead.volume, stated)
    centre, note = gland_centre(volumes)
    used: list[Used] = []
    stacks = [first]
    for volume, result in zip(volumes[1:], results[1:], strict=True):
        fit = register_slices(volume, lead.volume, centre) if register else None
        if fit is not None and fit.doubt is not None:
            used.append(Used(volume, fit, 0.0, fit.doubt))
            continue
        stack = placed(grid, volume, result.volume, fit, first.restored, centre, stated)
        trust = _trust(stack, grid, centre)
        why = None
        if trust < LEAST_TRUST:
            why = f"it contradicts the first stack around the gland (agreement {trust:.2f} of 1)"
        else:
            stacks.append(stack)
        used.append(Used(volume, fit, trust, why))
    found = first.restored if len(stacks) == 1 else reconstruct(grid, stacks)
    low, high = lead.measurement.bounds
    found = found.clamp(low, high)
    in_stack_order = found.permute(grid.order)
    volume = replace(grid.volume(in_stack_order.clone()), slice_thickness=spacing)
    known = tuple(result.measurement for result in results)
    notes = () if note is None or not register else (note,)
    return Joint(volume, grid, lead, tuple(stacks), tuple(used), known, notes)


def _as_assumed(measurement: Measurement) -> Volume:
    """The measured stack with the slice thickness that was assumed of it, from whatever source."""
    volume, axis = measurement.placed.measured, measurement.operator.axes[-3]
    between = float(volume.spacing[volume.slice_axis])
    return replace(volume, slice_thickness=axis.thickness * between)


def _restored(
    measurements: Sequence[Measurement],
    model: Model,
    sampling: Sampling,
    progress: Progress | None,
) -> list[Restored]:
    """What the network makes of each stack by itself."""
    counts = [sum(m.y.shape[3 - view] for view in m.views) for m in measurements]
    found = []
    for i, measurement in enumerate(measurements):
        before = sum(counts[:i])

        def report(done: int, _: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, sum(counts))

        found.append(restore(measurement, model, sampling, report))
    return found


def _trust(stack: Stack, grid: TargetGrid, centre: Points) -> float:
    """Mean trust of a stack around the gland."""
    inverse = np.linalg.inv(grid.affine)
    middle = inverse[:3, :3] @ centre + inverse[:3, 3]
    axes = [
        (torch.arange(n) - float(m)) * float(d)
        for n, m, d in zip(grid.shape, middle, geometry.spacing(grid.affine), strict=True)
    ]
    away = sum(a.square() for a in torch.meshgrid(*axes, indexing="ij"))
    return float(stack.share[away <= AROUND**2].mean())
