"""Result of a run on several planes of an exam: one isotropic volume, with record and picture."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import ThroughPlane
from mrisr.core.volume import Volume, VolumeFile
from mrisr.runs.measured import measured_as, thickness_notes, with_degradation, with_noise
from mrisr.runs.record import PlaneRecord, VolumeRecord
from mrisr.runs.results import Result, adapted_to, record_of

if TYPE_CHECKING:
    from mrisr.models.store import Model
    from mrisr.planes.joint import Joint, Used
    from mrisr.restore import Progress


def join_planes(
    file: VolumeFile,
    others: Sequence[VolumeFile],
    settings: ThroughPlane,
    *,
    model: Model | None = None,
    progress: Progress | None = None,
    began: float | None = None,
    adapting: Progress | None = None,
) -> Result:
    """Make one isotropic volume out of several stacks of an exam, in the frame of the first.

    Args:
        file: the stack that gives frame, field of view and units.
        others: further stacks, across the first.
        settings: ``spacing`` or ``factor`` (of the first stack) give the voxels' size, by default the finest
            pixel of all stacks.
        model, progress, began, adapting: as for :func:`upsample`.

    Raises:
        InputError: a stack has a single slice, two are of one plane, or they do not overlap.
        UsageError: as :func:`upsample`.
    """
    from mrisr.planes.joint import join
    from mrisr.restore import model_of

    began = time.perf_counter() if began is None else began
    if settings.samples is not None:
        raise UsageError("uncertainty, samples: are for one stack, not for several planes")
    settings, kind = with_degradation(settings)
    if kind != "gaussian":
        raise UsageError(f"degradation: several planes are joined by gaussian, found {kind}")
    model = model or model_of(settings, settings.job)
    files = (file, *others)
    _check_across([f.volume for f in files])
    spacing = _common_spacing([f.volume for f in files], settings, model.card.factors[1])
    each = replace(settings, factor=None, spacing=spacing)
    measured = [measured_as(f.volume, each, kind, model) for f in files]
    measurements = [with_noise(m, settings) for m, _ in measured]
    used = adapted_to(files, measurements, settings, model, adapting)
    joint = join(measurements, used.model, settings, spacing, settings.register == "auto", progress)
    restored = joint.lead
    record = record_of(
        settings,
        used,
        file,
        restored,
        joint.volume,
        joint,
        {
            "spacing_mm": round(spacing, 6),
            "slice_thickness_mm": [p["slice_thickness_mm"] for _, p in measured],
            "register": settings.register,
            "noise": [m.noise for m in joint.measurements],
        },
        began=began,
        notes=(
            *(note for _, parameters in measured for note in thickness_notes(parameters)),
            *_notes_of_planes(files, joint),
        ),
        planes=tuple(_plane_record(f, u) for f, u in zip(others, joint.used, strict=True)),
    )

    def draw(shown: Volume, title: str) -> bytes:
        from mrisr.view.qc import planes_png

        moved = [stack.moved(joint.grid) for stack in joint.stacks]
        return planes_png(shown, moved, restored.volume, title=title)

    return Result(joint.volume, record, draw, joint, adapted=used.kept, image=joint.volume)


def _check_across(volumes: Sequence[Volume]) -> None:
    """Refuse a stack given twice, or two of one plane, which would count as one that is surer. Raises
    InputError."""
    seen: dict[str, Volume] = {}
    for volume in volumes:
        if volume.plane in seen:
            expected = f"a stack across {seen[volume.plane].name}"
            raise InputError(volume.name, expected=expected, found=f"another {volume.plane} one")
        seen[volume.plane] = volume


def _notes_of_planes(files: Sequence[VolumeFile], joint: Joint) -> tuple[str, ...]:
    """Notes of the readers, of the restorations and on stacks that were left out."""
    return (
        *(note for f in files for note in f.notes),
        *dict.fromkeys((*joint.lead.notes, *joint.notes)),
        *(f"the {u.volume.plane} stack was left out: {u.why}" for u in joint.used if u.why),
    )


def _plane_record(file: VolumeFile, used: Used) -> PlaneRecord:
    """The record of a further stack."""
    motion: dict[str, Any] = {}
    if used.fit is not None:
        motion = {
            "shift_mm": used.fit.shift_mm.round(3).tolist(),
            "angles_deg": used.fit.angles_deg.round(3).tolist(),
            "matrix_ras_mm": used.fit.matrix.round(6).tolist(),
            "correlation": round(used.fit.correlation, 4),
            "uncertainty_mm": round(used.fit.uncertainty_mm, 3),
        }
    return PlaneRecord(
        input=VolumeRecord.of(file.volume, file.sha256),
        agreement=round(used.agreement, 3),
        left_out=used.why,
        **motion,
    )


def _common_spacing(volumes: Sequence[Volume], settings: ThroughPlane, largest: float) -> float:
    """Voxel size in mm of several stacks together: asked for, or their finest pixel as far as the model's
    largest factor reaches."""
    between = [float(v.spacing[v.slice_axis]) for v in volumes]
    if settings.spacing is not None:
        return settings.spacing
    if settings.factor is not None:
        return between[0] / settings.factor
    finest = min(float(s) for v in volumes for s in v.spacing)
    return max(finest, max(between) / largest)
