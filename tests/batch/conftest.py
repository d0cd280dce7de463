"""Phantom studies, a small batch of them that has run, and what a reader finds in its folder."""

import csv
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from mrisr.batch.manifest import read_manifest
from mrisr.batch.names import HIDDEN, Stage, chunk_file
from mrisr.batch.plan import Plan, make_plan, write_plan
from mrisr.batch.report.page import write_subject_page
from mrisr.batch.run import run_chunk
from mrisr.batch.settings import BatchSettings
from mrisr.batch.status import Part, State, Status, read_status, write_status
from mrisr.core import geometry
from mrisr.core.volume import Volume
from mrisr.data.phantom import label_volume, phantom
from mrisr.io import write_json, write_volume
from mrisr.zones.score import zone_volumes_ml

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


class Batch(NamedTuple):
    """Two studies: ``sub-a`` with labels and a coronal stack, ``sub-b/ses-2`` without.

    Attributes:
        folder: that holds ``data``, ``m.csv`` and ``out``.
        settings: of the batch; tests change them.
    """

    folder: Path
    settings: dict[str, Any]

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def plan(self) -> Plan:
        """The plan of another run."""
        return plan_of(self.folder / "m.csv", self.out, self.settings)

    def todo(self) -> set[str]:
        """Study and part of all that another run would make."""
        return {f"{study.folder} {part}" for study in self.plan().studies for part in study.todo}

    def again(self) -> set[str]:
        """Run once more; what was to be made."""
        todo = self.todo()
        run_all(self.out)
        return todo


@pytest.fixture(scope="session")
def zones_model(tiny_models: Path) -> str:
    """A small segmenter of random weights, among the small models."""
    from tests.zones.models import random_zones_model

    return str(random_zones_model(tiny_models, "tiny-zones"))


def settings_of(zones_model: str) -> dict[str, Any]:
    return {
        "device": "cpu",
        "upsampled": {
            "throughplane": {"job": "throughplane", "factor": 2},
            "inplane-x2": {"job": "inplane", "scale": 2},
        },
        "zones": {"model": zones_model},
    }


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path, zones_model: str) -> Path:
    """The folder of a batch that has run, which tests copy."""
    folder = tmp_path_factory.mktemp("finished")
    write_study(folder / "data" / "a", coronal=True)
    write_study(folder / "data" / "b", 1, labels=False)
    axial = "data/{}/t2w_ax.nii.gz".format
    row = {"subject": "a", "axial": axial("a"), "coronal": "data/a/t2w_cor.nii.gz"}
    row["labels"] = "data/a/zones.nii.gz"
    other = {"subject": "b", "session": "2", "axial": axial("b")}
    manifest = write_rows(folder / "m.csv", row, other)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRISR_MODELS", str(tiny_models))
        make_all(manifest, folder / "out", settings_of(zones_model))
    return folder


@pytest.fixture
def batch(tmp_path: Path, finished: Path, models: Path, zones_model: str) -> Batch:
    """A batch that has run."""
    shutil.copytree(finished, tmp_path / "batch")
    return Batch(tmp_path / "batch", settings_of(zones_model))


# --- the folder of a batch as its stages leave it, written by hand: no model ----------------------

#: Volume -> factors along the axes of the measured one.
GRIDS = {"source": (1, 1, 1), "throughplane": (1, 1, 3), "inplane-x2": (2, 2, 1)}
DICE = {
    "source": {"PZ": 0.7512, "TZ": 0.8523},
    "throughplane": {"PZ": 0.7934, "TZ": 0.8501},
    "inplane-x2": {"PZ": 0.7599, "TZ": None},
}
FIGURES = {"hd95_mm": 4.25, "asd_mm": 1.125, "volume_ml": 20.5, "reference_ml": 22.0}
SHA = "5a" * 32


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


@cache
def scanned(seed: int) -> tuple[Volume, Volume]:
    """An axial stack and its labels."""
    axial = phantom((64, 60, 12), spacing=(1.0, 1.0, 3.0), seed=seed, obliquity=8)
    return axial, label_volume(axial.shape, axial.affine, seed)


def repeated(volume: Volume, factors: tuple[float, float, float], more: int = 0) -> Volume:
    """A volume on a finer grid by its nearest voxels, so much brighter."""
    shape, affine = geometry.resampled_grid(volume.shape, volume.affine, factors)
    index = [(np.arange(n) // f).astype(int) for n, f in zip(shape, factors, strict=True)]
    return volume.with_array(
        (volume.array[np.ix_(*index)] + more).astype(volume.array.dtype), affine
    )


def write_made(folder: Path, seed: int = 0, *, labels: bool = True, zones: bool = True) -> Path:
    """A study that went through: measured, two upsampled volumes, zones of all three."""
    for name, content in made_files(seed, labels, zones).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@cache
def made_files(seed: int, labels: bool, zones: bool) -> dict[str, bytes]:
    """The files of such a study, by their paths."""
    with tempfile.TemporaryDirectory() as name:
        folder = make_study(Path(name), seed, labels, zones)
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def make_study(folder: Path, seed: int, labels: bool, zones: bool) -> Path:
    """The files of a study that went through, made."""
    for room in ("source", "upsampled", "zones"):
        (folder / room).mkdir(parents=True, exist_ok=True)
    axial, reference = scanned(seed)
    write_volume(axial, folder / "source" / "axial.nii.gz")
    records = {
        "throughplane": record_of("throughplane", {"factor": 3.0}),
        "inplane-x2": record_of("inplane", {"scale": 2.0}),
    }
    for name, record in records.items():
        write_volume(repeated(axial, GRIDS[name], 7), folder / "upsampled" / f"{name}.nii.gz")
        write_json(folder / "upsampled" / f"{name}.json", record)
    if labels:
        write_volume(reference, folder / "source" / "labels.nii.gz")
    for name, dice in DICE.items() if labels else ():
        scores = {z: {**FIGURES, "volume_bias_ml": -1.5, "dice": d} for z, d in dice.items()}
        add_part(folder, "score", name=name, scores=scores, seconds=0.5)
    for name, factors in GRIDS.items() if zones else ():
        labelled = repeated(reference, factors)
        write_volume(labelled, folder / "zones" / f"{name}.nii.gz")
        sizes = {"model": {"name": "zones"}, "volumes_ml": zone_volumes_ml(labelled), "notes": []}
        write_json(folder / "zones" / f"{name}.json", sizes)
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
    write_made(out / "sub-01")
    write_made(out / "sub-02" / "ses-b", 1, labels=False)
    write_failed(out / "sub-03", "axial: expected 5000 bytes of voxels, found 1000")
    for folder in ("sub-01", "sub-02/ses-b", "sub-03"):
        write_subject_page(out / folder)
    settings = {"upsampled": {"throughplane": {"job": "throughplane", "factor": 3.0}}}
    models = {"throughplane": {"name": "partdiff-throughplane", "sha256": "c0" * 32}}
    write_json(out / "batch.json", {"mrisr": "0.1.0", "settings": settings, "models": models})
    return out
