"""Settings of an evaluation: what is degraded and how, what is scored, and the methods that are compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mrisr.config import Job, Kind, Plane, Positive, Settings
from mrisr.core.options import (
    KINDS_OF,
    STRONGEST,
    OptionError,
    Sampling,
    Segmenting,
    current_names,
    option,
)
from mrisr.evaluation.case import Scale


@dataclass(frozen=True, kw_only=True)
class MethodEntry(Sampling):
    """A row of the comparison: a model and how it is sampled, or volumes that were made elsewhere.

    ``model`` left out is the file's model; options left out are the model's own.
    """

    name: str = option(MISSING, "Name in the tables.")
    volumes: str | None = option(
        None, "Path of each patient's volume, with {case}; only for `scoring: reference`."
    )
    planes: tuple[str, ...] = option(
        (),
        "Further planes of the patient to join; only through the plane, against another scan or zones.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.volumes is not None and (self.model, self.method) != (None, None):
            raise OptionError(f"{self.name}: give a model or volumes, not both")
        if self.degradation is not None:
            raise OptionError(f"{self.name}: the degradation is stated once, as `kind`")
        if self.volumes is not None and self.planes:
            raise OptionError(
                f"{self.name}: planes are joined by a model, volumes are taken as they are"
            )
        if not set(self.planes) <= {"coronal", "sagittal"}:
            raise OptionError(
                f"{self.name}: planes: the axial one is joined with coronal and sagittal"
            )


def _current(entry: Any) -> Any:
    """An entry of a file with today's names of its options."""
    return current_names(MethodEntry, entry) if isinstance(entry, Mapping) else entry


def _segmenting(value: Any) -> Any:
    """The options of segmenting; a name alone is that of a model."""
    return {"model": value} if value is None or isinstance(value, str) else value


class ComparisonSettings(Settings, ABC):
    """Settings of every comparison of methods: patients, degradation, methods.

    Attributes:
        cases: patients to score; left empty, those that no model of the comparison has been trained on.
        kind: of the degradation.
        thickness: slice thickness over slice spacing, through-plane.
        noise: level of the Rician noise that is added to degraded images, a share of the intensity range.
            The methods are told of it; of a scan as it was measured it is estimated, as in use.
        model: for the methods that name none; ``--model`` takes its place.
        pictures: names of the methods that the report shows.
    """

    job: Job
    cases: tuple[str, ...] = ()
    kind: Kind
    thickness: Positive = 1.0
    noise: Annotated[float, Field(ge=0, le=STRONGEST)] = 0.0
    model: str | None = None
    methods: Annotated[
        tuple[Annotated[MethodEntry, BeforeValidator(_current)], ...], Field(min_length=1)
    ]
    pictures: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _methods_fit(self) -> ComparisonSettings:
        names = [m.name for m in self.methods]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"methods: {', '.join(twice)}: named twice")
        self.check_named(*self.pictures)
        return self

    @property
    def compared(self) -> tuple[MethodEntry, ...]:
        """All methods that are scored."""
        return self.methods

    @property
    @abstractmethod
    def scales(self) -> list[Scale]:
        """The scales that every case is scored at, in the order of the report."""

    def deciding(self) -> dict[str, Any]:
        """The settings that a single score depends on: neither who else is compared nor on what else."""
        return self.model_dump(mode="json", include={"job", "kind", "thickness", "noise"})

    def check_named(self, *names: str | None) -> None:
        """Raises ValueError where no method has one of these names."""
        missing = [n for n in names if n not in {None, *(m.name for m in self.methods)}]
        if missing:
            raise ValueError(f"{', '.join(map(str, missing))}: no method has this name")

    def check_kind(self) -> None:
        """Raises ValueError for a degradation that is none of the job's."""
        kinds = KINDS_OF[self.job]
        if self.kind not in kinds:
            raise ValueError(f"kind: expected one of {', '.join(kinds)}, found {self.kind}")

    def check_no_volumes(self, reason: str) -> None:
        """Raises ValueError for methods whose volumes were made elsewhere."""
        made = [m.name for m in self.methods if m.volumes is not None]
        if made:
            raise ValueError(f"{', '.join(made)}: {reason}")


class EvaluationSettings(ComparisonSettings):
    """Degrade, restore, score: which patients, which degradation, which methods.

    Attributes:
        scoring: ``degraded`` compares with the slices that were degraded, ``reference`` with another
            scan of the same patient (:mod:`mrisr.evaluation.reference`); ``measured`` restores the scans
            themselves, without a truth: noise, agreement and cost.
        crop: edge of the central square that is scored, in pixels.
        reference: name of the method that the paired test compares with.
        baseline: name of the method that gains are quoted against; an interpolation that is not
            among the methods is added to them.
        rows: neighbouring rows that are averaged before the comparison with another scan.
        views: families of reformatted images that are restored for the comparison with another scan.
        include_trained: score named patients too that a model was trained on; a note says so.
        region: mm about the centre of both scans within which they are registered and compared; null for
            everything that both show.
    """

    scoring: Literal["degraded", "measured", "reference"] = "degraded"
    planes: tuple[Plane, ...] = ()
    factors: Annotated[tuple[Positive, ...], Field(min_length=1)]
    crop: Annotated[int, Field(ge=16)] = 320
    rows: Annotated[int, Field(ge=1)] = 6
    views: Literal["both", "coronal"] = "both"
    region: Positive | None = 70.0
    include_trained: bool = False
    reference: str | None = None
    baseline: str | None = None

    @model_validator(mode="after")
    def _names_fit(self) -> EvaluationSettings:
        self.check_named(self.reference)
        if self.scoring != "reference":
            if not self.planes:
                raise ValueError("planes: name those that are scored")
            self.check_no_volumes("volumes need `scoring: reference`")
        joined = [m.name for m in self.methods if m.planes]
        if joined and (self.scoring, self.job) != ("reference", "throughplane"):
            raise ValueError(
                f"{', '.join(joined)}: planes need `scoring: reference` through the plane"
            )
        held = [m.name for m in self.methods if "coronal" in m.planes]
        if held:
            raise ValueError(f"{', '.join(held)}: planes: the coronal scan is held out")
        if self.scoring != "degraded":
            self.check_kind()
        return self

    @property
    def compared(self) -> tuple[MethodEntry, ...]:
        """All methods, the baseline among them."""
        name = self.baseline_name
        if any(m.name == name for m in self.methods):
            return self.methods
        return (MethodEntry(name=name, model=name), *self.methods)

    @property
    def baseline_name(self) -> str:
        """Name of the method that gains are quoted against; an interpolation unless the file names one."""
        return self.baseline or ("bicubic-sharp" if self.job == "inplane" else "bspline")

    @property
    def scales(self) -> list[Scale]:
        return [Scale(self.scoring, factor) for factor in self.factors]

    def deciding(self) -> dict[str, Any]:
        own = {"rows", "views", "region"} if self.scoring == "reference" else {"crop"}
        return super().deciding() | self.model_dump(mode="json", include=own)


Factors = tuple[Annotated[float, Field(gt=1)], ...]


class ZonesSettings(ComparisonSettings):
    """Degrade, restore, segment, score.

    Attributes:
        cases: patients to score; left empty, all labelled ones that neither the segmenter nor any model of
            the comparison has been trained on.
        factors: the stack is degraded by these, restored, and scored on its own grid.
        measured: the stack itself is taken as coarse by these and restored to a finer grid; its zones are
            brought back to the stack's grid.
        segmenter: name or path of the model that segments, or its options (``model``, ``bundle``, ``nnunet``,
            ``table``, ``margin``); left out, the bundled one.
        include_trained: score patients too that a model was trained on, in tables of their own.
    """

    factors: Factors = ()
    measured: Factors = ()
    segmenter: Annotated[Segmenting, BeforeValidator(_segmenting)] = Segmenting()
    include_trained: bool = False

    @model_validator(mode="after")
    def _fits(self) -> ZonesSettings:
        if not self.factors and not self.measured:
            raise ValueError("factors: name those that stacks are degraded by, or `measured` ones")
        self.check_kind()
        self.check_no_volumes("volumes made elsewhere cannot be scored here")
        joined = [m.name for m in self.methods if m.planes]
        if joined and (self.job != "throughplane" or self.factors):
            raise ValueError(
                f"{', '.join(joined)}: planes need `measured` alone, through the plane"
            )
        return self

    @property
    def scales(self) -> list[Scale]:
        found = [Scale("degraded", f) for f in sorted(self.factors)]
        return found + [Scale("measured", f) for f in sorted(self.measured)]


Share = Annotated[float, Field(gt=0, lt=1)]


class LesionsSettings(ComparisonSettings):
    """Put lesions into slices, degrade, restore, look for them.

    Attributes:
        factors: the slices are degraded by these.
        diameters, contrasts: of the lesions, mm and shares of the signal.
        slices: consecutive slices in the middle of the gland that are used, at most.
        passes: how often the slices are filled with lesions, restored and looked at.
        threshold: contrast from which a dark spot counts, where there should be none.
        scan_noise: add noise of the level that was estimated of the scan, instead of ``noise``.
        seed: of the places and the noise.
        segmenter: finds the zones of patients without labels, as for the zones' experiment.
        include_trained: score named patients too that a model was trained on; a note says so.
    """

    factors: Annotated[Factors, Field(min_length=1)]
    diameters: Annotated[tuple[Positive, ...], Field(min_length=1)] = (3, 5, 8, 12)
    contrasts: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.1, 0.2, 0.4, 0.6)
    slices: Annotated[int, Field(ge=1)] = 10
    passes: Annotated[int, Field(ge=1)] = 6
    threshold: Share = 0.1
    scan_noise: bool = True
    seed: int = 0
    segmenter: Annotated[Segmenting, BeforeValidator(_segmenting)] = Segmenting()
    include_trained: bool = False

    @model_validator(mode="after")
    def _fits(self) -> LesionsSettings:
        self.check_kind()
        self.check_no_volumes("volumes made elsewhere cannot be scored here")
        if self.scan_noise and self.noise:
            raise ValueError("noise: expected a level or `scan_noise: true`, found both")
        return self

    @property
    def shown(self) -> float:
        """Diameter of the lesions in the pictures: a small one, not the smallest where there are several."""
        return sorted(self.diameters)[:2][-1]

    @property
    def scales(self) -> list[Scale]:
        return [Scale("degraded", f) for f in sorted(self.factors)]

    def deciding(self) -> dict[str, Any]:
        own = {"diameters", "contrasts", "slices", "passes", "threshold", "scan_noise", "seed"}
        return super().deciding() | self.model_dump(mode="json", include=own)
