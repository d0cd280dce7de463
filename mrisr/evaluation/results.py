"""Results of single cases, kept on the disk so that a killed evaluation goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrisr.evaluation.case import Case, Scored
from mrisr.evaluation.kept import UNREADABLE, Item, KeptFolder, finite, key_from, number
from mrisr.evaluation.methods import Method
from mrisr.evaluation.settings import EvaluationSettings

#: Raised whenever the same data, model and settings would get other figures; old results are then made anew.
FORMAT = 1
#: Share of a slice's edges that the pictures show: the prostate lies at the centre.
ZOOM = 0.4
#: Pixels of an edge that are shown at least.
SMALLEST = 128


@dataclass(frozen=True)
class Result:
    """What one method reached on one stack at one factor."""

    case: str
    series: str
    factor: float
    method: str
    scored: Scored

    def means(self) -> dict[str, float]:
        """Every figure of the stack that is finite."""
        return self.scored.means()


def key_of(case: Case, method: Method, factor: float, settings: EvaluationSettings) -> str:
    """SHA-256 of everything that decides a result. Raises InputError for an unreadable volume."""
    return key_from(
        {
            "format": FORMAT,
            "case": [case.name, case.series, case.digest],
            "factor": factor,
            "method": method.deciding(case.name),
            "settings": settings.deciding(),
        }
    )


class Store:
    """The results of an evaluation, kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self.kept = KeptFolder(folder)

    @staticmethod
    def _item(case: Case, method: Method, factor: float, key: str) -> Item:
        return Item(f"{case.name}-{case.series}-x{factor:g}-{method.name}", key)

    def load(self, case: Case, method: Method, factor: float, key: str) -> Scored | None:
        """An earlier result of the same key; none where there is none, or it cannot be read."""
        found = self.kept.load(self._item(case, method, factor, key))
        try:
            return None if found is None else _scored(found[0]["scored"], found[1])
        except UNREADABLE:
            return None

    def save(self, case: Case, method: Method, factor: float, key: str, scored: Scored) -> Scored:
        """Keep a result; gives it back as it will be read. Raises OutputError."""
        pictures = {"result": centre(scored.result), "reference": centre(scored.reference)}
        content = {
            "case": case.name,
            "series": case.series,
            "factor": factor,
            "method": method.name,
            "scored": as_json(scored),
        }
        halved = {k: v.astype(np.float16) for k, v in pictures.items()}
        self.kept.save(self._item(case, method, factor, key), content, halved)
        return _scored(json.loads(json.dumps(finite(as_json(scored)))), pictures)


def centre(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The central part ``(h, w)`` of a slice that the pictures show."""
    sizes = [max(min(n, SMALLEST), round(n * ZOOM)) for n in image.shape]
    top, left = ((n - m) // 2 for n, m in zip(image.shape, sizes, strict=True))
    return image[top : top + sizes[0], left : left + sizes[1]]


def as_json(scored: Scored) -> dict[str, Any]:
    """The figures of a result, without its pictures."""
    return {
        "slices": {k: list(v) for k, v in scored.slices.items()},
        "volume": dict(scored.volume),
        "seconds": scored.seconds,
        "cpu_seconds": scored.cpu_seconds,
        "evaluations": scored.evaluations,
        "facts": dict(scored.facts),
    }


def _scored(content: Mapping[str, Any], pictures: Mapping[str, NDArray[np.generic]]) -> Scored:
    return Scored(
        slices={k: [number(x) for x in v] for k, v in content["slices"].items()},
        volume={k: number(v) for k, v in content["volume"].items()},
        seconds=number(content["seconds"]),
        cpu_seconds=number(content["cpu_seconds"]),
        evaluations=int(content["evaluations"]),
        facts=content["facts"],
        result=pictures["result"].astype(np.float32),
        reference=pictures["reference"].astype(np.float32),
    )
