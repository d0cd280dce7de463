"""Settings of the downstream experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from mrisr.config import load_settings
from mrisr.evaluation.settings import ComparisonSettings
from mrisr.restore.volumes import IN_PLANE, THROUGH_PLANE

Scoring = Literal["degraded", "measured"]


class Scale(NamedTuple):
    """One way to take a stack: ``degraded`` by a factor, or as it was ``measured``, being coarse by it."""

    scoring: Scoring
    factor: float

    def __str__(self) -> str:
        return f"x{self.factor:g}" + (" as measured" if self.scoring == "measured" else "")

    @property
    def original(self) -> str:
        """What the tables call the image that was not restored."""
        return "original image" if self.scoring == "degraded" else "measured stack"


class ZonesSettings(ComparisonSettings):
    """Degrade, restore, segment, score.

    Attributes:
        cases: patients to score; left empty, all labelled ones that neither the segmenter nor any model of
            the comparison has been trained on.
        factors: the stack is degraded by these, restored, and scored on its own grid.
        measured: the stack itself is taken as coarse by these and restored to a finer grid; its zones are
            brought back to the stack's grid.
        segmenter: name or path of the model that segments; left out, the bundled one.
        include_trained: score patients too that a model was trained on, in tables of their own.
        pictures: names of the methods that the pictures show.
    """

    factors: tuple[Annotated[float, Field(gt=1)], ...] = ()
    measured: tuple[Annotated[float, Field(gt=1)], ...] = ()
    segmenter: str | None = None
    include_trained: bool = False
    pictures: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> ZonesSettings:
        self.check_named(*self.pictures)
        if not self.factors and not self.measured:
            raise ValueError("factors: name those that stacks are degraded by, or `measured` ones")
        kinds = IN_PLANE if self.job == "inplane" else THROUGH_PLANE
        if self.kind not in kinds:
            raise ValueError(f"kind: expected one of {', '.join(kinds)}, found {self.kind}")
        made = [m.name for m in self.methods if m.volumes is not None]
        if made:
            raise ValueError(f"{', '.join(made)}: volumes made elsewhere cannot be scored here")
        return self

    @property
    def scales(self) -> list[Scale]:
        """All scales, degraded ones first."""
        found = [Scale("degraded", f) for f in sorted(self.factors)]
        return found + [Scale("measured", f) for f in sorted(self.measured)]

    def deciding(self) -> dict[str, Any]:
        """The settings that a single score depends on, besides the voxels, the scale and the method."""
        return self.model_dump(mode="json", include={"job", "kind", "thickness"})


def load_zones_settings(path: str | Path) -> ZonesSettings:
    """Read a file of the experiment. Raises InputError."""
    return load_settings(path, ZonesSettings)
