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
from mrisr.batch.settings import BatchSettings, UpsamplingSettings
from mrisr.core.errors import InputError
from mrisr.core.volume import Storage, Volume, VolumeFile
from mrisr.io import input_format, read_file, read_volume
from mrisr.io.nifti_header import writable_storage
from mrisr.io.paths import ending

if TYPE_CHECKING:
    from mrisr.models.store import Model
    from mrisr.restore.sampling import Options
    from mrisr.runs.job import Job
    from mrisr.zones.segmenter import Segmenter


class Models:
    """The models of a batch. Each is loaded when it is first used, and once."""

    def __init__(self, settings: BatchSettings) -> None:
        self.settings = settings
        self._restoring: dict[tuple[str, str | None, str | None], Model] = {}

    def options(self, upsampling: UpsamplingSettings) -> Options:
        """The sampling options of a volume."""
        from mrisr.restore.sampling import OptionFields, Options

        given = {k: v for k, v in upsampling if k in OptionFields.__annotations__}
        return Options(**given, device=self.settings.device, precision=self.settings.precision)

    def restoring(self, upsampling: UpsamplingSettings) -> Model:
        """The model of an upsampling. Raises as :func:`mrisr.restore.volumes.model_of`."""
        from mrisr.restore.volumes import model_of

        key = upsampling.job, upsampling.model, upsampling.method
        if key not in self._restoring:
            self._restoring[key] = model_of(self.options(upsampling), upsampling.job)
        return self._restoring[key]

    @cached_property
    def segmenter(self) -> Segmenter:
        """The model of the zones. Raises as :meth:`mrisr.runs.segment.ZoneOptions.load`."""
        from mrisr.runs.segment import ZoneOptions

        zones = self.settings.zones
        assert zones is not None
        return ZoneOptions(
            zones.model,
            zones.bundle,
            zones.nnunet,
            table=zones.table,
            margin=zones.margin,
            device=self.settings.device,
        ).load()

    def prepare(self) -> None:
        """Load all models, so that no study's time includes it. What fails is left to the studies."""
        with suppress(Exception):
            for upsampling in self.settings.upsampled.values():
                self.restoring(upsampling)
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

    def dicom_job(self, source: StackSource, output: Path, *, segmentation: bool = False) -> Job:
        """A run on files that writes a DICOM object derived from a stack."""
        from mrisr.runs.job import Job

        return Job(
            source.path,
            output,
            format="dicom",
            series=source.series,
            deidentify=self.settings.deidentify,
            max_voxels=self.settings.max_voxels,
            force=True,
            segmentation=segmentation,
        )

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
    storage = writable_storage(volume.storage)
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
