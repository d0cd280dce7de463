"""What a batch makes of each study: the settings behind ``mrisr batch --config``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mrisr.batch.names import NAME, SOURCE, StackName
from mrisr.config import Job, Positive, Settings, Share, load_settings
from mrisr.core.errors import UsageError
from mrisr.core.options import Kind
from mrisr.models.find import INTERPOLATIONS, available, card_path
from mrisr.zones.labels import LabelTable

Scale = Annotated[float, Field(ge=1.5, le=8)]
Name = Annotated[str, Field(pattern=NAME)]


class UpsamplingSettings(Settings):
    """One upsampled volume of a study; see :class:`mrisr.restore.sampling.Options` for the lower half."""

    job: Job
    #: The stack that it is made of; where a study has none of it, neither has the result.
    of: StackName = "axial"
    #: In-plane: the factor along both axes.
    scale: Scale | None = None
    #: Through-plane: slices made of one, or mm between the new ones; with neither, isotropic voxels.
    factor: Scale | None = None
    spacing: Positive | None = None
    slice_thickness: Positive | None = None
    model: str | None = None
    method: str | None = None
    steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    churn: Share | None = None
    update: Literal["corrected", "published"] = "corrected"
    start: Annotated[float, Field(ge=0.003, le=0.9999)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    consistency: Share | None = None
    degradation: Kind | None = None
    tile: Annotated[int, Field(ge=128, le=1 << 16)] | None = None

    @model_validator(mode="after")
    def _one_job(self) -> UpsamplingSettings:
        through = {
            "factor": self.factor,
            "spacing": self.spacing,
            "thickness": self.slice_thickness,
        }
        if self.job == "inplane" and (self.scale is None or any(through.values())):
            raise ValueError(
                "an inplane upsampling has a scale, and no factor, spacing or thickness"
            )
        if self.job == "throughplane" and self.scale is not None:
            raise ValueError("a throughplane upsampling has a factor or a spacing, and no scale")
        if self.factor is not None and self.spacing is not None:
            raise ValueError("factor and spacing exclude each other")
        if self.model is not None and self.method is not None:
            raise ValueError("model and method exclude each other")
        return self


class ZonesSettings(Settings):
    """What segments the zones, and which volumes."""

    #: ``source`` is the measured axial stack, the others are upsampled volumes. Left out: the measured one
    #: and all that are made of it.
    volumes: tuple[Name, ...] | None = None
    model: str | None = None
    #: Folder of a MONAI bundle, or of an nnU-Net's results, in the model's place.
    bundle: Path | None = None
    nnunet: Path | None = None
    #: What its labels stand for, where it does not say: ``{1: TZ, 2: PZ}``.
    table: dict[int, str] | None = None
    #: Share of the width that is left out at each edge of axial slices before the model sees them.
    margin: Annotated[float, Field(ge=0, lt=0.5)] = 0.0

    @model_validator(mode="after")
    def _one_model(self) -> ZonesSettings:
        if sum(m is not None for m in (self.model, self.bundle, self.nnunet)) > 1:
            raise ValueError("model, bundle and nnunet exclude each other")
        if self.table is not None:
            if self.bundle is None and self.nnunet is None:
                raise ValueError("a table is for a bundle or an nnunet")
            try:
                LabelTable.of(self.table)
            except UsageError as error:
                raise ValueError(str(error)) from error
        return self


def _default_upsampled() -> dict[str, UpsamplingSettings]:
    return {
        "throughplane": UpsamplingSettings(job="throughplane"),
        "inplane-x2": UpsamplingSettings(job="inplane", scale=2),
    }


class BatchSettings(Settings):
    """A batch: what is made of every study of the manifest."""

    #: Name of the volume -> how it is made.
    upsampled: dict[Name, UpsamplingSettings] = Field(default_factory=_default_upsampled)
    #: None: nothing is segmented.
    zones: ZonesSettings | None = ZonesSettings()
    #: Where a study comes as DICOM, also write the upsampled series and the zones as DICOM.
    dicom: bool = False
    #: Empty these of the patient by the Basic Profile.
    deidentify: bool = False
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    #: Larger claims of a header are refused.
    max_voxels: Annotated[int, Field(ge=1)] = 2**31

    @field_validator("upsampled")
    @classmethod
    def _names_differ(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = {SOURCE, "zones"} & {name.casefold() for name in value}
        if taken:
            raise ValueError(f"{taken.pop()!r} means something else here; choose another name")
        if len({name.casefold() for name in value}) < len(value):
            raise ValueError("names differ in more than upper and lower case")
        return value

    @model_validator(mode="after")
    def _volumes_exist(self) -> BatchSettings:
        known = (SOURCE, *self.upsampled)
        for name in (self.zones and self.zones.volumes) or ():
            if name not in known:
                raise ValueError(f"zones: expected volumes among {', '.join(known)}, found {name}")
        return self

    @property
    def segmented(self) -> tuple[str, ...]:
        """Volumes whose zones are asked for."""
        if self.zones is None:
            return ()
        if self.zones.volumes is not None:
            return self.zones.volumes
        return (SOURCE, *(name for name, u in self.upsampled.items() if u.of == "axial"))

    def source_of(self, volume: str) -> StackName:
        """The stack that a volume is, or is made of."""
        return "axial" if volume == SOURCE else self.upsampled[volume].of


def load_batch(path: Path | None) -> BatchSettings:
    """The settings of a file, or those that a batch has without one, whatever the working folder is later.

    Raises:
        InputError: the file is missing, or a setting is unknown or out of range.
        UsageError: there is no such model.
    """
    settings = BatchSettings() if path is None else load_settings(path, BatchSettings)
    upsampled = {
        name: u.model_copy(update={"model": _lasting(u.model)})
        for name, u in settings.upsampled.items()
    }
    zones = settings.zones
    if zones is not None:
        zones = zones.model_copy(
            update={
                "model": _lasting(zones.model),
                "bundle": zones.bundle and zones.bundle.absolute(),
                "nnunet": zones.nnunet and zones.nnunet.absolute(),
            }
        )
    return settings.model_copy(update={"upsampled": upsampled, "zones": zones})


def _lasting(model: str | None) -> str | None:
    """A model's name, or its whole path where it was given by one. Raises UsageError."""
    if model is None or model in INTERPOLATIONS:
        return model
    card = card_path(model)
    return model if card == available().get(model) else str(card.absolute())
