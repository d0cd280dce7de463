"""What a benchmark runs: methods and jobs on one phantom study, and what was measured of each."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mrisr.config.base import Settings
from mrisr.core.options import InPlane, Job, ThroughPlane
from mrisr.core.stages import STAGES, Spent, Stage

#: Voxels of the study along each axis, and their size in mm: x6 through the plane is isotropic.
STUDY: tuple[int, int, int] = (192, 192, 20)
SMALL: tuple[int, int, int] = (96, 96, 8)
SPACING = (0.6, 0.6, 3.6)
#: Level of its noise, a typical one, at which a released model answers by one of its two networks.
NOISE = 0.02
#: Studies of the curve against voxels, beside the study itself; the last is the largest promised.
CURVE: tuple[tuple[int, int, int], ...] = ((96, 96, 20), (384, 384, 20), (1024, 1024, 60))


class Timed(Settings):
    """One run: a job by a method.

    Attributes:
        name: in the tables.
        method: whose model of the job runs, the default one if None.
        steps: of sampling; None is the model's own.
        factor: of the job.
        shape: voxels of the study.
        of: the table that it stands in.
        repeats: runs in one process, of which the fastest of each stage counts.
    """

    name: str
    job: Job = "inplane"
    method: str | None = None
    steps: int | None = None
    factor: float = 2.0
    shape: tuple[int, int, int] = STUDY
    of: Literal["methods", "curve"] = "methods"
    repeats: int = 1

    def settings(self, device: str = "auto") -> InPlane | ThroughPlane:
        """Options of the run."""
        if self.job == "inplane":
            return InPlane(scale=self.factor, method=self.method, steps=self.steps, device=device)
        return ThroughPlane(factor=self.factor, method=self.method, steps=self.steps, device=device)


DEFAULT = Timed(name="PartDiff, default", repeats=6)
ONE, TWENTY = (
    Timed(name=f"PartDiff 50, {n}", method="partdiff50", steps=n, repeats=6 if n == 1 else 2)
    for n in (1, 20)
)
_METHODS = (
    Timed(name="B-spline", method="bspline", repeats=6),
    Timed(name="regression", method="regression", repeats=6),
    DEFAULT,
    *(Timed(name=f"InvSR, {n}", method="invsr", steps=n, repeats=6) for n in range(1, 6)),
    ONE,
    TWENTY,
    Timed(name="PartDiff 25, 25", method="partdiff25", steps=25),
    Timed(name="PartDiff 50, 50", method="partdiff50", steps=50),
    Timed(name="SR3, 100", method="sr3", steps=100),
    Timed(name="default, x4", factor=4.0),
    Timed(name="default, slices x6", job="throughplane", factor=6.0),
)
#: Those that stand for all of them in a quick run.
_QUICK = ("B-spline", "regression", "InvSR, 1", DEFAULT.name, ONE.name, TWENTY.name)


def planned(quick: bool) -> list[Timed]:
    """The rows of a benchmark, or of a quick one on a small study."""
    if quick:
        few = [r for r in _METHODS if r.name in (*_QUICK, "default, slices x6")]
        return [r.model_copy(update={"shape": SMALL, "repeats": 3}) for r in few]
    sizes = (Timed(name="x".join(map(str, s)), shape=s, of="curve") for s in CURVE)
    return [*_METHODS, *sizes]


class Peaks(Settings):
    """What the device reaches, per second of :attr:`Measured.unit`."""

    fp32: float  #: operations of a large matrix product
    bf16: float
    copied: float  #: bytes read and written by a large copy


class Measured(Settings):
    """What was measured of a row.

    Attributes:
        row: what was run.
        model: its model.
        evaluations: of the network per image.
        voxels: of the result.
        stages: time of each, seconds of the clock and of the processors.
        first: time from the start of the process until the first image was restored.
        operations: of the network in all, a multiplication and an addition counted as two.
        memory: peak in GiB, of the process and of a CUDA device.
        precision, threads, device: how and where it was computed.
        peaks: of the device, right after the run.
    """

    row: Timed
    model: str
    evaluations: int
    voxels: int
    stages: dict[Stage, Spent]
    first: Spent
    operations: float
    memory: dict[str, float]
    device: str
    precision: Literal["fp32", "bf16"]
    threads: int
    peaks: Peaks

    @property
    def unit(self) -> Literal["wall", "processor"]:
        """The clock that rates are taken by: on a CPU that of the processors, which other work on the
        machine hardly disturbs; a rate is then that of one core."""
        return "processor" if self.device.startswith("cpu") else "wall"

    def seconds(self, *stages: Stage) -> float:
        """Time of stages, of all if none are named, by the clock that rates are taken by."""
        spent = (self.stages[s] for s in stages or STAGES)
        return sum(s.processor if self.unit == "processor" else s.wall for s in spent)

    @property
    def inference(self) -> Spent:
        """Time without start-up."""
        total = Spent()
        for name in STAGES[1:]:
            total += self.stages[name]
        return total

    @property
    def beyond(self) -> float:
        """Share of the inference that is not evaluation of the network."""
        return 1 - self.seconds("network") / self.seconds(*STAGES[1:])

    @property
    def of_peak(self) -> float | None:
        """Operations of the network over those of the matrix product in that time; None without network."""
        if not self.operations:
            return None
        peak: float = getattr(self.peaks, self.precision)
        return self.operations / self.seconds("network") / peak


class Benchmark(Settings):
    """All that a benchmark measured, and what it left out."""

    mrisr: str
    machine: str
    torch: str
    command: str
    load: float | None = None  #: processes that wanted a processor when it began
    measured: tuple[Measured, ...]
    left_out: dict[str, str] = Field(default_factory=dict)
    #: Operations per voxel and evaluation of the published U-Net, which is counted and not run.
    published: float = 0.0
    published_parameters: int = 0

    def of(self, name: str) -> Measured | None:
        """What was measured of the row with a name, if it was."""
        return next((m for m in self.measured if m.row.name == name), None)
