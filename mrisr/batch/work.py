"""What the stages work with: the models of the process, and the files of one study."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrisr.batch.chunk import StudyPlan
from mrisr.batch.manifest import StackSource
from mrisr.batch.names import LABELS, SOURCE, VOLUME, StackName, Stage
from mrisr.batch.settings import BatchSettings, UpsamplingSettings
from mrisr.batch.state import read_records
from mrisr.core.volume import Volume, VolumeFile
from mrisr.io import read_volume

if TYPE_CHECKING:
    from mrisr.models.store import Model
    from mrisr.restore.sampling import Options
    from mrisr.runs.job import Job
    from mrisr.zones.segmenter import Segmenter

#: What a volume file does not hold and later stages need: fields of a Volume, kept as facts.
KEPT = ("slice_thickness", "stacked_along")


class Models:
    """The models of a batch. Each is loaded when it is first used, and once."""

    def __init__(self, settings: BatchSettings) -> None:
        self.settings = settings
        self._restoring: dict[tuple[str, str | None, str | None], Model] = {}
        self._prepared: set[Stage] = set()

    def options(self, upsampling: UpsamplingSettings) -> Options:
        """How a volume is restored."""
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

    def prepare(self, stage: Stage) -> None:
        """Load what a stage needs, so that no study has to wait for it. What fails is left to the studies."""
        if stage in self._prepared:
            return
        self._prepared.add(stage)
        with suppress(Exception):
            if stage == "upsample":
                for upsampling in self.settings.upsampled.values():
                    self.restoring(upsampling)
            elif stage == "segment":
                self.segmenter  # noqa: B018


class Work:
    """One study while a stage works on it. Volumes that several parts read are read once.

    Args:
        out: the batch's folder.
        plan: of the study.
        models: of the process.
    """

    def __init__(self, out: Path, plan: StudyPlan, models: Models) -> None:
        self.folder, self.plan, self.models = out / plan.folder, plan, models
        self.settings = models.settings
        self._stacks: dict[str, VolumeFile] = {}

    def source(self, role: str) -> StackSource:
        """Where a stack or the labels come from."""
        return self.plan.sources[role]

    def path(self, room: str, name: str) -> Path:
        """A volume in one of the study's folders ``source``, ``upsampled`` and ``zones``."""
        return self.folder / room / f"{name}{VOLUME}"

    def stack(self, stack: StackName) -> VolumeFile:
        """A measured stack, as the stage ``convert`` has left it."""
        if stack not in self._stacks:
            facts = read_records(self.folder, "convert")[stack].facts
            kept: dict[str, Any] = {key: facts.get(key) for key in KEPT}
            volume = read_volume(self.path("source", stack), max_voxels=self.settings.max_voxels)
            volume = replace(volume, name=stack, **kept)
            notes = tuple(facts.get("notes", ()))
            self._stacks[stack] = VolumeFile(volume, None, facts.get("sha256"), notes)
        return self._stacks[stack]

    def volume(self, name: str) -> Volume:
        """A volume whose zones may be asked for: the measured stack or an upsampled one."""
        if name == SOURCE:
            return self.stack("axial").volume
        volume = read_volume(self.path("upsampled", name))
        return replace(volume, name=name)

    def labels(self, name: str = LABELS) -> Volume:
        """The zones of a volume, or the reference."""
        room = "source" if name == LABELS else "zones"
        volume = read_volume(self.path(room, name), allow_constant=True)
        return replace(volume, name=f"zones of {name}" if room == "zones" else name)

    def dicom_job(self, source: StackSource, output: Path) -> Job:
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


def kept_facts(read: VolumeFile) -> dict[str, Any]:
    """What of a volume is kept beside its file."""
    kept = {key: getattr(read.volume, key) for key in KEPT}
    return {**kept, "sha256": read.sha256, "notes": read.notes}


def _spellings(path: Path) -> set[str]:
    """A path in the ways that messages spell it."""
    return {str(path), os.path.realpath(path)}
