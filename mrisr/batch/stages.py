"""The stages of a batch: each makes one part of one study, and writes the outputs that its plan names.

A stage returns the part with what later readers need to know of it. It raises whatever goes wrong;
:mod:`mrisr.batch.run` deals with that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from mrisr.batch.names import LABELS, SOURCE, Stage
from mrisr.batch.parts import Part
from mrisr.batch.settings import UpsamplingSettings
from mrisr.batch.work import Work
from mrisr.core.volume import Volume, VolumeFile
from mrisr.io import write_json, write_volume

if TYPE_CHECKING:
    from mrisr.models.store import Model
    from mrisr.restore.sampling import Options
    from mrisr.restore.volumes import Restored

SCORES = "scores.json"


def convert(work: Work, part: Part) -> Part:
    """Read a stack or the labels, by all the checks of the readers, and write it as NIfTI."""
    read = work.measured(part.name)
    path = work.path("source", part.name)
    write_volume(read.volume, path, force=True)
    work.keep(path, read.volume)
    return replace(part, notes=read.notes)


def upsample(work: Work, part: Part) -> Part:
    """Super-resolve a stack; volume and record, and the derived DICOM series where asked for."""
    from mrisr.runs.job import Job, write_result

    upsampling = work.settings.upsampled[part.name]
    source, read = work.source(upsampling.of), work.measured(upsampling.of)
    model = work.models.restoring(upsampling)
    began = time.perf_counter()
    volume = replace(read.volume, name=upsampling.of)
    restored = _restored(volume, upsampling, work.models.options(upsampling), model)
    path = work.path("upsampled", part.name)
    job = Job(source.path, path, force=True)
    write_result(job, path, upsampling.job, restored, read, began, None)
    work.keep(path, restored.volume)
    if part.parameters.get("dicom"):
        job = work.dicom_job(source, work.folder / "dicom" / part.name)
        target = job.target(part.name)
        write_result(
            job, target, upsampling.job, restored, read, began, job.dicom_source(read.volume)
        )
    return part


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


def segment(work: Work, part: Part) -> Part:
    """Label the zones of a volume; labels and record, and DICOM SEG of the measured stack where asked for."""
    from mrisr.runs.job import Job
    from mrisr.runs.segment import write_zones
    from mrisr.runs.zones_record import segment_volume

    if part.name == SOURCE:
        read = work.measured("axial")
        volume = replace(read.volume, name="axial")
    else:
        volume = replace(work.volume(work.path("upsampled", part.name)), name=part.name)
        read = VolumeFile(volume)
    segmenter = work.models.segmenter
    began = time.perf_counter()
    segmented = segment_volume(volume, segmenter)
    path = work.path("zones", part.name)
    source = work.source(work.settings.source_of(part.name))
    job = Job(source.path, path, force=True, segmentation=True)
    write_zones(job, path, segmented, read, began, None)
    work.keep(path, segmented.labels)
    if part.name == SOURCE and part.parameters.get("dicom"):
        job = work.dicom_job(source, work.folder / "dicom" / "zones.dcm", segmentation=True)
        target = job.target("zones")
        write_zones(job, target, segmented, read, began, job.dicom_source(volume))
    return part


def score(work: Work, part: Part) -> Part:
    """Score the zones of a volume against the reference labels, on the measured grid."""
    from mrisr.zones.score import score_zones, to_grid

    reference = replace(work.volume(work.path("source", LABELS), allow_constant=True), name=LABELS)
    found = work.volume(work.path("zones", part.name), allow_constant=True)
    labels = replace(found, name=f"zones of {part.name}")
    if part.name != SOURCE:
        labels = to_grid(labels, reference)
    scores = score_zones(labels, reference)
    return replace(part, scores={zone: figures.as_json() for zone, figures in scores.items()})


def report(work: Work, part: Part) -> Part:
    """Write the scores of all volumes into one file, and the page of the study."""
    from mrisr.batch.report.subject import write_subject_page
    from mrisr.batch.status import read_status

    parts = read_status(work.folder).parts
    volumes = {p.name: p.scores for p in parts if p.stage == "score" and p.state == "done"}
    if volumes:
        write_json(work.folder / SCORES, {"reference": LABELS, "volumes": volumes})
    page = write_subject_page(work.folder, work.volume)
    return replace(part, outputs=(page.name, *([SCORES] if volumes else [])))


MAKE: Mapping[Stage, Callable[[Work, Part], Part]] = {
    "convert": convert,
    "upsample": upsample,
    "segment": segment,
    "score": score,
    "report": report,
}
