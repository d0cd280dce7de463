"""Settings of a batch, behind ``mrisr batch --config``: the volumes and zones it makes of each study."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from mrisr.batch.names import NAME, SOURCE, StackName
from mrisr.config import Settings, load_settings
from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import (
    InPlane,
    Job,
    OptionError,
    Precision,
    Segmenting,
    ThroughPlane,
    current_names,
    declared,
    option,
)
from mrisr.models.card import INTERPOLATIONS, available, card_path
from mrisr.zones.labels import LabelTable

Name = Annotated[str, Field(pattern=NAME)]


@dataclass(frozen=True)
class InPlaneVolume(InPlane):
    """A volume upsampled in-plane, of a stack; where a study has none of it, neither has the result."""

    job: Literal["inplane"] = option("inplane")
    of: StackName = option("axial")


@dataclass(frozen=True)
class ThroughPlaneVolume(ThroughPlane):
    """A volume upsampled through-plane, of a stack; where a study has none of it, neither has the result."""

    job: Literal["throughplane"] = option("throughplane")
    of: StackName = option("axial")


@dataclass(frozen=True)
class ThreePlaneVolume(ThroughPlane):
    """An isotropic volume of all stacks of a study, in the frame of the axial one, which it needs; of a study
    without others, the axial one's own."""

    job: Literal["threeplane"] = option("threeplane")  # type: ignore[assignment]
    of: Literal["axial"] = option("axial")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples is not None:
            raise OptionError(
                "samples: are for one stack (job: throughplane), not for several planes"
            )


@dataclass(frozen=True)
class ZonesOfVolumes(Segmenting):
    """A segmenter, and the volumes whose zones it finds; left out, ``source`` and all that are made of it."""

    volumes: tuple[Name, ...] | None = option(None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.table is not None:
            try:
                LabelTable.given(self.table)
            except (InputError, UsageError) as error:
                raise ValueError(str(error)) from error


def _with_current_names(given: Any) -> Any:
    """An upsampling in which options have the names of today, and a scale is stated where there is one."""
    if not isinstance(given, dict):
        return given
    if given.get("job") == "inplane" and "scale" not in given:
        raise ValueError("an inplane upsampling has a scale")
    return current_names(ThroughPlane, given)


Upsampling = InPlaneVolume | ThroughPlaneVolume | ThreePlaneVolume
_Given = Annotated[
    Annotated[Upsampling, Field(discriminator="job")], BeforeValidator(_with_current_names)
]


def job_of(upsampling: Upsampling) -> Job:
    """The job whose models an upsampling takes."""
    return "inplane" if isinstance(upsampling, InPlane) else "throughplane"


def options_of(upsampling: Upsampling) -> InPlane | ThroughPlane:
    """The options of the job alone."""
    kind = InPlane if isinstance(upsampling, InPlane) else ThroughPlane
    return kind(**{d.name: getattr(upsampling, d.name) for d in declared(kind)})


class BatchSettings(Settings):
    """A batch: what is made of every study of the manifest."""

    #: Name of the volume -> how it is made.
    upsampled: dict[Name, _Given] = Field(
        default_factory=lambda: {  # type: ignore[arg-type]
            "throughplane": ThreePlaneVolume(),
            "inplane-x2": InPlaneVolume(scale=2),
        }
    )
    #: None: nothing is segmented.
    zones: ZonesOfVolumes | None = ZonesOfVolumes()
    #: Where a study comes as DICOM, also write the upsampled series and the zones as DICOM.
    dicom: bool = False
    #: Empty these of the patient by the Basic Profile.
    deidentify: bool = False
    #: Of all volumes that name no other.
    device: str = "auto"
    precision: Precision = "auto"
    #: Larger claims of a header are refused.
    max_voxels: Annotated[int, Field(ge=1)] = 2**31

    @field_validator("upsampled")
    @classmethod
    def _names_differ(cls, value: dict[str, Upsampling]) -> dict[str, Upsampling]:
        taken = {SOURCE, "zones"} & {name.casefold() for name in value}
        if taken:
            raise ValueError(f"{taken.pop()!r} means something else here; choose another name")
        if len({name.casefold() for name in value}) < len(value):
            raise ValueError("names differ in more than upper and lower case")
        return value

    @model_validator(mode="after")
    def _volumes_exist(self) -> "BatchSettings":
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

    def upsampling(self, volume: str) -> Upsampling:
        """The options of a volume, on the batch's device where they name no other."""
        found = self.upsampled[volume]
        precision = self.precision if found.precision == "auto" else found.precision
        return replace(found, device=self._device(found.device), precision=precision)

    def segmenting(self) -> Segmenting:
        """The options of the segmenter, on the batch's device where they name no other."""
        zones = self.zones or ZonesOfVolumes()
        given = {d.name: getattr(zones, d.name) for d in declared(Segmenting)}
        return Segmenting(**given | {"device": self._device(zones.device)})

    def _device(self, device: str) -> str:
        return self.device if device == "auto" else device

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
    upsampled = {n: replace(u, model=_lasting(u.model)) for n, u in settings.upsampled.items()}
    zones = settings.zones
    if zones is not None:
        table = zones.table
        zones = replace(
            zones,
            model=_lasting(zones.model),
            bundle=zones.bundle and zones.bundle.absolute(),
            nnunet=zones.nnunet and zones.nnunet.absolute(),
            table=str(LabelTable.given(table)) if isinstance(table, str) else table,
        )
    return settings.model_copy(update={"upsampled": upsampled, "zones": zones})


def _lasting(model: str | None) -> str | None:
    """A model's name, or its whole path where it was given by one. Raises UsageError."""
    if model is None or model in INTERPOLATIONS:
        return model
    card = card_path(model)
    return model if card == available().get(model) else str(card.absolute())
