"""The results over patients: a row for each scale and method, those that a model has seen apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mrisr.evaluation.statistics import Mean, mean_of, patient_means
from mrisr.evaluation.zones.scored import ZonesResult
from mrisr.evaluation.zones.settings import Scale
from mrisr.zones.labels import ZONES


@dataclass(frozen=True)
class ZonesRow:
    """A method at one scale, over its patients.

    Attributes:
        seen: whether a model was trained on these patients.
        means: name of a figure (:meth:`ZonesScored.means`) -> its mean over the patients that have it.
        empty: zone -> patients in whom the reference or the result has nothing of it, so that distances (and
            of an empty reference Dice) are not defined.
        patients: number of them.
    """

    scale: Scale
    method: str
    seen: bool
    means: dict[str, Mean]
    empty: dict[str, int]
    patients: int

    def as_json(self) -> dict[str, Any]:
        """The row as JSON-ready values."""
        scale = self.scale._asdict()
        return scale | {k: v for k, v in asdict(self).items() if k != "scale"}


def rows_of(results: Sequence[ZonesResult]) -> list[ZonesRow]:
    """A row for each scale and method, in the order of the results; the original image first."""
    rows = []
    groups: dict[tuple[bool, Scale, str], list[ZonesResult]] = {}
    for result in results:
        groups.setdefault((result.seen, result.scale, result.method), []).append(result)
    for (seen, scale, method), mine in groups.items():
        patients = patient_means(mine)
        names = dict.fromkeys(name for figures in patients.values() for name in figures)
        rows.append(
            ZonesRow(
                scale=scale,
                method=method,
                seen=seen,
                means={n: mean_of([p[n] for p in patients.values() if n in p]) for n in names},
                empty={z: sum(f"{z}.hd95_mm" not in p for p in patients.values()) for z in ZONES},
                patients=len(patients),
            )
        )
    return rows
