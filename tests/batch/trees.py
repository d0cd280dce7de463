"""Phantom studies for the batch, and what a finished batch of them looks like."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from mrisr.batch.manifest import read_manifest
from mrisr.batch.names import HIDDEN, chunk_file
from mrisr.batch.parts import Part
from mrisr.batch.plan import Plan, make_plan, write_plan
from mrisr.batch.run import run_chunk
from mrisr.batch.settings import BatchSettings
from mrisr.batch.status import read_status
from mrisr.data.phantom import label_volume, phantom
from mrisr.io import write_volume

#: What differs between two runs that give the same result.
VOLATILE = ("batch", "seconds", "peak_memory_gib", "finished", "attempts")
#: Cheap, without a model's weights, and on the CPU wherever the tests run.
SETTINGS: dict[str, Any] = {
    "device": "cpu",
    "upsampled": {
        "throughplane": {"job": "throughplane", "factor": 2, "model": "bicubic"},
        "inplane-x2": {"job": "inplane", "scale": 2, "model": "bicubic"},
    },
    "zones": None,
}


def write_study(
    folder: Path,
    seed: int = 0,
    *,
    labels: bool = True,
    coronal: bool = False,
    shape: tuple[int, int, int] = (12, 12, 4),
    spacing: tuple[float, float, float] = (1.6, 1.6, 4.8),
) -> Path:
    """A patient's folder as ``mrisr manifest`` takes it: ``t2w_ax``, ``t2w_cor`` and ``zones``."""
    folder.mkdir(parents=True, exist_ok=True)
    axial = phantom(shape, spacing=spacing, seed=seed, noise=0.01)
    write_volume(axial, folder / "t2w_ax.nii.gz", force=True)
    if labels:
        zones = label_volume(axial.shape, axial.affine, seed)
        write_volume(zones, folder / "zones.nii.gz", force=True)
    if coronal:
        other = phantom(shape, plane="coronal", spacing=spacing, seed=seed, noise=0.01)
        write_volume(other, folder / "t2w_cor.nii.gz", force=True)
    return folder


def write_rows(path: Path, *rows: dict[str, Any]) -> Path:
    """A manifest of these rows; columns that none of them has are left out."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_studies(folder: Path, *subjects: str, **options: Any) -> Path:
    """Studies below ``folder/data``, and the manifest of them."""
    rows = []
    for i, name in enumerate(subjects):
        study = write_study(folder / "data" / name, i, **{"labels": False, **options})
        row = {"subject": name, "axial": f"data/{name}/t2w_ax.nii.gz"}
        for role, file in (("coronal", "t2w_cor"), ("labels", "zones")):
            if (study / f"{file}.nii.gz").exists():
                row[role] = f"data/{name}/{file}.nii.gz"
        rows.append(row)
    return write_rows(folder / "m.csv", *rows)


def plan_of(
    manifest: Path, out: Path, settings: dict[str, Any] | None = None, chunk: int = 10
) -> Plan:
    """Plan a batch and write the plan."""
    asked = BatchSettings.model_validate(SETTINGS if settings is None else settings)
    plan, digests = make_plan(read_manifest(manifest), asked, out)
    write_plan(plan, digests, out, chunk)
    return plan


def run_all(out: Path) -> list[str]:
    """All chunks of a planned batch in this process; what they say."""
    said: list[str] = []
    for path in sorted(chunk_file(out, "*").parent.glob("*.json")):
        run_chunk(path, said.append)
    return said


def make_all(manifest: Path, out: Path, settings: dict[str, Any] | None = None) -> Plan:
    """Plan a batch and run it in this process."""
    plan = plan_of(manifest, out, settings)
    run_all(out)
    return plan


def parts_of(folder: Path) -> dict[str, Part]:
    """The parts of a study by their ids, as its status has them."""
    return {part.id: part for part in read_status(folder).parts}


def states_of(folder: Path) -> dict[str, str]:
    """The states of a study's parts."""
    return {name: part.state for name, part in parts_of(folder).items()}


def tree(out: Path) -> dict[str, Any]:
    """Path -> content of all that a reader finds in a batch's folder, JSON without what differs from
    run to run. Pages are named only."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        name = path.relative_to(out).as_posix()
        if name.startswith(f"{HIDDEN}/"):
            continue
        if path.suffix == ".json":
            found[name] = comparable(json.loads(path.read_bytes()))
        else:
            found[name] = path.read_bytes() if path.suffix in (".gz", ".dcm") else None
    return found


def comparable(content: Any) -> Any:
    """JSON without times, memory, and digests of files that hold such."""
    if isinstance(content, dict):
        outputs = map(str, content.get("outputs", ()))
        volatile = any(path.endswith((".json", ".html")) for path in outputs)
        left_out = {*VOLATILE, "created", "total_seconds", *(["sha256"] if volatile else [])}
        return {k: comparable(v) for k, v in content.items() if k not in left_out}
    return [comparable(value) for value in content] if isinstance(content, list) else content
