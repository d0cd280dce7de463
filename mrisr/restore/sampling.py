"""Options that both upsamplers share, checked once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypedDict

from mrisr.core.errors import UsageError
from mrisr.physics.rows import KINDS, Kind


class OptionFields(TypedDict, total=False):
    """Keyword arguments of :func:`mrisr.inplane` and :func:`mrisr.throughplane`; see :class:`Options`."""

    model: str | None
    method: str | None
    steps: int | None
    churn: float | None
    update: Literal["corrected", "published"]
    start: float | None
    seed: int
    device: str
    precision: Literal["auto", "fp32", "bf16"]
    tile: int | None
    consistency: float | None
    degradation: Kind | None


@dataclass(frozen=True)
class Options:
    """How to restore.

    Attributes:
        model: name of a bundled or installed model, the path of one, or an interpolation (bicubic,
            bspline, lanczos); by default the job's own.
        method: instead of a model: the job's model of a method, such as ``sr3``, ``invsr`` or ``regression``.
        steps: evaluations of the network per image; by default what the model's card says. One is
            regression (highest fidelity); more add texture.
        churn: 0 deterministic steps, 1 ancestral ones; by default the card's.
        update: path-corrected steps, or the published ones.
        start: noise scale at which a model on the plain path starts from the noised low-resolution image;
            by default the model's own start.
        seed: of the shared noise field. Same seed, same machine: same voxels.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto`` takes bfloat16 where the device computes it natively.
        tile: edge of a tile in pixels; by default whole images wherever they fit.
        consistency: weight 0..1 of the final projection onto the measurement; by default the card's: 1,
            for an interpolation 0.
        degradation: what made the input coarse; by default anti-aliased bicubic in-plane and a
            Gaussian slice profile through-plane.
    """

    model: str | None = None
    method: str | None = None
    steps: int | None = None
    churn: float | None = None
    update: Literal["corrected", "published"] = "corrected"
    start: float | None = None
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    tile: int | None = None
    consistency: float | None = None
    degradation: Kind | None = None

    def __post_init__(self) -> None:
        if self.model is not None and self.method is not None:
            raise UsageError("give --model or --method, not both")
        _within("steps", self.steps, 1, 1000)
        _within("churn", self.churn, 0, 1)
        _within("start", self.start, 0.003, 0.9999)
        _within("consistency", self.consistency, 0, 1)
        _within("tile", self.tile, 128, 1 << 16)
        _within("seed", self.seed, 0, 2**32 - 1)
        _one_of("precision", self.precision, ("auto", "fp32", "bf16"))
        _one_of("update", self.update, ("corrected", "published"))
        _one_of("degradation", self.degradation, (None, *KINDS))

    def for_job(self, kinds: tuple[Kind, ...]) -> Options:
        """The same options with the degradation filled in, checked against those that the job allows."""
        chosen = self.degradation or kinds[0]
        _one_of("degradation", chosen, kinds)
        return replace(self, degradation=chosen)


def _within(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise UsageError(f"{name}: expected {low:g} to {high:g}, found {value:g}")


def _one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        names = ", ".join(str(a) for a in allowed if a is not None)
        raise UsageError(f"{name}: expected one of {names}, found {value}")
