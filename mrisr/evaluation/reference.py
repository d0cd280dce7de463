"""The real axial stack upsampled through its planes, against the patient's own coronal scan.

The coronal scan is a reference, not the truth: another acquisition, minutes apart, with thick slices of its
own. Protocol of Zhao et al. 2023 (PartDiff): upsample the axial stack along S-I, average neighbouring
A-P rows over the coronal slice's thickness, compare. docs/explanation/reference-scan.md explains the
registration, the overlap and the fit of intensities.
"""

from __future__ import annotations

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
from mrisr.core.options import KINDS_OF
from mrisr.core.volume import Volume
from mrisr.data.prepare import find_sources
from mrisr.evaluation.agreement import compare, rounded
from mrisr.evaluation.case import Scale, Scored
from mrisr.evaluation.degraded import centre
from mrisr.evaluation.methods import Method
from mrisr.evaluation.overlap import Overlap, find_overlap, overlap_centre, upright
from mrisr.evaluation.registration import Ball, Registration, register_rigid
from mrisr.evaluation.restoring import (
    cut,
    digest_of,
    figures_of,
    measurement_of,
    notes_of,
    restored_by,
)
from mrisr.evaluation.settings import EvaluationSettings
from mrisr.io import read_volume, stem
from mrisr.io.json_file import read_json
from mrisr.physics.measurement import Measurement

#: A-P rows restored beyond those that are compared: for the spline that samples them and, where the sagittal
#: reformats are restored too, for what a network sees around a pixel.
MARGIN = {"coronal": 12, "both": 48}


class Upsampled(NamedTuple):
    """A volume to compare, figures of its cost and its agreement with the measurement, and facts."""

    volume: Volume
    figures: dict[str, float]
    facts: dict[str, Any]


@dataclass(frozen=True, eq=False)
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
    seen: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of voxels and grids of both scans."""
        return digest_of(self.axial, self.coronal)

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

    def score(self, method: Method, scale: Scale) -> Scored:
        """Upsample what of the axial stack is compared, and compare it with the coronal scan.

        Raises:
            InputError: the scans cannot be registered, or a volume made elsewhere cannot be used.
            UsageError: the slice profile is none of the job's.
        """
        overlap = self.overlap
        path = method.volume_path(self.name)
        found = self._restore(method, scale) if path is None else self._read(path)
        compared = compare(overlap, found.volume, self._texture_factor)
        return Scored(
            figures={**found.figures, "evaluations": method.evaluations},
            slices=compared.slices,
            pictures={"result": centre(compared.result), "reference": centre(compared.reference)},
            facts={**self._facts(), **compared.facts, **found.facts},
        )

    @property
    def _texture_factor(self) -> float:
        """Ratio of the axial slices' distance to that of the coronal rows."""
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

    def measurement(self, scale: Scale) -> Measurement:
        """The part of the axial stack that is needed, with the intensity scale of the whole."""
        kinds = KINDS_OF["throughplane"]
        if self.settings.kind not in kinds:
            raise UsageError(
                f"kind: expected one of {', '.join(kinds)}, found {self.settings.kind}"
            )
        low, high = self.overlap.extent(self.axial)
        world = geometry.world_axes(self.axial.affine)
        axis = world.index(1)
        margin = MARGIN[self.settings.views]
        first = max(int(np.floor(low[axis])) - margin, 0)
        last = min(int(np.ceil(high[axis])) + margin + 1, self.axial.shape[axis])
        part = measurement_of(cut(self.axial, axis, first, last), self.settings, scale)
        views = part.views
        if self.settings.views == "coronal":  # whose columns run along L-R
            views = tuple(view for view in (1, 2) if world[part.placed.order[view]] == 0)
        return replace(_rescaled(part, self.axial), views=views)

    def _restore(self, method: Method, scale: Scale) -> Upsampled:
        measurement = self.measurement(scale)
        restored = restored_by(method, measurement)
        images = sum(measurement.y.shape[3 - view] for view in measurement.views)
        facts = {"images": images, **notes_of(restored.notes)}
        return Upsampled(restored.volume, figures_of(restored, method), facts)

    def _read(self, path: Path) -> Upsampled:
        """A volume made elsewhere, in the axial stack's frame; its cost is read from the JSON beside it."""
        cost = _cost_beside(path)
        images = self.axial.shape[geometry.world_axes(self.axial.affine).index(1)]
        seconds = {name: cost.get(name, np.nan) / images for name in ("seconds", "cpu_seconds")}
        return Upsampled(read_volume(path), seconds, {"made_elsewhere": cost} if cost else {})


def _rescaled(part: Measurement, whole: Volume) -> Measurement:
    """The measurement of a part of a volume, scaled as the whole would be."""
    old = part.placed
    offset, scale = scaling(whole.array)
    low, high = ((b + 1) * old.scale / 2 + old.offset for b in part.bounds)
    grid = replace(old, offset=offset, scale=scale)
    bounds = (2 * (low - offset) / scale - 1, 2 * (high - offset) / scale - 1)
    return replace(part, y=grid.stack(old.measured), bounds=bounds, grid=grid)


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
    beside = path.with_name(stem(path) + ".json")
    if not beside.exists():
        return {}
    content = read_json(beside, "the cost of a volume as JSON")
    cost = {k: content.get(k) for k in ("seconds", "cpu_seconds")}
    return {k: float(v) for k, v in cost.items() if isinstance(v, (int, float))}
