"""Cases, their scores, and the store of these on the disk: what all kinds of evaluation share."""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mrisr import __version__
from mrisr.io.atomic import json_bytes, make_folder, write_together

if TYPE_CHECKING:
    from mrisr.evaluation.methods import Method

Scoring = Literal["degraded", "measured", "reference"]
#: Image that was not restored, which tables of zones have beside the methods, by the kind of scale.
ORIGINAL = {"degraded": "original image", "measured": "measured stack"}
#: Format of stored results, part of every key.
FORMAT = 2


class Scale(NamedTuple):
    """One way to take a stack: ``degraded`` by a factor, as it was ``measured`` and coarse by it, or
    upsampled by it and compared with a ``reference`` scan."""

    scoring: Scoring
    factor: float

    def __str__(self) -> str:
        return f"x{self.factor:g}" + (" as measured" if self.scoring == "measured" else "")


class Metric(NamedTuple):
    """A figure's title, format, and better values: 1 higher, -1 lower, 0 nearer to zero, None neither.

    ``interval`` says whether its mean is printed with an interval.
    """

    title: str
    format: str
    better: int | None
    interval: bool = False


#: Bands of frequency, cycles per mm, in which a result is correlated with another scan: along the axis that
#: was coarse through the plane, in rings in-plane.
BANDS = ((0.1, 0.2), (0.2, 0.35), (0.35, 0.6))
#: Figures that are measured on every slice.
SLICE_METRICS = {
    "psnr": Metric("PSNR dB", ".2f", 1, True),
    "ssim": Metric("SSIM", ".4f", 1, True),
    "spectrum": Metric("spectrum error dB", ".2f", -1),
    "texture": Metric("texture dB", "+.1f", 0),
    "ncc": Metric("NCC", ".4f", 1),
    "lpips": Metric("LPIPS", ".4f", -1),
    **{
        f"band{i}": Metric(f"r {a:g}-{b:g} /mm", ".3f", 1, True)
        for i, (a, b) in enumerate(BANDS, 1)
    },
}
#: Figures of images.
METRICS = {
    **SLICE_METRICS,
    "noise": Metric("noise / scan", ".2f", None),
    "residual": Metric("residual", ".1e", None),
    "consistency": Metric("MSE of A x - y, 1e-5", ".3g", None),
    "seconds": Metric("s / slice", ".3g", None),
    "cpu_seconds": Metric("CPU s / slice", ".3g", None),
    "evaluations": Metric("evaluations", "g", None),
}


@dataclass(frozen=True, eq=False)
class Scored:
    """Figures of one method on one stack.

    Attributes:
        figures: name -> figure of the whole stack. ``residual`` is the RMS of ``A x - y`` over the intensity
            range and ``consistency`` its mean square on intensities 0..1 in units of 1e-5, the way SR3
            and PartDiff quote it; ``seconds`` and ``cpu_seconds`` are wall and processor seconds per
            restored image, ``evaluations`` those of the network per image. ``noise`` is the grain of the
            result on the pixels of the measured slices over theirs. NaN is not defined.
        slices: name of a metric -> its value on each slice.
        pictures: arrays to draw.
        facts: further findings, ready for JSON.
    """

    figures: Mapping[str, float]
    slices: Mapping[str, Sequence[float]] = field(default_factory=dict)
    pictures: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """Means over slices, then the figures of the stack; those that are not finite left out."""
        values = {name: float(np.mean(v)) for name, v in self.slices.items()} | dict(self.figures)
        return {name: float(v) for name, v in values.items() if math.isfinite(v)}


@dataclass(frozen=True, eq=False)
class Case(ABC):
    """A patient's stack that methods are scored on; ``seen`` are models that were trained on them."""

    name: str
    series: str
    seen: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of all data that a score depends on."""

    @abstractmethod
    def score(self, method: Method, scale: Scale) -> Scored:
        """Score one method at one scale. Raises MrisrError where that cannot be done."""


@dataclass(frozen=True, eq=False)
class ScoredResult:
    """The score of one method on one stack at one scale; ``seen`` names the models that knew the patient."""

    case: str
    series: str
    scale: Scale
    method: str
    scored: Scored
    seen: tuple[str, ...] = ()


class Failure(NamedTuple):
    """A method that could not be scored on a stack, and why."""

    case: str
    series: str
    factor: float
    method: str
    reason: str


class ResultCache:
    """A folder with two small files for each result: its figures (JSON) and its pictures (NumPy).

    A result's title (case, series, scale, method) is for the file's name; ``deciding`` is everything that
    decides it, ready for JSON. Keys hold the program's version too: another one makes all results anew.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = make_folder(folder)

    def load(self, title: Sequence[str], deciding: Mapping[str, Any]) -> Scored | None:
        """Find an earlier result; None where there is none, or it cannot be read."""
        key, path = self._place(title, deciding)
        try:
            content = json.loads(path.read_bytes())
            if content["key"] != key:
                return None
            return _decoded(content["scored"], path.with_suffix(".npz").read_bytes())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile):
            return None

    def save(self, title: Sequence[str], deciding: Mapping[str, Any], scored: Scored) -> Scored:
        """Write a result and return it as it will be read. Raises OutputError."""
        key, path = self._place(title, deciding)
        figures = finite(
            {"figures": scored.figures, "slices": scored.slices, "facts": scored.facts}
        )
        packed = io.BytesIO()
        np.savez_compressed(packed, **_cast(scored.pictures, np.float32, np.float16))
        content = json_bytes({"key": key, "result": list(title), "scored": figures})
        write_together({path.with_suffix(".npz"): packed.getvalue(), path: content})
        return _decoded(figures, packed.getvalue())

    def _place(self, title: Sequence[str], deciding: Mapping[str, Any]) -> tuple[str, Path]:
        """Key and path of a result."""
        content = {"format": FORMAT, "mrisr": __version__, **deciding}
        key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        words = re.sub(r"[^\w.+-]+", "-", "-".join(title))
        return key, self.folder / f"{words[:120]}-{key[:12]}.json"


def _decoded(content: Mapping[str, Any], packed: bytes) -> Scored:
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        pictures = _cast(arrays, np.float16, np.float32)
    numbers = {k: [math.nan if x is None else x for x in v] for k, v in content["slices"].items()}
    figures = {k: math.nan if v is None else float(v) for k, v in content["figures"].items()}
    return Scored(figures, numbers, pictures, content["facts"])


def _cast(arrays: Mapping[str, Any], before: type, after: type) -> dict[str, Any]:
    """The arrays, those of one type turned into another."""
    return {k: a.astype(after) if a.dtype == before else a for k, a in arrays.items()}


def finite(value: Any, digits: int = 17) -> Any:
    """A value ready for JSON: numbers with so many digits, None for those that are not finite."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: finite(v, digits) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v, digits) for v in value]
    return value
