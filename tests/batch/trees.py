"""Phantom studies for the batch, and what a finished batch of them looks like."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from mrisr.batch.chunk import Part
from mrisr.batch.driver import run_chunk
from mrisr.batch.manifest import read_manifest
from mrisr.batch.names import HIDDEN, STAGES, Stage, chunk_file
from mrisr.batch.plan import Plan, make_plan, write_plan
from mrisr.batch.settings import BatchSettings
from mrisr.batch.stages import Made
from mrisr.batch.state import VOLATILE
from mrisr.batch.work import Models, Work
from mrisr.core.volume import Volume
from mrisr.data.phantom import label_volume, phantom
from mrisr.io import write_volume
from mrisr.zones.segmenter import Segmentation

SHAPE, SPACING = (48, 48, 6), (1.6, 1.6, 4.8)
#: Cheap, and on the CPU wherever the tests run.
SETTINGS = {
    "device": "cpu",
    "upsampled": {
        "throughplane": {"job": "throughplane", "factor": 2},
        "inplane-x2": {"job": "inplane", "scale": 2},
    },
}


class PhantomSegmenter:
    """Knows the phantom's zones, and draws the peripheral one a little off to the side."""

    name, sha256, kind, table = "phantom-zones", "0" * 64, "mrisr", None
    margin = 0.0

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @property
    def device(self) -> Any:
        import torch  # which other users of this module need not wait for

        return torch.device("cpu")

    def __call__(self, volume: Volume) -> Segmentation:
        affine = volume.affine.copy()
        affine[0, 3] += 1.5
        labels = label_volume(volume.shape, affine, self.seed)
        return Segmentation(labels.with_array(labels.array, volume.affine))


def write_study(
    folder: Path,
    seed: int = 0,
    *,
    labels: bool = True,
    coronal: bool = False,
    shape: tuple[int, int, int] = SHAPE,
    spacing: tuple[float, float, float] = SPACING,
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


def plan_of(
    manifest: Path, out: Path, settings: dict[str, Any] | None = None, chunk: int = 10
) -> Plan:
    """Plan a batch and write the plan."""
    asked = BatchSettings.model_validate(SETTINGS if settings is None else settings)
    plan = make_plan(read_manifest(manifest), asked, out, chunk=chunk)
    write_plan(plan, out)
    return plan


def run_all(plan: Plan, out: Path, stages: tuple[Stage, ...] = STAGES) -> list[str]:
    """All stages of a planned batch in this process; what they say."""
    said: list[str] = []
    for stage in stages:
        for number in plan.chunks:
            run_chunk(stage, chunk_file(out, number), said.append)
    return said


@contextmanager
def phantom_segmenter(seed: int = 0) -> Iterator[None]:
    """Let the batch segment by :class:`PhantomSegmenter` and need no model."""
    identity = {"name": PhantomSegmenter.name, "sha256": PhantomSegmenter.sha256}
    with (
        mock.patch.object(Models, "segmenter", PhantomSegmenter(seed)),
        mock.patch("mrisr.batch.parts.Planner.segmenter", identity),
    ):
        yield


@contextmanager
def cheap_stages() -> Iterator[list[str]]:
    """Stages that write a word in the place of volumes, and the list of what they have made."""
    made: list[str] = []

    def make(room: str) -> Callable[[Work, Part], Made]:
        def stage(work: Work, part: Part) -> Made:
            made.append(f"{work.plan.folder} {part.stage}/{part.name}")
            if part.stage == "score":
                return Made((), {"scores": {}})
            path = work.folder / room / f"{part.name}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            path.write_text(part.key)
            return Made((f"{room}/{path.name}",))

        return stage

    rooms = {"convert": "source", "upsample": "upsampled", "segment": "zones"}
    stages = {stage: make(rooms.get(stage, "pages")) for stage in STAGES}
    with mock.patch.dict("mrisr.batch.driver.MAKE", stages), phantom_segmenter():
        yield made


def finished_tree(folder: Path) -> Path:
    """``folder/out``: the batch of a study with labels, one with a coronal stack and no labels, and one
    whose axial stack is damaged, made by the models that ``MRISR_MODELS`` gives."""
    data = folder / "data"
    rows = []
    for name, options in {
        "alpha": {"labels": True, "coronal": True},
        "beta": {"labels": False, "coronal": True},
        "gamma": {"labels": True},
    }.items():
        study = write_study(data / name, **options)
        row = {"subject": name, "axial": study / "t2w_ax.nii.gz"}
        for role, file in (("coronal", "t2w_cor"), ("labels", "zones")):
            if (study / f"{file}.nii.gz").exists():
                row[role] = study / f"{file}.nii.gz"
        rows.append(row)
    damaged = data / "gamma" / "t2w_ax.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    manifest, out = write_rows(folder / "manifest.csv", *rows), folder / "out"
    with phantom_segmenter():
        run_all(plan_of(manifest, out), out)
    return out


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
        return {
            key: comparable(value)
            for key, value in content.items()
            if key not in (*VOLATILE, "created") and not key.endswith(("seconds", ".json", ".html"))
        }
    return [comparable(value) for value in content] if isinstance(content, list) else content
