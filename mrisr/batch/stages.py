"""The stages of a batch: each makes one part of one study, and writes the outputs that its plan names.

A stage returns the part with what later readers need to know of it. It raises whatever goes wrong;
:mod:`mrisr.batch.run` deals with that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from mrisr.batch.names import LABELS, SOURCE, Stage
from mrisr.batch.parts import Part
from mrisr.batch.status import read_status
from mrisr.batch.work import Work
from mrisr.core.volume import VolumeFile
from mrisr.io import write_json, write_volume

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
    from mrisr.runs.results import upsample as upsampled

    options = work.settings.upsampling(part.name)
    model = work.models.restoring(options)
    made = upsampled(_named(work.measured(options.of), options.of), options, model=model)
    work.write(made, work.path("upsampled", part.name))
    if part.parameters.get("dicom"):
        work.write_dicom(made, options.of, work.folder / "dicom" / part.name)
    return part


def segment(work: Work, part: Part) -> Part:
    """Label the zones of a volume; labels and record, and DICOM SEG of the measured stack where asked for."""
    from mrisr.runs.results import segment as segmented

    if part.name == SOURCE:
        file = _named(work.measured("axial"), "axial")
    else:
        volume = work.volume(work.path("upsampled", part.name))
        file = _named(VolumeFile(volume), part.name)
    made = segmented(file, segmenter=work.models.segmenter)
    work.write(made, work.path("zones", part.name))
    if part.name == SOURCE and part.parameters.get("dicom"):
        work.write_dicom(made, "axial", work.folder / "dicom" / "zones.dcm", labels=True)
    return part


def _named(file: VolumeFile, name: str) -> VolumeFile:
    """A file whose volume messages call by its role in the study."""
    return replace(file, volume=replace(file.volume, name=name))


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
