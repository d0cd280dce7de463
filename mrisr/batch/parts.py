"""What is to be made of a study, and the keys by which a rerun tells what it has already.

A key is the SHA-256 of everything that decides a result: the inputs' digests, the model's, the parameters,
the version of mrisr, and the keys of the results it is made from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import mrisr
from mrisr.batch.chunk import Part, StudyPlan
from mrisr.batch.digest import Digests, digest_of
from mrisr.batch.manifest import StackSource, Study
from mrisr.batch.names import LABELS, ROLES, SOURCE, Stage
from mrisr.batch.settings import BatchSettings
from mrisr.core.errors import InputError, UsageError
from mrisr.io import input_format
from mrisr.models.find import INTERPOLATIONS, card_path, model_for

#: What a card says for people only; it may change without another result.
_PROSE = (
    "figures",
    "description",
    "training",
    "data_licences",
    "weights_licence",
    "intended_use",
    "limitations",
)
#: Raised whenever pages are to be made anew though nothing that they show has changed.
PAGE_FORMAT = 1


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
        deciding = {key: value for key, value in card.items() if key not in _PROSE}
        return {
            "name": card["name"],
            "sha256": card["sha256"],
            "card_sha256": digest_of(deciding),
        }
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(path, expected="a model card", found=str(error)) from error


class Planner:
    """Makes the plan of each study of a batch.

    Args:
        settings: of the batch.
        digests: of the inputs; those not known yet are taken as they are asked for.
    """

    def __init__(self, settings: BatchSettings, digests: Digests) -> None:
        self.settings, self.digests = settings, digests

    @cached_property
    def models(self) -> dict[str, dict[str, str]]:
        """Upsampled volume -> its model. Raises as :func:`model_identity`."""
        return {
            name: model_identity(u.model or model_for(u.job, u.method))
            for name, u in self.settings.upsampled.items()
        }

    @cached_property
    def segmenter(self) -> dict[str, str]:
        """The model of the zones. Raises as :func:`model_identity`; UsageError for a missing folder."""
        zones = self.settings.zones
        assert zones is not None
        folder = zones.bundle or zones.nnunet
        if folder is None:
            return model_identity(zones.model or "zones")
        digest = self.digests.of(folder)
        if digest is None:
            raise UsageError(f"zones: expected the folder of a model, found none at {folder}")
        table = {} if zones.table is None else {"table_sha256": digest_of(zones.table)}
        return {"name": folder.name, "sha256": digest, **table}

    def all_models(self) -> dict[str, dict[str, str]]:
        """The models of the batch, by what they make. Raises as :func:`model_identity`."""
        return self.models | ({"zones": self.segmenter} if self.settings.segmented else {})

    def plan(self, study: Study) -> StudyPlan:
        """Everything that is to be made of a study, with its keys."""
        inputs = {role: self._digest(source) for role, source in study.sources.items()}
        parts = self._converted(inputs)
        parts += self._upsampled(study, inputs)
        parts += self._segmented(study, {f"{p.stage}/{p.name}": p for p in parts})
        parts += self._scored(inputs, parts)
        page = {"format": PAGE_FORMAT, "parts": sorted(p.key for p in parts)}
        parts.append(_part("report", "page", key=page))
        return StudyPlan(study.folder, study.sources, tuple(parts))

    def _digest(self, source: StackSource) -> str | None:
        digest = self.digests.of(source.path)
        return digest and digest_of([digest, source.series]) if source.series else digest

    def _converted(self, inputs: Mapping[str, str | None]) -> list[Part]:
        roles = [role for role in ROLES if role in inputs]
        return [_part("convert", role, inputs={role: inputs[role]}) for role in roles]

    def _upsampled(self, study: Study, inputs: Mapping[str, str | None]) -> list[Part]:
        parts = []
        for name, upsampling in self.settings.upsampled.items():
            if upsampling.of in inputs:
                parameters = upsampling.model_dump(
                    mode="json", exclude_none=True, exclude={"model", "method"}
                )
                parameters |= self._shared(study.sources[upsampling.of])
                part = _part(
                    "upsample",
                    name,
                    inputs={upsampling.of: inputs[upsampling.of]},
                    parameters=parameters,
                    model=self.models[name],
                    needs=(f"convert/{upsampling.of}",),
                )
                parts.append(part)
        return parts

    def _segmented(self, study: Study, made: Mapping[str, Part]) -> list[Part]:
        parts = []
        margin = self.settings.zones.margin if self.settings.zones is not None else 0.0
        for volume in self.settings.segmented:
            stack = self.settings.source_of(volume)
            need = f"convert/{stack}" if volume == SOURCE else f"upsample/{volume}"
            if need in made:
                part = _part(
                    "segment",
                    volume,
                    inputs=made[need].inputs,
                    parameters={
                        "volume": volume,
                        "margin": margin,
                        **self._shared(study.sources[stack]),
                    },
                    model=self.segmenter,
                    needs=(need,),
                    key={"of": made[need].key},
                )
                parts.append(part)
        return parts

    def _scored(self, inputs: Mapping[str, str | None], made: list[Part]) -> list[Part]:
        if LABELS not in inputs:
            return []
        return [
            _part(
                "score",
                part.name,
                inputs={LABELS: inputs[LABELS]},
                needs=(f"convert/{LABELS}", f"segment/{part.name}"),
                key={"of": part.key},
            )
            for part in made
            if part.stage == "segment" and self.settings.source_of(part.name) == "axial"
        ]

    def _shared(self, source: StackSource) -> dict[str, Any]:
        """The settings that all results of a stack depend on."""
        settings = self.settings
        shared: dict[str, Any] = {"device": settings.device, "precision": settings.precision}
        if settings.dicom and is_dicom(source.path):
            shared |= {"dicom": True, "deidentify": settings.deidentify}
        return shared


def is_dicom(path: Path) -> bool:
    """Whether a source is DICOM, by its name; one that is missing is not."""
    try:
        return input_format(path) == "dicom"
    except InputError:
        return False


def _part(
    stage: Stage,
    name: str,
    *,
    inputs: Mapping[str, str | None] | None = None,
    parameters: Mapping[str, Any] | None = None,
    model: dict[str, str] | None = None,
    needs: tuple[str, ...] = (),
    key: Mapping[str, Any] | None = None,
) -> Part:
    """A part; ``key`` holds what decides the result besides what is stated of it."""
    part = Part(stage, name, "", dict(inputs or {}), dict(parameters or {}), model, needs)
    deciding = {
        "mrisr": mrisr.__version__,
        "part": [stage, name],
        "inputs": part.inputs,
        "parameters": part.parameters,
        "model": model,
        "more": dict(key or {}),
    }
    return replace(part, key=digest_of(deciding))
