"""Which slices an analysis looks at, how they are degraded, and means over patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mrisr.config import DegradationSettings, Job, Plane
from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import Kind
from mrisr.data import cache, pairs
from mrisr.models.store import Model
from mrisr.physics.separable import SeparableOperator

#: Where the truth is known: the plane whose slices are degraded, and the degradation.
PROTOCOL: dict[Job, tuple[Plane, Kind]] = {
    "inplane": ("axial", "bicubic"),
    "throughplane": ("coronal", "gaussian"),
}


class Slices(NamedTuple):
    """Slices ``(n, 1, h, w)`` in -1..1 of one series of one patient."""

    case: str
    series: str
    images: Tensor


class Interval(NamedTuple):
    """Mean over patients with its 95% interval; without one (NaN) for a single patient."""

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    patients: int


def job_of(model: Model) -> Job:
    """The job of a trained model. Raises UsageError for an interpolation, which serves both."""
    if model.card.job is None:
        raise UsageError(f"{model.card.name}: expected a trained model, found an interpolation")
    return model.card.job


def cases_in(data: Path, job: Job, cases: Sequence[str]) -> list[str]:
    """Those of ``cases`` of which the cache has a series in the job's plane. Raises InputError."""
    plane = PROTOCOL[job][0]
    found = {entry["case"] for entry in cache.read_index(data) if entry["plane"] == plane}
    return [case for case in cases if case in found]


def read_slices(
    data: Path, job: Job, cases: Sequence[str], count: int, crop: int = 320
) -> list[Slices]:
    """The ``count`` central slices of each series of ``cases`` (of all patients where that is empty) in
    the job's plane, cut to their central ``crop`` pixels.

    Raises:
        InputError: the cache cannot be read, or one of the cases has no such series.
    """
    plane = PROTOCOL[job][0]
    stacks = cache.read_stacks(data, [plane])
    found = {s.case for s in stacks}
    missing = sorted(set(cases) - found)
    if missing or not stacks:
        wanted = f"{plane} series of {', '.join(missing) or 'any patient'}"
        raise InputError(data, expected=wanted, found=", ".join(sorted(found)) or "none")
    chosen = [s for s in stacks if not cases or s.case in cases]
    out = []
    for stack, images in pairs.validation_images(chosen, [plane], crop):
        first = max(0, (len(images) - count) // 2)
        out.append(Slices(stack.case, stack.series, images[first : first + count]))
    return out


def operator_for(job: Job, factor: float, images: Tensor) -> SeparableOperator:
    """The job's degradation of images ``(..., rows, columns)``: bicubic on both axes in-plane, a Gaussian
    slice profile along the rows' axis through-plane.

    Raises:
        UsageError: the factor is not one by which such images can be degraded.
    """
    rows, columns = images.shape[-2:]
    if not 1 < factor <= min(rows, columns) / 8:
        limit = min(rows, columns) / 8
        raise UsageError(f"factor: expected above 1 and at most {limit:g}, found {factor:g}")
    setting = DegradationSettings(kind=PROTOCOL[job][1], factors=(factor,))
    return pairs.pair_operator(job, pairs.Drawn(setting, factor, 1.0, 0.0), (rows, columns))


def per_patient(
    rows: Sequence[tuple[str, NDArray[np.float64]]],
) -> dict[str, NDArray[np.float64]]:
    """Mean of each patient's series; ``rows`` are (case, figures of one series)."""
    groups: dict[str, list[NDArray[np.float64]]] = {}
    for case, figures in rows:
        groups.setdefault(case, []).append(figures)
    return {case: np.mean(group, axis=0) for case, group in groups.items()}


def over_patients(figures: Mapping[str, NDArray[np.float64]]) -> Interval:
    """Mean and 95% interval (Student's t) over patients, elementwise."""
    from scipy.stats import t

    values = np.stack(list(figures.values()))
    n = len(values)
    mean = values.mean(axis=0)
    if n == 1:
        unknown = np.full_like(mean, np.nan)
        return Interval(mean, unknown, unknown, n)
    half = t.ppf(0.975, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)
