"""Settings of the downstream experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from mrisr.config import load_settings
from mrisr.core.options import KINDS_OF, Segmenting
from mrisr.evaluation.case import Scale
from mrisr.evaluation.settings import ComparisonSettings

Factors = tuple[Annotated[float, Field(gt=1)], ...]


def _segmenting(value: Any) -> Any:
    """The options of segmenting; a name alone is that of a model."""
    return {"model": value} if value is None or isinstance(value, str) else value


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
        kinds = KINDS_OF[self.job]
        if self.kind not in kinds:
            raise ValueError(f"kind: expected one of {', '.join(kinds)}, found {self.kind}")
        self.check_no_volumes("volumes made elsewhere cannot be scored here")
        return self

    @property
    def scales(self) -> list[Scale]:
        found = [Scale("degraded", f) for f in sorted(self.factors)]
        return found + [Scale("measured", f) for f in sorted(self.measured)]

    def deciding(self) -> dict[str, Any]:
        return self.model_dump(mode="json", include={"job", "kind", "thickness"})


def load_zones_settings(path: str | Path) -> ZonesSettings:
    """Read a file of the experiment. Raises InputError."""
    return load_settings(path, ZonesSettings)
