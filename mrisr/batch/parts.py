"""Parts of a study, and the keys by which a rerun tells which of them it has already.

A key is the SHA-256 of everything that decides a result: the inputs' digests, the model's, the parameters,
the version of mrisr, and the keys of the results it is made from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import mrisr
from mrisr.batch.digest import Digests, digest_of
from mrisr.batch.manifest import StackSource, Study
from mrisr.batch.names import LABELS, ROLES, SCORES, SOURCE, VOLUME, Stage
from mrisr.batch.settings import BatchSettings
from mrisr.core.errors import InputError, UsageError
from mrisr.io import input_format
from mrisr.models.card import INTERPOLATIONS, card_path, model_for

State = Literal["unfinished", "done", "failed", "skipped"]
#: What a card says for people only; it may change without another result.
_PROSE = {"figures", "description", "training", "data_licences", "weights_licence"}
_PROSE |= {"intended_use", "limitations"}
#: Raised whenever pages are to be made anew though nothing that they show has changed.
PAGE_FORMAT = 2


@dataclass(frozen=True)
class Part:
    """One thing that is made of a study, and how that ended. A rerun redoes parts.

    Attributes:
        stage: that makes it.
        name: within the stage: the stack, the volume or ``"page"``.
        key: SHA-256 of all that decides the result.
        outputs: files and folders that it writes, within the study's folder.
        needs: ids of the parts whose results it is made from.
        inputs: role -> digest of what the manifest names; `None` where it cannot be read.
        parameters: the settings that it depends on.
        model: name and digest of the model, if there is one.
        state: skipped is what lacks the result of an earlier part.
        reason: why it failed or was skipped, on one line.
        seconds: wall clock.
        peak_memory_gib: of the process (and on CUDA of the device) while it was made, where measurable.
        sha256: digest of the outputs together, see :meth:`mrisr.batch.digest.Digests.of`.
        attempts: how often it was begun in this batch.
        notes: what the reader of a stack decided.
        scores: zone -> figure, of a scored volume.
    """

    stage: Stage
    name: str
    key: str = ""
    outputs: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    inputs: dict[str, str | None] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    model: dict[str, str] | None = None
    state: State = "unfinished"
    reason: str = ""
    seconds: float = 0.0
    peak_memory_gib: dict[str, float] | None = None
    sha256: str | None = None
    attempts: int = 0
    notes: tuple[str, ...] = ()
    scores: dict[str, dict[str, float | None]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Stage and name, which no other part of the study has both."""
        return f"{self.stage}/{self.name}"


def model_identity(name: str) -> dict[str, str]:
    """Name and digests of a model: of its weights, and of what else its card decides.

    Raises:
        UsageError: there is no such model.
        InputError: its card cannot be read.
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
        name: model_identity(u.model or model_for(u.job, u.method))
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
    """The parts of a study, by their ids.

    Args:
        settings, models: of the batch; as :func:`models_of` gives them.
        digests: of the inputs; those not known yet are taken as they are asked for.
    """

    def __init__(
        self,
        study: Study,
        settings: BatchSettings,
        models: Mapping[str, dict[str, str]],
        digests: Digests,
    ) -> None:
        self.settings, self.models, self.sources = settings, models, study.sources
        inputs = {role: _digest(source, digests) for role, source in study.sources.items()}
        self.made: dict[str, Part] = {}
        for role in (r for r in ROLES if r in inputs):
            outputs = (f"source/{role}{VOLUME}",)
            self._add(Part("convert", role, outputs=outputs, inputs={role: inputs[role]}))
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
        part = Part(
            "upsample",
            name,
            outputs=_written("upsampled", name, name if dicom else None),
            needs=(need.id,),
            inputs=need.inputs,
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


def _digest(source: StackSource, digests: Digests) -> str | None:
    digest = digests.of(source.path)
    return digest and digest_of([digest, source.series]) if source.series else digest


def _written(folder: str, name: str, dicom: str | None) -> tuple[str, ...]:
    """A volume and its record, and those in DICOM."""
    beside = () if dicom is None else (f"dicom/{dicom}", f"dicom/{dicom.removesuffix('.dcm')}.json")
    return (f"{folder}/{name}{VOLUME}", f"{folder}/{name}.json", *beside)
