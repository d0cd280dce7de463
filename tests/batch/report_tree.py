"""The folder of a batch as its stages leave it, written by hand: the phantom, and no model."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mrisr.batch.names import Stage
from mrisr.batch.parts import Part, State
from mrisr.batch.report.subject import write_subject_page
from mrisr.batch.status import Status, read_status, write_status
from mrisr.core import geometry
from mrisr.core.volume import Volume
from mrisr.data.phantom import label_volume, phantom
from mrisr.io import write_json, write_volume
from mrisr.zones.score import zone_volumes_ml

SHAPE, SPACING = (64, 60, 12), (1.0, 1.0, 3.0)
#: Upsampled volume -> job, what the record calls its factor, factor, factors along the axes.
UPSAMPLED: dict[str, tuple[str, str, float, tuple[float, float, float]]] = {
    "throughplane": ("throughplane", "factor", 3.0, (1, 1, 3)),
    "inplane-x2": ("inplane", "scale", 2.0, (2, 2, 1)),
}
SHA = "5a" * 32
DICE = {
    "source": {"PZ": 0.7512, "TZ": 0.8523},
    "throughplane": {"PZ": 0.7934, "TZ": 0.8501},
    "inplane-x2": {"PZ": 0.7599, "TZ": None},
}


def add_part(
    folder: Path, stage: Stage, state: State = "done", name: str = "", **more: Any
) -> None:
    """Add a part to ``status.json``, in the place of an earlier one of its stage and name."""
    made = Part(stage, name or stage, key="7e" * 32, inputs={"axial": SHA}, state=state, **more)
    parts = {part.id: part for part in read_status(folder).parts} | {made.id: made}
    write_status(folder, Status("", tuple(parts.values())))


def record_of(job: str, parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What stands in the record of a volume, as far as the pages read it."""
    return {
        "format": 1,
        "mrisr": "0.1.0",
        "job": job,
        "model": {"name": f"partdiff-{job}", "method": "diffusion", "sha256": "c0" * 32},
        "parameters": {**parameters, "steps": 1, "consistency": 1.0, "seed": 0, "tile": None},
        "input": {"sha256": SHA, "spacing_mm": [1.0, 1.0, 3.0], "plane": "axial"},
        "output": {"shape": [64, 60, 36], "spacing_mm": [1.0, 1.0, 1.0]},
        "residual": {"rms": 0.1, "max": 2.0, "intensity_range": 400.0, "rms_of_range": 0.00032},
        "seconds": 12.25,
        "peak_memory_gib": {"process": 0.81},
        "notes": [],
        **more,
    }


def add_scores(folder: Path, dice: dict[str, dict[str, float | None]]) -> None:
    """Add the scores of volumes."""
    sizes = {"volume_ml": 20.5, "reference_ml": 22.0, "volume_bias_ml": -1.5}
    for volume, zones in dice.items():
        scores = {}
        for zone, value in zones.items():
            distances = {"hd95_mm": value and 4.25, "asd_mm": value and 1.125}
            scores[zone] = {"dice": value, **distances, **sizes}
        add_part(folder, "score", name=volume, scores=scores, seconds=0.5)


@cache
def scanned(seed: int) -> tuple[Volume, Volume]:
    """An axial stack and its labels."""
    axial = phantom(SHAPE, spacing=SPACING, seed=seed, obliquity=8)
    return axial, label_volume(axial.shape, axial.affine, seed)


def repeated(volume: Volume, factors: tuple[float, float, float], more: int = 0) -> Volume:
    """A volume on a finer grid by its nearest voxels, so much brighter."""
    shape, affine = geometry.resampled_grid(volume.shape, volume.affine, factors)
    index = [(np.arange(n) // f).astype(int) for n, f in zip(shape, factors, strict=True)]
    return volume.with_array(
        (volume.array[np.ix_(*index)] + more).astype(volume.array.dtype), affine
    )


def write_study(folder: Path, seed: int = 0, *, labels: bool = True, zones: bool = True) -> Path:
    """A study that went through: measured, two upsampled volumes, zones of all three."""
    for room in ("source", "upsampled", "zones"):
        (folder / room).mkdir(parents=True, exist_ok=True)
    axial, reference = scanned(seed)
    write_volume(axial, folder / "source" / "axial.nii.gz")
    for name, (job, key, factor, factors) in UPSAMPLED.items():
        write_volume(repeated(axial, factors, 7), folder / "upsampled" / f"{name}.nii.gz")
        write_json(folder / "upsampled" / f"{name}.json", record_of(job, {key: factor}))
    if labels:
        write_volume(reference, folder / "source" / "labels.nii.gz")
        add_scores(folder, DICE)
    grids = {"source": (1.0, 1.0, 1.0), **{name: told[3] for name, told in UPSAMPLED.items()}}
    for name, factors in grids.items() if zones else ():
        labelled = repeated(reference, factors)
        write_volume(labelled, folder / "zones" / f"{name}.nii.gz")
        record = {"model": {"name": "zones"}, "volumes_ml": zone_volumes_ml(labelled), "notes": []}
        write_json(folder / "zones" / f"{name}.json", record)
    if zones:
        add_part(folder, "segment", seconds=2.5)
    add_part(folder, "convert", seconds=0.5)
    add_part(folder, "upsample", seconds=25.0, peak_memory_gib={"process": 0.75})
    return folder


def write_failed(folder: Path, reason: str, stage: Stage = "convert") -> Path:
    """A study that stopped at a stage."""
    add_part(folder, stage, "failed", "axial", reason=reason, seconds=2.5)
    return folder


def outcome_of(out: Path) -> dict[str, Status]:
    """The outcome of the studies in a folder, by their status."""
    folders = sorted(path.parent for path in out.rglob("status.json"))
    return {folder.relative_to(out).as_posix(): read_status(folder) for folder in folders}


def write_batch(out: Path) -> Path:
    """Three studies with their pages: one with labels, one in a session without, one that failed."""
    write_study(out / "sub-01")
    write_study(out / "sub-02" / "ses-b", 1, labels=False)
    write_failed(out / "sub-03", "axial: expected 5000 bytes of voxels, found 1000")
    for folder in ("sub-01", "sub-02/ses-b", "sub-03"):
        write_subject_page(out / folder)
    settings = {"upsampled": {"throughplane": {"job": "throughplane", "factor": 3.0}}}
    models = {"throughplane": {"name": "partdiff-throughplane", "sha256": "c0" * 32}}
    write_json(out / "batch.json", {"mrisr": "0.1.0", "settings": settings, "models": models})
    return out
