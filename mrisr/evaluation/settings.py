"""Settings of an evaluation: what is degraded and how, and the methods that are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mrisr.config import Job, Kind, Plane, Positive, Settings, Share, load_settings
from mrisr.diffusion.sampler import Update
from mrisr.physics.rows import Interpolation

#: The interpolation that gains are quoted against, unless the file names another method.
BASELINE: dict[Job, Interpolation] = {"inplane": "bicubic-sharp", "throughplane": "bspline"}


class MethodEntry(Settings):
    """One row of the comparison: a model and how it is sampled, or volumes that were made elsewhere.

    Everything left out is the model's own default; ``model`` left out is the file's model.
    """

    name: str
    #: Name or path of a model, or an interpolation (``bicubic``, ``lanczos``, ``bspline`` ...).
    model: str | None = None
    #: Path of a volume for each patient, with ``{case}`` in the patient's place; only for
    #: ``scoring: reference``.
    volumes: str | None = None
    steps: Annotated[int | None, Field(ge=1, le=1000)] = None
    start: Annotated[float | None, Field(gt=0, lt=1)] = None
    churn: Share | None = None
    update: Update = "corrected"
    consistency: Share | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _one_source(self) -> MethodEntry:
        if self.model is not None and self.volumes is not None:
            raise ValueError(f"{self.name}: give a model or volumes, not both")
        return self

    def sampled(self) -> dict[str, Any]:
        """What is asked of the sampler, as keyword arguments of the engine's options."""
        names = {"steps", "start", "churn", "update", "consistency", "seed"}
        return self.model_dump(include=names)


class ComparisonSettings(Settings):
    """What every comparison of methods states: patients, degradation, methods.

    Attributes:
        cases: patients to score; left empty, those that no model of the comparison has been trained on.
        kind: of the degradation.
        thickness: slice thickness over slice spacing, through-plane.
        model: for the methods that name none.
    """

    job: Job
    cases: tuple[str, ...] = ()
    kind: Kind
    thickness: Positive = 1.0
    model: str | None = None
    methods: Annotated[tuple[MethodEntry, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> ComparisonSettings:
        names = [m.name for m in self.methods]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"methods: {', '.join(twice)}: named twice")
        return self

    @property
    def compared(self) -> tuple[MethodEntry, ...]:
        """All methods that are scored."""
        return self.methods

    def check_named(self, *names: str | None) -> None:
        """Raises ValueError where no method has one of these names."""
        known = {m.name for m in self.methods}
        missing = [n for n in names if n is not None and n not in known]
        if missing:
            raise ValueError(f"{', '.join(missing)}: no method has this name")


class EvaluationSettings(ComparisonSettings):
    """Degrade, restore, score: which patients, which degradation, which methods.

    Attributes:
        scoring: ``degraded`` compares with the slices that were degraded, ``reference`` with another
            scan of the same patient (:mod:`mrisr.evaluation.reference`).
        model: for the methods that name none; ``--model`` takes its place.
        reference: name of the method that the paired test compares with.
        baseline: name of the method that gains are quoted against; an interpolation that is not
            among the methods is added to them.
        pictures: names of the methods that the report shows.
        rows: neighbouring rows that are averaged before the comparison with another scan.
        views: families of reformatted images that are restored for the comparison with another scan.
        region: mm about the centre of both scans within which they are registered and compared; null for
            everything that both show.
    """

    scoring: Literal["degraded", "reference"] = "degraded"
    planes: tuple[Plane, ...] = ()
    factors: Annotated[tuple[Positive, ...], Field(min_length=1)]
    #: Edge of the central square that is scored, in pixels.
    crop: Annotated[int, Field(ge=16)] = 320
    rows: Annotated[int, Field(ge=1)] = 6
    views: Literal["both", "coronal"] = "both"
    region: Positive | None = 70.0
    reference: str | None = None
    baseline: str | None = None
    pictures: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _names_fit(self) -> EvaluationSettings:
        self.check_named(self.reference, *self.pictures)
        if self.scoring == "degraded":
            if not self.planes:
                raise ValueError("planes: name those that are scored")
            made = [m.name for m in self.methods if m.volumes is not None]
            if made:
                raise ValueError(f"{', '.join(made)}: volumes need `scoring: reference`")
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
        """Name of the method that gains are quoted against."""
        return self.baseline or BASELINE[self.job]

    def deciding(self) -> dict[str, Any]:
        """The settings that a single score depends on: neither who else is compared nor on what else."""
        others = {"cases", "planes", "factors", "model", "methods"}
        others |= {"reference", "baseline", "pictures"}
        others |= {"rows", "views", "region"} if self.scoring == "degraded" else set()
        return self.model_dump(mode="json", exclude=others)


def load_evaluation(path: str | Path) -> EvaluationSettings:
    """Read an evaluation file. Raises InputError."""
    return load_settings(path, EvaluationSettings)
