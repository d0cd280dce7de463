"""The folder of a batch as its stages leave it, written by hand: the phantom, and no model."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mrisr.core import geometry
from mrisr.core.volume import Volume
from mrisr.data.phantom import label_volume, phantom
from mrisr.io import write_json, write_volume

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


def write_status(folder: Path, stage: str, state: str = "done", **more: Any) -> None:
    """``status/<stage>.json``."""
    content = {
        "stage": stage,
        "state": state,
        "key": "7e" * 32,
        "reason": "",
        "seconds": 2.5,
        "peak_memory_gib": {"process": 0.75},
        "inputs": {"axial": SHA},
        "outputs": {},
        "parameters": {},
        "model": {},
        "finished": "2026-03-04T05:06:07+00:00",
        "attempts": 1,
    }
    (folder / "status").mkdir(parents=True, exist_ok=True)
    write_json(folder / "status" / f"{stage}.json", content | {"state": state} | more)


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


def scores_of(dice: dict[str, dict[str, float | None]]) -> dict[str, Any]:
    """The content of ``scores.json``."""
    volumes = {
        volume: {
            zone: {
                "dice": value,
                "hd95_mm": None if value is None else 4.25,
                "asd_mm": None if value is None else 1.125,
                "volume_ml": 20.5,
                "reference_ml": 22.0,
                "volume_bias_ml": -1.5,
            }
            for zone, value in zones.items()
        }
        for volume, zones in dice.items()
    }
    return {"reference": "labels", "volumes": volumes}


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
        write_json(folder / "scores.json", scores_of(DICE))
        write_status(folder, "score")
    if zones:
        for name, factors in {
            "source": (1, 1, 1),
            **{n: u[3] for n, u in UPSAMPLED.items()},
        }.items():
            write_volume(repeated(reference, factors), folder / "zones" / f"{name}.nii.gz")
            record = {"model": {"name": "zones", "sha256": "b1" * 32}, "notes": []}
            write_json(folder / "zones" / f"{name}.json", record)
        write_status(folder, "segment")
    write_status(folder, "convert", seconds=0.5)
    write_status(folder, "upsample", seconds=25.0)
    return folder


def write_failed(folder: Path, reason: str, stage: str = "convert") -> Path:
    """A study that stopped at a stage."""
    write_status(folder, stage, "failed", reason=reason)
    return folder


def write_batch(out: Path) -> Path:
    """Three studies: one with labels, one in a session without, one that failed."""
    write_study(out / "sub-01")
    write_study(out / "sub-02" / "ses-b", 1, labels=False)
    write_failed(out / "sub-03", "axial: expected 5000 bytes of voxels, found 1000")
    settings = {"upsampled": {"throughplane": {"job": "throughplane", "factor": 3.0}}}
    models = {"throughplane": {"name": "partdiff-throughplane", "sha256": "c0" * 32}}
    write_json(out / "batch.json", {"mrisr": "0.1.0", "settings": settings, "models": models})
    return out


def write_many(out: Path, count: int, page: bytes) -> Path:
    """Studies that hold nothing but the small files, every tenth failed; ``page`` is the page of each."""
    random = np.random.default_rng(0)
    record = record_of("throughplane", {"factor": 3.0})
    for number in range(count):
        folder = out / f"sub-{number:04d}"
        (folder / "upsampled").mkdir(parents=True)
        if number % 10 == 9:
            write_failed(folder, f"axial: expected 5000 bytes of voxels, found {number}")
            continue
        shifts = random.normal(0, 0.05, 2)
        dice = {
            volume: {
                z: float(np.clip(v + shifts[i], 0, 1))
                for i, (z, v) in enumerate(zones.items())
                if v
            }
            for volume, zones in DICE.items()
            if volume != "inplane-x2"
        }
        (folder / "upsampled" / "throughplane.nii.gz").touch()
        write_plainly(folder / "upsampled" / "throughplane.json", record)
        write_plainly(folder / "scores.json", scores_of(dice))
        write_plainly(folder / "report.html", page)
        for stage in ("convert", "upsample", "segment", "score"):
            status = {
                "stage": stage,
                "state": "done",
                "seconds": float(random.lognormal()),
                "peak_memory_gib": 1.0,
            }
            write_plainly(folder / "status" / f"{stage}.json", status)
    return out


def write_plainly(path: Path, content: Any) -> None:
    """Without waiting for the disk, which a thousand studies would be slow to do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
