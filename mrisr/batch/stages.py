"""The stages of a batch: each makes one part of one study, and says what it has written.

A stage returns the files (and, of a DICOM series, the folder) of its result, relative to the study's folder,
and facts that later stages need. It raises whatever goes wrong; :mod:`mrisr.batch.driver` deals with that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from mrisr.batch.chunk import Part
from mrisr.batch.names import LABELS, SOURCE, STACKS, Stage
from mrisr.batch.settings import UpsamplingSettings
from mrisr.batch.state import Record
from mrisr.batch.work import Work, kept_facts
from mrisr.core.errors import InputError
from mrisr.core.volume import Volume, VolumeFile
from mrisr.io import input_format, read_file, write_json, write_volume
from mrisr.io.atomic import make_folder
from mrisr.io.leftovers import remove
from mrisr.io.paths import ending

if TYPE_CHECKING:
    from mrisr.models.store import Model
    from mrisr.restore.sampling import Options
    from mrisr.restore.volumes import Restored

SCORES = "scores.json"


class Made(NamedTuple):
    """What a stage has made: paths within the study's folder, and facts."""

    outputs: Sequence[str]
    facts: Mapping[str, Any] = MappingProxyType({})


def convert(work: Work, part: Part) -> Made:
    """Read a stack or the labels, by all the checks of the readers, and write it as NIfTI."""
    role = part.name
    source = work.source(role)
    if role == LABELS:
        read = _read_labels(source.path, work.settings.max_voxels)
    else:
        limit = work.settings.max_voxels
        read = read_file(source.path, series=source.series, max_voxels=limit)
        _check_plane(read.volume, role)
    _check_unchanged(read, source.path, part.inputs[role])
    path = work.path("source", role)
    make_folder(path.parent)
    write_volume(read.volume, path, force=True)
    return Made((f"source/{path.name}",), kept_facts(read))


def upsample(work: Work, part: Part) -> Made:
    """Super-resolve a stack; volume and record, and the derived DICOM series where asked for."""
    from mrisr.runs.job import Job, write_result

    upsampling = work.settings.upsampled[part.name]
    source = work.source(upsampling.of)
    model = work.models.restoring(upsampling)
    read = work.stack(upsampling.of)
    began = time.perf_counter()
    restored = _restored(read.volume, upsampling, work.models.options(upsampling), model)
    path = work.path("upsampled", part.name)
    make_folder(path.parent)
    job = Job(source.path, path, force=True)
    write_result(job, path, upsampling.job, restored, read, began, None)
    outputs = [f"upsampled/{part.name}{end}" for end in (".nii.gz", ".json")]
    if part.parameters.get("dicom"):
        folder = make_folder(work.folder / "dicom") / part.name
        remove(folder)  # of the batch: what made this part necessary may have altered it
        job = work.dicom_job(source, folder)
        target = job.target(part.name)
        write_result(
            job, target, upsampling.job, restored, read, began, job.dicom_source(read.volume)
        )
        outputs += [f"dicom/{part.name}", f"dicom/{part.name}.json"]
    return Made(outputs)


def _restored(
    volume: Volume, upsampling: UpsamplingSettings, options: Options, model: Model
) -> Restored:
    from mrisr.restore.volumes import upsample_in_plane, upsample_through_plane

    if upsampling.scale is not None:
        return upsample_in_plane(volume, upsampling.scale, options, model=model)
    return upsample_through_plane(
        volume,
        options,
        factor=upsampling.factor,
        spacing=upsampling.spacing,
        slice_thickness=upsampling.slice_thickness,
        model=model,
    )


def segment(work: Work, part: Part) -> Made:
    """Label the zones of a volume; labels and record, and DICOM SEG of the measured stack where asked for."""
    from mrisr.runs.job import Job
    from mrisr.runs.segment import write_zones
    from mrisr.runs.zones_record import segment_volume

    segmenter = work.models.segmenter
    volume = work.volume(part.name)
    read = work.stack("axial") if part.name == SOURCE else VolumeFile(volume)
    began = time.perf_counter()
    segmented = segment_volume(volume, segmenter)
    path = work.path("zones", part.name)
    make_folder(path.parent)
    source = work.source(work.settings.source_of(part.name))
    job = Job(source.path, path, force=True, segmentation=True)
    write_zones(job, path, segmented, read, began, None)
    outputs = [f"zones/{part.name}{end}" for end in (".nii.gz", ".json")]
    if part.name == SOURCE and part.parameters.get("dicom"):
        file = make_folder(work.folder / "dicom") / "zones.dcm"
        job = replace(work.dicom_job(source, file), segmentation=True)
        target = job.target("zones")
        write_zones(job, target, segmented, read, began, job.dicom_source(volume))
        outputs += ["dicom/zones.dcm", "dicom/zones.json"]
    return Made(outputs)


def score(work: Work, part: Part) -> Made:
    """Score the zones of a volume against the reference labels, on the measured grid."""
    from mrisr.zones.score import score_zones, to_grid

    reference = work.labels()
    labels = work.labels(part.name)
    if part.name != SOURCE:
        labels = to_grid(labels, reference)
    scores = score_zones(labels, reference)
    return Made((), {"scores": {zone: figures.as_json() for zone, figures in scores.items()}})


def report(work: Work, part: Part) -> Made:
    """Write the page of a study."""
    from mrisr.batch.report.subject import write_subject_page

    page = write_subject_page(work.folder)
    return Made((page.name,))


MAKE: Mapping[Stage, Callable[[Work, Part], Made]] = {
    "convert": convert,
    "upsample": upsample,
    "segment": segment,
    "score": score,
    "report": report,
}


def write_scores(work: Work, records: Mapping[str, Record]) -> str | None:
    """Put the scores of all volumes into one file; its path, or None where there are none."""
    scores = {name: r.facts["scores"] for name, r in records.items() if r.state == "done"}
    path = work.folder / SCORES
    if not scores:
        path.unlink(missing_ok=True)
        return None
    write_json(path, {"reference": LABELS, "volumes": scores})
    return SCORES


def possible_outputs(stage: Stage, name: str) -> tuple[str, ...]:
    """All that a part may have written, whatever the settings were."""
    beside = (f"{name}.nii.gz", f"{name}.json")
    if stage == "convert":
        return (f"source/{name}.nii.gz",)
    if stage == "upsample":
        return (*(f"upsampled/{b}" for b in beside), f"dicom/{name}", f"dicom/{name}.json")
    if stage == "segment":
        dicom = ("dicom/zones.dcm", "dicom/zones.json") if name == SOURCE else ()
        return (*(f"zones/{b}" for b in beside), *dicom)
    return ("report.html",) if stage == "report" else ()


def _read_labels(path: Path, max_voxels: int) -> VolumeFile:
    if input_format(path) == "dicom" and path.is_file():
        from mrisr.dicom.segmentation import read_segmentation

        return read_segmentation(path, max_voxels=max_voxels)
    return read_file(path, max_voxels=max_voxels, allow_constant=True)


def _check_plane(volume: Volume, role: str) -> None:
    """Refuse a stack of thick slices that stands in the column of another plane."""
    if role in STACKS and volume.plane != role and volume.is_stack:
        source = volume.name
        raise InputError(source, expected=f"a stack of {role} slices", found=f"{volume.plane} ones")


def _check_unchanged(read: VolumeFile, path: Path, planned: str | None) -> None:
    """Refuse a file that has been replaced since the batch began: its results would bear another's key."""
    if ending(path) not in (None, ".mhd") and read.sha256 != planned:
        raise InputError(path, expected="the file as it was when the batch began", found="another")
