"""``mrisr analyze latents``: measure, then write tables and figures into a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mrisr.analysis import latents as of
from mrisr.analysis.latents_figures import latents_figure, latents_picture
from mrisr.analysis.output import csv_bytes
from mrisr.analysis.slices import operator_for, read_slices
from mrisr.config import Job
from mrisr.io.atomic import json_bytes, make_folder, write_together


def analyze_latents(
    data: Path,
    job: Job,
    factor: float,
    output: Path,
    *,
    cases: Sequence[str] = (),
    slices: int = 8,
    threshold: float = 0.01,
    report: Callable[[str], None] = lambda line: None,
) -> str:
    """Write ``latents.csv``, ``.json``, ``.md``, ``.png`` and ``latents_picture.png`` into ``output``.

    Args:
        cases: patients; all of the cache if empty (no model is involved, so none must be held out).
        slices: central slices of each series.
        threshold: on the share of the missing detail; see :func:`mrisr.analysis.latents.suggest`.

    Returns:
        The Markdown text.

    Raises:
        InputError: the cache cannot be read or lacks a patient.
        UsageError: the factor does not suit the images, or the threshold is no share.
        OutputError: the folder cannot be written.
    """
    of.check_threshold(threshold)
    images = read_slices(data, job, cases, slices)
    for part in images:
        operator_for(job, factor, part.images)  # refuses a factor before any work
    make_folder(output)
    found = of.measure_latents(images, job, factor, report=report)
    suggestion = of.suggest(found, threshold)
    text = of.as_markdown(found, suggestion, threshold)
    rows = of.as_rows(found)
    chosen = f" --cases {','.join(cases)}" if cases else ""
    content = {
        "command": f"mrisr analyze latents --data CACHE --job {job} --factor {factor:g} "
        f"--slices {slices} --threshold {threshold:g}{chosen} --output OUT",
        "patients": sorted(found.patients),
        "suggestion": suggestion._asdict(),
        "threshold": threshold,
        "curve": rows,
    }
    write_together(
        {
            output / "latents.csv": csv_bytes(rows),
            output / "latents.json": json_bytes(content),
            output / "latents.md": text.encode(),
            output / "latents.png": latents_figure(found, suggestion, threshold),
            output / "latents_picture.png": latents_picture(found),
        }
    )
    return text
