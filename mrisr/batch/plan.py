"""From a manifest to a plan: what is to be made of each study, and what a rerun need not make again.

A part's key, by which a rerun tells whether it is there, is the SHA-256 of everything that decides a result:
the inputs' digests, the model's, the parameters, the version of mrisr, and the keys of what it is made from.
"""

import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

import mrisr
from mrisr.batch.manifest import StackSource, Study
from mrisr.batch.names import (
    HIDDEN,
    LABELS,
    ROLES,
    SCORES,
    SOURCE,
    STACKS,
    VOLUME,
    Stage,
    chunk_file,
    uncertainty_file,
)
from mrisr.batch.settings import BatchSettings, ThreePlaneVolume, job_of
from mrisr.batch.status import Digests, Part, digest_of, settled
from mrisr.core.errors import InputError, OutputError, UsageError
from mrisr.io import input_format, write_bytes, write_json
from mrisr.io.atomic import make_folder
from mrisr.io.files import remove
from mrisr.models.card import INTERPOLATIONS, card_path, model_for

Report = Callable[[str], None]
#: Everything that is to be made of every study of a batch.
PLAN = f"{HIDDEN}/plan.json"
#: What a card says for people only; it may change without another result.
_PROSE = {"figures", "description", "training", "data_licences", "weights_licence"}
_PROSE |= {"intended_use", "limitations"}
#: Raised whenever pages are to be made anew though nothing that they show has changed.
PAGE_FORMAT = 3


@dataclass(frozen=True)
class StudyPlan:
    """The parts that are to be made of a study.

    Attributes:
        folder: its folder within the output, which also is its name.
        sources: role -> where it comes from.
        parts: each after those that it needs.
        todo: ids of the parts that have not been made yet; the page's is among them wherever anything is
            to be made or removed.
    """

    folder: str
    sources: dict[str, StackSource]
    parts: tuple[Part, ...]
    todo: frozenset[str] = frozenset()

    @property
    def stages(self) -> set[Stage]:
        """The stages that have parts."""
        return {part.stage for part in self.parts}

    @property
    def stages_todo(self) -> set[Stage]:
        """The stages that have work to do."""
        return {part.stage for part in self.parts if part.id in self.todo}


@dataclass(frozen=True)
class Plan:
    """A batch before it runs.

    ``batch`` tells this run from others in the same folder; ``studies`` are in the order of the manifest, and
    ``models`` by upsampled volume, or ``"zones"``: name and digest.
    """

    batch: str
    settings: BatchSettings
    studies: tuple[StudyPlan, ...]
    models: dict[str, dict[str, str]] = field(default_factory=dict)

    def count(self, stage: Stage) -> tuple[int, int]:
        """Count the studies that a stage has work to do for, and those that it is planned for at all."""
        todo = sum(stage in study.stages_todo for study in self.studies)
        return todo, sum(stage in study.stages for study in self.studies)


_ADAPTER = TypeAdapter(Plan)


def make_plan(
    studies: Sequence[Study], settings: BatchSettings, out: Path, report: Report = lambda line: None
) -> tuple[Plan, Digests]:
    """Plan a batch, without what lies in its folder already; nothing is written.

    Returns:
        The plan, and the digests of inputs and outputs as far as they were asked for.

    Raises:
        UsageError, InputError: a model is missing, or its card cannot be read.
        OutputError: a study's data lie within the batch's folder.
    """
    _check_apart(studies, out)
    digests = Digests.load(sorted((out / HIDDEN / "digests").glob("*.json")))
    models = models_of(settings, digests)
    report(f"{len(studies)} studies: looking at their files")
    digests.look_at(source.path for study in studies for source in study.sources.values())
    plans = []
    for study in studies:
        parts = tuple(Parts(study, settings, models, digests).made.values())
        kept = {part.id for part in settled(out / study.folder, parts, digests)}
        todo = frozenset({part.id for part in parts} - kept)
        plans.append(StudyPlan(study.folder, study.sources, parts, todo))
    return Plan(uuid.uuid4().hex, settings, tuple(plans), models), digests


def write_plan(plan: Plan, digests: Digests, out: Path, chunk: int) -> list[str]:
    """Write the plan, and the names of so many studies that have work to do into each chunk; their numbers.

    Raises OutputError.
    """
    for folder in ("chunks", "done"):
        remove(out / HIDDEN / folder)
        make_folder(out / HIDDEN / folder)
    digests.save(out / HIDDEN / "digests" / "plan.json")
    write_bytes(out / PLAN, _ADAPTER.dump_json(plan))
    folders = [study.folder for study in plan.studies if study.todo]
    chunks = [folders[i : i + chunk] for i in range(0, len(folders), chunk)]
    width = max(3, len(str(len(chunks))))
    numbers = [f"{number:0{width}d}" for number in range(1, len(chunks) + 1)]
    for number, names in zip(numbers, chunks, strict=True):
        write_json(chunk_file(out, number), names)
    return numbers


def read_plan(out: Path) -> Plan:
    """The last plan of a batch. Raises UsageError where there is none."""
    try:
        return _ADAPTER.validate_json((out / PLAN).read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{out}: expected the folder of a batch, found none") from error


def _check_apart(studies: Sequence[Study], out: Path) -> None:
    """Refuse inputs within the output: results would be taken for inputs."""
    real = Path(os.path.realpath(out))
    if real.exists() and not real.is_dir():
        raise OutputError(f"{out}: expected a folder, found something else there")
    for study in studies:
        for role, source in study.sources.items():
            path = Path(os.path.realpath(source.path))
            if path == real or real in path.parents:
                expected = f"{role} of {study.folder} outside of the output"
                raise InputError(source.path, expected=expected, found=f"it in {out}")


def model_identity(name: str) -> dict[str, str]:
    """Name and digests of a model: of its weights, and of what else its card decides.

    Raises UsageError: there is no such model; InputError: its card cannot be read.
    """
    if name in INTERPOLATIONS:
        return {"name": name, "sha256": ""}
    path = card_path(name)
    try:
        card = json.loads(path.read_bytes())
        deciding = digest_of({key: value for key, value in card.items() if key not in _PROSE})
        return {"name": card["name"], "sha256": card["sha256"], "card_sha256": deciding}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(path, expected="a model card", found=str(error)) from error


def models_of(settings: BatchSettings, digests: Digests) -> dict[str, dict[str, str]]:
    """Upsampled volume, or ``"zones"`` -> its model.

    Raises: as :func:`model_identity`; UsageError for a missing folder.
    """
    models = {
        name: model_identity(u.model or model_for(job_of(u), u.method))
        for name, u in settings.upsampled.items()
    }
    options = settings.segmenting()
    folder = options.bundle or options.nnunet
    if not settings.segmented:
        return models
    if folder is None:
        return models | {"zones": model_identity(options.model or "zones")}
    digest = digests.of(folder)
    if digest is None:
        raise UsageError(f"zones: expected the folder of a model, found none at {folder}")
    table = {} if options.table is None else {"table_sha256": digest_of(options.table)}
    return models | {"zones": {"name": folder.name, "sha256": digest, **table}}


class Parts:
    """The parts of a study by their ids, in ``made``; ``models`` are as :func:`models_of` gives them."""

    def __init__(
        self,
        study: Study,
        settings: BatchSettings,
        models: Mapping[str, dict[str, str]],
        digests: Digests,
    ) -> None:
        self.settings, self.models, self.sources = settings, models, study.sources
        inputs = {role: digests.of(source.path) for role, source in study.sources.items()}
        for role, source in study.sources.items():
            if source.series and inputs[role]:
                inputs[role] = digest_of([inputs[role], source.series])
        self.made: dict[str, Part] = {}
        for role in (r for r in ROLES if r in inputs):
            outputs = (f"source/{role}{VOLUME}",)
            # Labels are brought to the voxels of the axial stack.
            with_axial = role == LABELS and "axial" in inputs
            stacks = {r: inputs[r] for r in (("axial", role) if with_axial else (role,))}
            first = ("convert/axial",) if with_axial else ()
            self._add(Part("convert", role, outputs=outputs, needs=first, inputs=stacks))
        for name, upsampling in settings.upsampled.items():
            if upsampling.of in inputs:
                self._upsample(name)
        for volume in settings.segmented:
            stack = settings.source_of(volume)
            need = f"convert/{stack}" if volume == SOURCE else f"upsample/{volume}"
            if need not in self.made:
                continue
            zones = self._segment(volume, stack, self.made[need])
            if LABELS in inputs and stack == "axial":
                needs, of = (f"convert/{LABELS}", zones.id), {LABELS: inputs[LABELS]}
                self._add(Part("score", volume, needs=needs, inputs=of), of=zones.key)
        page = Part("report", "page", outputs=("report.html", SCORES))
        self._add(page, format=PAGE_FORMAT, parts=sorted(p.key for p in self.made.values()))

    def _add(self, part: Part, **more: Any) -> Part:
        """Keep a part under its key; ``more`` is what decides the result besides its fields."""
        deciding = {
            "mrisr": mrisr.__version__,
            "part": [part.stage, part.name],
            "inputs": part.inputs,
            "parameters": part.parameters,
            "model": part.model,
            "more": more,
        }
        self.made[part.id] = replace(part, key=digest_of(deciding))
        return self.made[part.id]

    def _upsample(self, name: str) -> None:
        options = self.settings.upsampling(name)
        need, dicom = self.made[f"convert/{options.of}"], self._dicom(options.of)
        given = {k: v for k, v in vars(options).items() if v is not None}
        inputs, joined = need.inputs, isinstance(options, ThreePlaneVolume)
        others = [f"convert/{r}" for r in STACKS if r != options.of and joined]
        for other in (self.made[o] for o in others if o in self.made):
            # Not needed: where one cannot be read, the volume is made of the others.
            inputs = inputs | other.inputs
        outputs = _written("upsampled", name, name if dicom else None)
        if options.samples is not None:
            maps = (
                uncertainty_file(name),
                *([uncertainty_file(name, dicom=True)] if dicom else []),
            )
            outputs = (*outputs, *maps)
        part = Part(
            "upsample",
            name,
            outputs=outputs,
            needs=(need.id,),
            inputs=inputs,
            parameters={k: v for k, v in given.items() if k not in ("model", "method")} | dicom,
            model=self.models[name],
        )
        self._add(part)

    def _segment(self, volume: str, stack: str, need: Part) -> Part:
        options, dicom = self.settings.segmenting(), self._dicom(stack)
        part = Part(
            "segment",
            volume,
            outputs=_written("zones", volume, "zones.dcm" if dicom and volume == SOURCE else None),
            needs=(need.id,),
            inputs=need.inputs,
            parameters={"volume": volume, "margin": options.margin, "device": options.device}
            | dicom,
            model=self.models["zones"],
        )
        return self._add(part, of=need.key)

    def _dicom(self, stack: str) -> dict[str, Any]:
        """The settings of results in DICOM; empty for a stack that is none or is missing."""
        try:
            dicom = self.settings.dicom and input_format(self.sources[stack].path) == "dicom"
        except InputError:
            dicom = False
        return {"dicom": True, "deidentify": self.settings.deidentify} if dicom else {}


def _written(folder: str, name: str, dicom: str | None) -> tuple[str, ...]:
    """A volume and its record, and those in DICOM."""
    beside = () if dicom is None else (f"dicom/{dicom}", f"dicom/{dicom.removesuffix('.dcm')}.json")
    return (f"{folder}/{name}{VOLUME}", f"{folder}/{name}.json", *beside)
