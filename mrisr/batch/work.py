"""One study of a batch: its volumes, each loaded once and kept in memory, and the stages that make its parts.

A stage makes one part, and writes the outputs that its plan names. It returns the part with what later
readers need to know of it, and raises whatever goes wrong; :mod:`mrisr.batch.run` deals with that.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrisr.batch.names import LABELS, SCORES, SOURCE, STACKS, VOLUME, uncertainty_file
from mrisr.batch.plan import StudyPlan
from mrisr.batch.settings import BatchSettings, ThreePlaneVolume, Upsampling, job_of, options_of
from mrisr.batch.status import Part, read_status
from mrisr.core.errors import InputError, one_line
from mrisr.core.options import Files, ThroughPlane
from mrisr.core.volume import Storage, Volume, VolumeFile
from mrisr.data.labels import read_labels
from mrisr.io import read_file, read_volume, write_json, write_volume
from mrisr.io.checks import writable_storage
from mrisr.io.paths import ending

if TYPE_CHECKING:
    from mrisr.models.store import Model
    from mrisr.runs.results import Result
    from mrisr.zones.segmenter import Segmenter


class Models:
    """The models of a batch. Each is loaded when it is first used, and once."""

    def __init__(self, settings: BatchSettings) -> None:
        self.settings = settings
        self._restoring: dict[tuple[str, str | None, str | None], Model] = {}

    def restoring(self, options: Upsampling) -> Model:
        """The model of an upsampling. Raises as :func:`mrisr.restore.model_of`."""
        from mrisr.restore import model_of

        key = job_of(options), options.model, options.method
        if key not in self._restoring:
            self._restoring[key] = model_of(options, job_of(options))
        return self._restoring[key]

    @cached_property
    def segmenter(self) -> Segmenter:
        """The model of the zones. Raises as :func:`mrisr.zones.segmenter.load_segmenter`."""
        from mrisr.zones.segmenter import load_segmenter

        return load_segmenter(self.settings.segmenting())

    def prepare(self) -> None:
        """Load all models, so that no study's time includes it. What fails is left to the studies."""
        with suppress(Exception):
            for options in self.settings.upsampled.values():
                self.restoring(options)
        if self.settings.segmented:
            with suppress(Exception):
                self.segmenter  # noqa: B018


class Work:
    """One study below a batch's folder. Its methods by the name of a stage make a part of that stage."""

    def __init__(self, out: Path, plan: StudyPlan, models: Models) -> None:
        self.folder, self.plan, self.models = out / plan.folder, plan, models
        self.settings = models.settings
        self._read: dict[str, VolumeFile] = {}
        self._kept: dict[Path, Volume] = {}

    def convert(self, part: Part) -> Part:
        """Read a stack or the labels, by all the checks of the readers, and write it as NIfTI."""
        read, path = self._measured(part.name), self._path("source", part.name)
        write_volume(read.volume, path, force=True)
        self._kept[path] = as_written(read.volume, path)
        return replace(part, notes=read.notes)

    def upsample(self, part: Part) -> Part:
        """Super-resolve a stack, or all of a study; volume and record, its uncertainty and DICOM where asked
        for."""
        from mrisr.runs.joined import join_planes
        from mrisr.runs.results import upsample

        options = self.settings.upsampling(part.name)
        file, others = _named(self._measured(options.of), options.of), list[VolumeFile]()
        if isinstance(options, ThreePlaneVolume):
            file, others = self._with_others(file)
        alone, model = options_of(options), self.models.restoring(options)
        if others and isinstance(alone, ThroughPlane):
            made = join_planes(file, others, alone, model=model)
        else:
            if isinstance(alone, ThroughPlane):
                alone = replace(alone, register="auto")
            made = upsample(file, alone, model=model)
        told = made.uncertainty is not None
        beside = self.folder / uncertainty_file(part.name) if told else None
        self._write(made, self._path("upsampled", part.name), beside)
        if part.parameters.get("dicom"):
            beside = self.folder / uncertainty_file(part.name, dicom=True) if told else None
            used = [other.volume.name for other in others]
            self._write_dicom(made, options.of, self.folder / "dicom" / part.name, beside, used)
        return part

    def _with_others(self, file: VolumeFile) -> tuple[VolumeFile, list[VolumeFile]]:
        """The axial stack, with a note on each other one of the study that cannot be used; and the others."""
        from mrisr.planes.joint import overlap_centre

        others, notes = [], []
        for role in (r for r in STACKS if r != "axial" and r in self.plan.sources):
            try:
                other = _named(self._measured(role), role)
                overlap_centre([file.volume, other.volume])
            except InputError as error:
                why = self.without_paths(one_line(error))
                notes.append(f"the {role} stack was left out: {why}")
            else:
                others.append(other)
        return replace(file, notes=(*file.notes, *notes)), others

    def segment(self, part: Part) -> Part:
        """Label the zones of a volume; labels and record, and DICOM SEG of the measured stack where asked
        for."""
        from mrisr.runs.results import segment

        if part.name == SOURCE:
            file = _named(self._measured("axial"), "axial")
        else:
            file = _named(VolumeFile(self.volume(self._path("upsampled", part.name))), part.name)
        made = segment(file, segmenter=self.models.segmenter)
        check = (*(made.record.check or ()), *self._disagreements(part.name, made.volume))
        made = replace(made, record=made.record.model_copy(update={"check": check or None}))
        self._write(made, self._path("zones", part.name))
        if part.name == SOURCE and part.parameters.get("dicom"):
            self._write_dicom(made, "axial", self.folder / "dicom" / "zones.dcm", labels=True)
        return replace(part, check=check)

    def _disagreements(self, name: str, labels: Volume) -> tuple[str, ...]:
        """Contradictions to the zones of the measured stack, where those are made already."""
        from mrisr.zones.plausibility import disagreements

        measured = self._path("zones", SOURCE)
        if name == SOURCE or not measured.exists():
            return ()
        found = self.volume(measured, allow_constant=True)
        return disagreements(labels, found)

    def score(self, part: Part) -> Part:
        """Score the zones of a volume against the reference labels, on the measured grid."""
        from mrisr.zones.score import score_zones, to_grid

        labels, reference = (
            self.volume(self._path(room, name), allow_constant=True)
            for room, name in (("zones", part.name), ("source", LABELS))
        )
        reference = replace(reference, name=LABELS)
        labels = replace(labels, name=f"zones of {part.name}")
        if part.name != SOURCE:
            labels = to_grid(labels, reference)
        scores = score_zones(labels, reference)
        return replace(part, scores={zone: figures.as_json() for zone, figures in scores.items()})

    def report(self, part: Part) -> Part:
        """Write the scores of all volumes into one file, and the page of the study."""
        from mrisr.batch.report.page import write_subject_page

        volumes = {p.name: p.scores for p in read_status(self.folder).parts if p.scores}
        if volumes:
            write_json(self.folder / SCORES, {"reference": LABELS, "volumes": volumes})
        page = write_subject_page(self.folder, self.volume)
        return replace(part, outputs=(page.name, *([SCORES] if volumes else [])))

    def volume(self, path: Path, *, allow_constant: bool = False) -> Volume:
        """A volume of the study. Raises InputError."""
        if path not in self._kept:
            self._kept[path] = read_volume(path, allow_constant=allow_constant)
        return self._kept[path]

    def without_paths(self, text: str) -> str:
        """A message with roles in the place of paths, which may name a patient or a machine."""
        roles = {f"{self.folder}/": "", f"{os.path.realpath(self.folder)}/": ""}
        for role, source in self.plan.sources.items():
            roles |= {str(source.path): role, os.path.realpath(source.path): role}
        for spelt in sorted(roles, key=len, reverse=True):
            text = text.replace(spelt, roles[spelt])
        return text

    def _path(self, room: str, name: str) -> Path:
        return self.folder / room / f"{name}{VOLUME}"

    def _measured(self, role: str) -> VolumeFile:
        """A stack or the labels as the manifest's file holds them, by all checks of the readers."""
        if role not in self._read:
            source, limit = self.plan.sources[role], self.settings.max_voxels
            if role == LABELS:
                image = self._measured("axial").volume
                read = read_labels(source.path, image, max_voxels=limit)
            else:
                read = read_file(source.path, series=source.series, max_voxels=limit)
                if read.volume.plane != role and read.volume.is_stack:
                    expected, found = f"a stack of {role} slices", f"{read.volume.plane} ones"
                    raise InputError(read.volume.name, expected=expected, found=found)
            planned = next(p for p in self.plan.parts if p.id == f"convert/{role}").inputs[role]
            if ending(source.path) not in (None, ".mhd") and read.sha256 != planned:
                # Its results would bear another's key.
                expected = "the file as it was when the batch began"
                raise InputError(source.path, expected=expected, found="another")
            self._read[role] = read
        return self._read[role]

    def _write(self, made: Result, path: Path, uncertainty: Path | None = None) -> None:
        from mrisr.runs.outputs import VolumeOutput
        from mrisr.runs.run import write

        write(made, VolumeOutput(path, (), force=True, uncertainty=uncertainty))
        self._kept[path] = as_written(made.volume, path)

    def _write_dicom(
        self,
        made: Result,
        role: str,
        path: Path,
        uncertainty: Path | None = None,
        others: Sequence[str] = (),
        *,
        labels: bool = False,
    ) -> None:
        from mrisr.runs.outputs import FileRun
        from mrisr.runs.run import write

        source, settings = self.plan.sources[role], self.settings
        files = Files(
            output=path,
            uncertainty=uncertainty,
            format="dicom",
            series=source.series,
            deidentify=settings.deidentify,
            max_voxels=settings.max_voxels,
            force=True,
        )
        on = FileRun(source.path, files, labels)
        patient = on.dicom_source(self._measured(role), [self._measured(r) for r in others])
        write(made, on.output(path.stem), patient, deidentify=settings.deidentify)


def as_written(volume: Volume, path: Path) -> Volume:
    """The volume that reading it back from a NIfTI file gives: its stored numbers and a float32 grid."""
    storage = writable_storage(volume.storage, scaled=True)
    slope, intercept = (float(np.float32(v)) for v in (storage.slope, storage.intercept))
    found = Storage(storage.dtype, slope, intercept)
    array = found.decode(storage.encode(volume.array))
    affine = volume.affine.astype(np.float32).astype(np.float64)
    return Volume(array, affine, found, name=str(path))


def _named(file: VolumeFile, name: str) -> VolumeFile:
    """A file whose volume messages call by its role in the study."""
    return replace(file, volume=replace(file.volume, name=name))
