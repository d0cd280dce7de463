"""Slices that an analysis looks at: read from the cache, degraded, and averaged over by patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mrisr.config import Job, Plane
from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import Kind
from mrisr.data import cache, pairs
from mrisr.models.store import Model

Array = NDArray[np.float64]

#: Plane whose slices are degraded, because the truth is known there, and kind of the degradation.
PROTOCOL: dict[Job, tuple[Plane, Kind]] = {
    "inplane": ("axial", "bicubic"),
    "throughplane": ("coronal", "gaussian"),
}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Slices to analyse, and their degradation.

    Attributes:
        factor: of the degradation.
        slices: central slices of each series.
        crop: edge in pixels of the central square of each.
        device: as in :class:`mrisr.core.options.Sampling`.
    """

    factor: float
    slices: int = 8
    crop: int = 320
    device: str = "auto"


class Slices(NamedTuple):
    """Slices ``(n, 1, h, w)`` in -1..1 of one series of one patient."""

    case: str
    series: str
    images: Tensor


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


def read_slices(data: Path, job: Job, cases: Sequence[str], how: Selection) -> list[Slices]:
    """Read the selected slices of each series of ``cases`` (of all patients where that is empty) in the job's
    plane.

    Raises:
        InputError: the cache cannot be read, or one of the cases has no such series.
        UsageError: the slices cannot be degraded by the factor.
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
    for stack, images in pairs.validation_images(chosen, [plane], how.crop):
        first = max(0, (len(images) - how.slices) // 2)
        out.append(Slices(stack.case, stack.series, images[first : first + how.slices]))
        limit = min(images.shape[-2:]) / 8
        if not 1 < how.factor <= limit:
            raise UsageError(
                f"factor: expected above 1 and at most {limit:g}, found {how.factor:g}"
            )
    return out


def drawn_for(job: Job, factor: float) -> pairs.Drawn:
    """The job's degradation: bicubic on both axes in-plane, a Gaussian slice profile along the rows' axis
    through-plane."""
    return pairs.Drawn(PROTOCOL[job][1], factor)


def per_patient(rows: Sequence[tuple[str, Array]]) -> dict[str, Array]:
    """Mean of each patient's series; ``rows`` are (case, figures of one series)."""
    groups: dict[str, list[Array]] = {}
    for case, figures in rows:
        groups.setdefault(case, []).append(figures)
    return {case: np.mean(group, axis=0) for case, group in groups.items()}
