"""The real axial stack upsampled through its planes, against the patient's own coronal scan.

The coronal scan is a reference, not the truth: another acquisition, minutes apart, with thick slices of its
own. Protocol of Zhao et al. 2023 (PartDiff): upsample the axial stack along S-I, average neighbouring
A-P rows over the coronal slice's thickness, compare. docs/explanation/reference-scan.md explains the
registration, the overlap and the fit of intensities.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.errors import InputError, UsageError
from mrisr.core.intensity import scaling
from mrisr.core.volume import Volume
from mrisr.data.sources import find_sources
from mrisr.evaluation.agreement import compare, rounded
from mrisr.evaluation.case import Scored
from mrisr.evaluation.methods import Method
from mrisr.evaluation.overlap import Overlap, find_overlap, overlap_centre, upright
from mrisr.evaluation.registration import Ball, Registration, register_rigid
from mrisr.evaluation.score import timed
from mrisr.evaluation.settings import EvaluationSettings
from mrisr.evaluation.volumes import cut
from mrisr.io import read_volume
from mrisr.physics.measurement import Measurement, measure_through_plane
from mrisr.restore.engine import Engine
from mrisr.restore.volumes import THROUGH_PLANE, reformats, restore_reformats

#: A-P rows restored beyond those that are compared: for the spline that samples them and, where the sagittal
#: reformats are restored too, for what a network sees around a pixel.
MARGIN = {"coronal": 12, "both": 48}


class RestoredRows(NamedTuple):
    """A restored volume and what it cost; ``measurement`` is what it must agree with, where its grid is
    the target grid."""

    volume: Volume
    measurement: Measurement | None
    seconds: float
    cpu_seconds: float
    facts: dict[str, Any]


@dataclass(frozen=True)
class ReferenceCase:
    """A patient's axial stack and coronal scan.

    Attributes:
        name: the patient.
        series: the axial series.
        axial: the stack that methods upsample.
        coronal: what they are compared with.
        settings: rows, views, region and slice profile.
    """

    name: str
    series: str
    axial: Volume
    coronal: Volume
    settings: EvaluationSettings

    @cached_property
    def digest(self) -> str:
        """SHA-256 of voxels and grids of both scans."""
        content = hashlib.sha256()
        for volume in (self.axial, self.coronal):
            content.update(str((volume.shape, volume.array.dtype, volume.slice_thickness)).encode())
            content.update(np.round(volume.affine, 6).tobytes())
            content.update(np.ascontiguousarray(volume.array).tobytes())
        return content.hexdigest()

    @cached_property
    def reference(self) -> Volume:
        """The coronal scan, upright."""
        return upright(self.coronal)

    @cached_property
    def centre(self) -> NDArray[np.float64]:
        """Centre of the overlap before registration, RAS mm of the coronal scan. Raises InputError."""
        return overlap_centre(self.reference, self.axial)

    @cached_property
    def registration(self) -> Registration:
        """The coronal scan's motion to the axial stack as it was measured, so that no method is favoured.

        Raises:
            InputError: the scans do not overlap, or the result is not to be believed.
        """
        ball = None
        if self.settings.region is not None:
            x, y, z = (float(v) for v in self.centre)
            ball = Ball((x, y, z), self.settings.region)
        found = register_rigid(self.reference, self.axial, ball)
        if found.doubt is not None:
            raise InputError(
                self.coronal.name,
                expected=f"a scan that registers to {self.axial.name}",
                found=found.doubt,
            )
        return found

    @cached_property
    def overlap(self) -> Overlap:
        """Where both scans show the patient. Raises InputError where that is nowhere."""
        edge = self.settings.region
        region = None if edge is None else (self.centre, edge)
        rows = self.settings.rows
        return find_overlap(self.reference, self.axial, self.registration.matrix, rows, region)

    def score(self, method: Method, factor: float) -> Scored:
        """Upsample what of the axial stack is compared, and compare it with the coronal scan.

        Raises:
            InputError: the scans cannot be registered, or a volume made elsewhere cannot be used.
            UsageError: the slice profile is none of the job's.
        """
        overlap = self.overlap
        restored = self._read(method) if method.engine is None else self._restore(method, factor)
        compared = compare(overlap, restored.volume, self._texture_factor)
        residual = {}
        if restored.measurement is not None:
            rms = restored.measurement.residual(restored.volume)["rms_of_range"]
            residual = {"residual": rms, "consistency": rms**2 * 1e5}
        return Scored(
            slices=compared.slices,
            volume=residual,
            seconds=restored.seconds,
            cpu_seconds=restored.cpu_seconds,
            evaluations=method.evaluations,
            result=compared.result,
            reference=compared.reference,
            facts={**self._facts(), **compared.facts, **restored.facts},
        )

    @property
    def _texture_factor(self) -> float:
        """How much coarser the axial slices are than the coronal rows."""
        step = self.axial.spacing[self.axial.slice_axis] / self.reference.spacing[1]
        return max(1.0, float(step))

    def _facts(self) -> dict[str, Any]:
        motion, overlap = self.registration, self.overlap
        return {
            "shift_mm": rounded(motion.shift_mm),
            "angles_deg": rounded(motion.angles_deg),
            "mutual_information": rounded(motion.information, 4),
            "overlap_mm": rounded(overlap.size_mm, 1),
            "overlap_slices": len(overlap.boxes),
            "rows": overlap.rows,
        }

    def measurement(self, factor: float) -> Measurement:
        """The part of the axial stack that is needed, with the intensity scale of the whole."""
        if self.settings.kind not in THROUGH_PLANE:
            raise UsageError(
                f"kind: expected one of {', '.join(THROUGH_PLANE)}, found {self.settings.kind}"
            )
        low, high = self.overlap.extent(self.axial)
        axis = geometry.world_axes(self.axial.affine).index(1)
        margin = MARGIN[self.settings.views]
        first = max(int(np.floor(low[axis])) - margin, 0)
        last = min(int(np.ceil(high[axis])) + margin + 1, self.axial.shape[axis])
        part = cut(self.axial, axis, first, last)
        measured = measure_through_plane(part, factor, self.settings.kind, self.settings.thickness)
        offset, scale = scaling(self.axial.array)
        return replace(measured, offset=offset, scale=scale)

    def _restore(self, method: Method, factor: float) -> RestoredRows:
        engine = method.engine
        assert engine is not None
        measured = self.measurement(factor)
        views = self._views(measured)
        stack = restore_reformats(engine, measured, views)
        volume = measured.to_volume(measured.project(stack, method.consistency))
        seconds, cpu_seconds = _time_of_one(engine, measured, views[0], method.consistency)
        facts: dict[str, Any] = {"images": sum(measured.stack().shape[3 - view] for view in views)}
        if engine.notes:
            facts["notes"] = list(engine.notes)
        return RestoredRows(volume, measured, seconds, cpu_seconds, facts)

    def _views(self, measured: Measurement) -> list[int]:
        """The families of reformats: all that the product takes, or the coronal one (columns along L-R)."""
        if self.settings.views == "both":
            return reformats(measured)
        world = geometry.world_axes(measured.volume.affine)
        return [view for view in (1, 2) if world[measured.order[view]] == 0]

    def _read(self, method: Method) -> RestoredRows:
        """A volume made elsewhere, in the axial stack's frame; its cost is read from the JSON beside it."""
        path = method.volume_path(self.name)
        assert path is not None
        volume = read_volume(path)
        cost = _cost_beside(path)
        axis = geometry.world_axes(self.axial.affine).index(1)
        images = self.axial.shape[axis]
        return RestoredRows(
            volume,
            None,
            float(cost.get("seconds", np.nan)) / images,
            float(cost.get("cpu_seconds", np.nan)) / images,
            {"made_elsewhere": cost} if cost else {},
        )


def _time_of_one(
    engine: Engine, measured: Measurement, view: int, consistency: float
) -> tuple[float, float]:
    """Wall and processor seconds of the middle image of one family, restored and projected alone."""
    across = 3 - view  # the stack's dimension along which these images lie
    count = measured.stack().shape[across]
    one = cut(measured.volume, measured.order[across], count // 2, count // 2 + 1)
    axis = measured.operator.axes[-3]
    single = measure_through_plane(one, axis.factor, axis.kind, axis.thickness)
    single = replace(single, order=measured.order, offset=measured.offset, scale=measured.scale)

    def work() -> None:
        single.project(restore_reformats(engine, single, [view]), consistency)

    return timed(work)


def reference_cases(
    data: Path, settings: EvaluationSettings, names: Sequence[str]
) -> list[ReferenceCase]:
    """The patients with an axial and a coronal scan; of several, the first by name.

    Args:
        data: a folder of patients or a manifest, as for ``mrisr prepare``.
        names: the patients to score. One that lacks a scan is left out, unless ``settings.cases`` names it.

    Raises:
        InputError: a patient that was named or its scan is missing, no patient has both scans, or a file
            cannot be read.
    """
    entries = [entry for entry in find_sources(data) if entry.case in names]
    missing = sorted(set(names) - {entry.case for entry in entries})
    if missing:
        raise InputError(data, expected=f"the patients {', '.join(missing)}", found="none of them")
    cases = []
    for name in names:
        scans: dict[str, tuple[str, Volume]] = {}
        for entry in sorted((e for e in entries if e.case == name), key=lambda e: e.series):
            volume = read_volume(entry.path)
            scans.setdefault(volume.plane, (entry.series, volume))
        lacking = [plane for plane in ("axial", "coronal") if plane not in scans]
        if lacking and name not in settings.cases:
            continue
        if lacking:
            found = f"{', '.join(sorted(scans))} only"
            raise InputError(data / name, expected=f"a scan that is {lacking[0]}", found=found)
        series, axial = scans["axial"]
        cases.append(ReferenceCase(name, series, axial, scans["coronal"][1], settings))
    if not cases:
        wanted = f"an axial and a coronal scan of one of {', '.join(names)}"
        raise InputError(data, expected=wanted, found="none")
    return cases


def _cost_beside(path: Path) -> dict[str, float]:
    """``seconds`` and ``cpu_seconds`` from ``CASE.json`` beside ``CASE.nii.gz``, as far as they are there."""
    from mrisr.io import stem

    beside = path.with_name(stem(path) + ".json")
    try:
        content = json.loads(beside.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(
            beside, expected="the cost of a volume as JSON", found=str(error)
        ) from error
    cost = (
        {k: content.get(k) for k in ("seconds", "cpu_seconds")} if isinstance(content, dict) else {}
    )
    return {k: float(v) for k, v in cost.items() if isinstance(v, (int, float))}
