"""Slices of the cache: degraded, restored as the product does it, scored, and preferred to each other; and
the files that an analysis writes.

On each slice a restoration is a point in a plane: ``1 - SSIM`` (are structures in their places) against the
spectrum error in dB (is there as much detail of each fineness), both divided by those of interpolation on
the same slice. The reference lies at the origin, interpolation at (1, 1), and of two restorations the one
nearer to the origin is preferred; equal ones share the point. A restoration that is nearer by both measures
is then always preferred. Where the two disagree, as they do between few steps and many, the scale decides:
what interpolation lacks by either measure counts the same. That is a convention, not a finding.
"""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mrisr import metrics
from mrisr.config import Job, Plane
from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import Kind, Sampling
from mrisr.data import cache, pairs
from mrisr.io.atomic import json_bytes, write_together
from mrisr.models.store import Model, load_model
from mrisr.restore import restore

Array = NDArray[np.float64]
Report: TypeAlias = Callable[[str], None]
Row: TypeAlias = Mapping[str, str | float | None]

#: Plane whose slices are degraded, because the truth is known there, and kind of the degradation: bicubic on
#: both axes in-plane, a Gaussian slice profile along the rows' axis through-plane.
PROTOCOL: dict[Job, tuple[Plane, Kind]] = {
    "inplane": ("axial", "bicubic"),
    "throughplane": ("coronal", "gaussian"),
}
#: Figures of a slice, in the order of an array of them: PSNR in dB, SSIM, spectrum error in dB.
FIGURES = ("psnr", "ssim", "spectrum")
#: Distances of interpolation below this count as this: SSIM and spectra have single precision.
_LEAST = 1e-6
#: Colours that remain apart for colour-blind readers (Okabe and Ito).
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#666666"


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


def read_slices(
    data: Path, job: Job, cases: Sequence[str], *, factor: float, count: int, crop: int = 320
) -> list[Slices]:
    """Read the ``count`` central slices of each series of ``cases`` (of all patients where that is empty) in
    the job's plane: of each its central square of ``crop`` pixels.

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
    for stack, images in pairs.validation_images(chosen, [plane], crop):
        first = max(0, (len(images) - count) // 2)
        out.append(Slices(stack.case, stack.series, images[first : first + count]))
        limit = min(images.shape[-2:]) / 8
        if not 1 < factor <= limit:
            raise UsageError(f"factor: expected above 1 and at most {limit:g}, found {factor:g}")
    return out


def interpolation(job: Job) -> Model:
    """The baseline of the comparisons: PyTorch's bicubic in-plane, cubic B-spline through-plane."""
    return load_model("bicubic-sharp" if job == "inplane" else "bspline")


def restored(images: Tensor, job: Job, factor: float, model: Model, sampling: Sampling) -> Tensor:
    """Degrade truths ``(n, 1, h, w)`` in -1..1 and restore them as the product does."""
    measurement = pairs.measurement_of(images, job, pairs.Drawn(PROTOCOL[job][1], factor))
    return pairs.as_images(measurement, restore(measurement, model, sampling).stack)


def unit(images: Tensor) -> Tensor:
    """Images in -1..1 as intensities 0..1, clipped."""
    return ((images + 1) / 2).clamp(0, 1)


def score(result: Tensor, reference: Tensor, job: Job) -> Array:
    """Score images ``(n, 1, h, w)`` in -1..1, one by one: figures ``(3, n)`` of intensities 0..1.

    Through-plane, the spectrum is that along the degraded axis.
    """
    a, b = unit(result), unit(reference)
    dims = (-2, -1) if job == "inplane" else (-2,)
    found = (metrics.psnr(a, b), metrics.ssim(a, b), metrics.spectrum_error(a, b, dims=dims))
    return np.stack([figure.double().numpy() for figure in found])


def distance(ssim: Array, spectrum: Array) -> Array:
    """Distance from the reference of figures ``(settings, slices)``, whose first row is interpolation's."""
    parts = [d / np.maximum(d[:1], _LEAST) for d in (1 - ssim, spectrum)]
    return np.hypot(parts[0], parts[1])


def preferred(distances: Array) -> Array:
    """``(settings, slices)`` of distances to ``(settings, settings)``: the share of slices on which the
    row's setting is preferred to the column's; one half on the diagonal."""
    nearer = distances[:, None] < distances[None]
    equal = distances[:, None] == distances[None]
    return np.asarray((nearer + 0.5 * equal).mean(axis=-1))


def win_rates(shares: Array) -> Array:
    """Mean of each row of :func:`preferred` over the other settings ``(settings,)``: how often a setting is
    preferred to another one drawn at random."""
    return np.asarray((shares.sum(axis=1) - 0.5) / (len(shares) - 1))


def per_patient(rows: Sequence[tuple[str, Array]]) -> dict[str, Array]:
    """Mean of each patient's series; ``rows`` are (case, figures of one series)."""
    groups: dict[str, list[Array]] = {}
    for case, figures in rows:
        groups.setdefault(case, []).append(figures)
    return {case: np.mean(group, axis=0) for case, group in groups.items()}


# --- files ----------------------------------------------------------------------------------------


def number(value: float) -> float | None:
    """Six digits of a number for JSON and CSV; `None` where it is infinite or not a number."""
    return float(f"{float(value):.6g}") if math.isfinite(value) else None


def numbers(names: Iterable[str], values: Iterable[float]) -> dict[str, float | None]:
    """Each number by its name; see :func:`number`."""
    return {name: number(value) for name, value in zip(names, values, strict=True)}


def patients(n: int) -> str:
    """A number of patients in words."""
    return f"{n} patient{'s' * (n != 1)}"


def csv_bytes(rows: Sequence[Row]) -> bytes:
    """Rows with the same keys as CSV with a header; `None` is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, ending with a line break."""
    lines = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    lines.insert(1, "|---" * len(header) + "|")
    return "\n".join(lines) + "\n"


def write_analysis(
    output: Path,
    name: str,
    rows: Sequence[Row],
    content: Mapping[str, object],
    text: str,
    others: Mapping[str, bytes],
) -> None:
    """Write an analysis to ``name.csv``, ``.json`` and ``.md`` of a folder, and ``others`` by their file
    names: all of them or none. Raises OutputError."""
    files = {
        f"{name}.csv": csv_bytes(rows),
        f"{name}.json": json_bytes(content),
        f"{name}.md": text.encode(),
        **others,
    }
    write_together({output / file: data for file, data in files.items()})
