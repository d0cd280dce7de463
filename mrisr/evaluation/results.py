"""Results of single cases, kept on the disk so that a killed evaluation goes on where it stopped."""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrisr.evaluation.case import Case, Scored
from mrisr.evaluation.methods import Method
from mrisr.evaluation.settings import EvaluationSettings
from mrisr.io.atomic import json_bytes, make_folder, write_together

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


def key_of(case: Case, method: Method, factor: float, settings: EvaluationSettings) -> str:
    """SHA-256 of everything that decides a result. Raises InputError for an unreadable volume."""
    deciding = {
        "format": FORMAT,
        "case": [case.name, case.series, case.digest],
        "factor": factor,
        "method": method.deciding(case.name),
        "settings": settings.deciding(),
    }
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


class Store:
    """A folder with two small files for each result: its figures (JSON) and its picture (NumPy)."""

    def __init__(self, folder: Path) -> None:
        self.folder = make_folder(folder)

    def _path(self, case: Case, method: Method, factor: float, key: str) -> Path:
        words = re.sub(r"[^\w.+-]+", "-", f"{case.name}-{case.series}-x{factor:g}-{method.name}")
        return self.folder / f"{words[:120]}-{key[:12]}.json"

    def load(self, case: Case, method: Method, factor: float, key: str) -> Scored | None:
        """An earlier result of the same key; none where there is none, or it cannot be read."""
        path = self._path(case, method, factor, key)
        try:
            content = json.loads(path.read_bytes())
            if content.pop("key") != key:
                return None
            with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
                pictures = {k: arrays[k].astype(np.float32) for k in ("result", "reference")}
            return _scored(content["scored"], pictures)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, case: Case, method: Method, factor: float, key: str, scored: Scored) -> Scored:
        """Keep a result; gives it back as it will be read. Raises OutputError."""
        pictures = {"result": centre(scored.result), "reference": centre(scored.reference)}
        packed = io.BytesIO()
        halved = {k: v.astype(np.float16) for k, v in pictures.items()}
        np.savez_compressed(packed, result=halved["result"], reference=halved["reference"])
        content = {
            "key": key,
            "case": case.name,
            "series": case.series,
            "factor": factor,
            "method": method.name,
            "scored": as_json(scored),
        }
        path = self._path(case, method, factor, key)
        write_together(
            {path.with_suffix(".npz"): packed.getvalue(), path: json_bytes(finite(content))}
        )
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


def _scored(content: Mapping[str, Any], pictures: Mapping[str, NDArray[np.float32]]) -> Scored:
    return Scored(
        slices={k: [_number(x) for x in v] for k, v in content["slices"].items()},
        volume={k: _number(v) for k, v in content["volume"].items()},
        seconds=_number(content["seconds"]),
        cpu_seconds=_number(content["cpu_seconds"]),
        evaluations=int(content["evaluations"]),
        facts=content["facts"],
        result=pictures["result"],
        reference=pictures["reference"],
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def finite(value: Any) -> Any:
    """The same with none in the place of numbers that are not finite, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return value
