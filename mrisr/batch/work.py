"""Models of a process and volumes of the study that it works on, each loaded once and kept in memory."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrisr.batch.manifest import StackSource
from mrisr.batch.names import LABELS, STACKS, VOLUME
from mrisr.batch.plan import StudyPlan
from mrisr.batch.settings import BatchSettings, Upsampling
from mrisr.core.errors import InputError
from mrisr.core.options import Files
from mrisr.core.volume import Storage, Volume, VolumeFile
from mrisr.io import input_format, read_file, read_volume
from mrisr.io.paths import ending
from mrisr.io.voxels import writable_storage

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
        """The model of an upsampling. Raises as :func:`mrisr.restore.restore.model_of`."""
        from mrisr.restore.restore import model_of

        key = options.job, options.model, options.method
        if key not in self._restoring:
            self._restoring[key] = model_of(options, options.job)
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
    """One study: where its files lie, and its volumes.

    Args:
        out: the batch's folder.
        plan: of the study.
        models: of the process.
    """

    def __init__(self, out: Path, plan: StudyPlan, models: Models) -> None:
        self.folder, self.plan, self.models = out / plan.folder, plan, models
        self.settings = models.settings
        self._read: dict[str, VolumeFile] = {}
        self._kept: dict[Path, Volume] = {}

    def source(self, role: str) -> StackSource:
        """Where a stack or the labels come from."""
        return self.plan.sources[role]

    def path(self, room: str, name: str) -> Path:
        """A volume in one of the study's folders ``source``, ``upsampled`` and ``zones``."""
        return self.folder / room / f"{name}{VOLUME}"

    def measured(self, role: str) -> VolumeFile:
        """A stack or the labels as the manifest's file holds them, by all checks of the readers.

        Raises:
            InputError: it cannot be used, shows another plane than it should, or is not the file of the plan.
        """
        if role not in self._read:
            path, limit = self.source(role).path, self.settings.max_voxels
            if role == LABELS:
                read = _read_labels(path, limit)
            else:
                read = read_file(path, series=self.source(role).series, max_voxels=limit)
                _check_plane(read.volume, role)
            planned = next(p for p in self.plan.parts if p.id == f"convert/{role}")
            _check_unchanged(read, path, planned.inputs[role])
            self._read[role] = read
        return self._read[role]

    def keep(self, path: Path, volume: Volume) -> None:
        """Remember a volume that has been written, as reading it would give it."""
        self._kept[path] = as_written(volume, path)

    def volume(self, path: Path, *, allow_constant: bool = False) -> Volume:
        """A volume of the study. Raises InputError."""
        if path not in self._kept:
            self._kept[path] = read_volume(path, allow_constant=allow_constant)
        return self._kept[path]

    def write(self, made: Result, path: Path) -> None:
        """Write a volume of the study and its record, and keep the volume."""
        from mrisr.runs.outputs import VolumeOutput
        from mrisr.runs.run import write

        write(made, VolumeOutput(path, (), force=True))
        self.keep(path, made.volume)

    def write_dicom(self, made: Result, role: str, path: Path, *, labels: bool = False) -> None:
        """Write a DICOM object that is derived from a stack."""
        from mrisr.runs.run import FileRun, write

        source, settings = self.source(role), self.settings
        files = Files(
            output=path,
            format="dicom",
            series=source.series,
            deidentify=settings.deidentify,
            max_voxels=settings.max_voxels,
            force=True,
        )
        on = FileRun(source.path, files, labels)
        output = on.output(path.stem)
        patient = on.dicom_source(self.measured(role))
        write(made, output, patient, deidentify=settings.deidentify)

    def without_paths(self, text: str) -> str:
        """A message with roles in the place of paths, which may name a patient or a machine."""
        roles = {
            spelt: role
            for role, source in self.plan.sources.items()
            for spelt in _spellings(source.path)
        }
        roles |= {f"{spelt}/": "" for spelt in _spellings(self.folder)}
        for spelt in sorted(roles, key=len, reverse=True):
            text = text.replace(spelt, roles[spelt])
        return text


def as_written(volume: Volume, path: Path) -> Volume:
    """The volume that reading it back from a NIfTI file gives: its stored numbers and a float32 grid."""
    storage = writable_storage(volume.storage, scaled=True)
    found = Storage(
        storage.dtype, float(np.float32(storage.slope)), float(np.float32(storage.intercept))
    )
    array = found.decode(storage.encode(volume.array))
    affine = volume.affine.astype(np.float32).astype(np.float64)
    return Volume(array, affine, found, name=str(path))


def _read_labels(path: Path, max_voxels: int) -> VolumeFile:
    if input_format(path) == "dicom" and path.is_file():
        from mrisr.dicom.segmentation import read_segmentation

        return read_segmentation(path, max_voxels=max_voxels)
    return read_file(path, max_voxels=max_voxels, allow_constant=True)


def _check_plane(volume: Volume, role: str) -> None:
    """Refuse a stack of thick slices that stands in the column of another plane."""
    if role in STACKS and volume.plane != role and volume.is_stack:
        expected = f"a stack of {role} slices"
        raise InputError(volume.name, expected=expected, found=f"{volume.plane} ones")


def _check_unchanged(read: VolumeFile, path: Path, planned: str | None) -> None:
    """Refuse a file that has been replaced since the batch began: its results would bear another's key."""
    if ending(path) not in (None, ".mhd") and read.sha256 != planned:
        raise InputError(path, expected="the file as it was when the batch began", found="another")


def _spellings(path: Path) -> set[str]:
    """A path in the ways that messages spell it."""
    return {str(path), os.path.realpath(path)}
