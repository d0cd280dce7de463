"""What a benchmark says: tables, limits, comparison with an earlier one, and a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mrisr.benchmark.rows import DEFAULT, ONE, TWENTY, Benchmark, Measured
from mrisr.core.stages import STAGES
from mrisr.evaluation.statistics import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What is promised: share of an inference longer than so many seconds that is not network, seconds until the
#: first image, deviation of many evaluations from as many times one, GiB of the largest study, and share of
#: the peak.
BEYOND, LONG_S, FIRST_S, PROPORTIONAL, LARGEST_GIB, OF_PEAK = 0.15, 10.0, 3.0, 0.05, 8.0, 0.7
#: Deviation of the time per voxel along the curve, and how much worse than before a ratio may be.
LINEAR, WORSE = 0.15, 0.15


class Limit(NamedTuple):
    """A promise, what was found, and whether it holds."""

    promise: str
    found: str
    holds: bool


def tables(done: Benchmark) -> list[Table]:
    """Stages, work, the curve against voxels, limits; those that have rows."""
    by = "the device's clock" if done.measured[0].unit == "wall" else "the processors"
    limits = [[m.promise, m.found, "yes" if m.holds else "NO"] for m in limits_of(done)]
    found = [
        Table(
            f"Seconds of {by} by stage, and share of the inference",
            ["run", "all", *STAGES],
            [_stages(m) for m in done.measured],
        ),
        Table(
            "Work of the network",
            ["run", "model", "evaluations", "TFLOP", "GFLOP/s", "of peak", "beyond", "cost", "GiB"],
            [_work(m, done.of(DEFAULT.name)) for m in done.measured],
        ),
        Table(
            "Against voxels",
            ["study", "million voxels made", "s", "s per million", "GiB", "GiB per 100 million"],
            [_size(m) for m in _curve(done)],
        ),
        Table("Limits", ["promise", "found", "holds"], limits),
    ]
    return [table for table in found if table.cells]


def remarks(done: Benchmark) -> list[str]:
    """What the tables are to be read with: the machine, its peaks, what was not run."""
    first = done.measured[0]
    best = {k: max(getattr(m.peaks, k) for m in done.measured) for k in ("fp32", "bf16", "copied")}
    each = " a core" if first.unit == "processor" else ""
    lines = [
        f"mrisr {done.mrisr}, torch {done.torch}; {done.machine}; computed on {first.device}"
        + ("" if done.load is None else f"; load {done.load:.1f} when it began"),
        f"study of {'x'.join(map(str, first.row.shape))} voxels, where a row says no other",
        f"peak{each}: {best['fp32'] / 1e9:.1f} GFLOP/s in fp32, {best['bf16'] / 1e9:.1f} in bf16 (matrix "
        f"product); {best['copied'] / 1e9:.1f} GB/s copied",
    ]
    default = done.of(DEFAULT.name)
    if done.published and default is not None:
        work = done.published * default.voxels * 100
        hours = work / default.operations * default.seconds("network") / 3600
        lines.append(
            f"not run: SR3 with the published U-Net ({done.published_parameters / 1e6:.0f} million "
            f"parameters) takes {work / 1e12:.0f} TFLOP for 100 evaluations of this study, {hours:.1f} h "
            "at the default's rate"
        )
    return [*lines, *(f"left out: {name}: {why}" for name, why in done.left_out.items())]


def _stages(m: Measured) -> list[str]:
    whole = m.seconds(*STAGES[1:])
    shares = (f"{m.seconds(s):.2f} ({100 * m.seconds(s) / whole:.0f}%)" for s in STAGES[1:])
    return [m.row.name, f"{m.seconds():.2f}", f"{m.seconds('start-up'):.2f}", *shares]


def _work(m: Measured, default: Measured | None) -> list[str]:
    seconds = m.seconds("network")
    rate, share = ("-", "-")
    if m.of_peak is not None:
        rate, share = f"{m.operations / seconds / 1e9:.1f}", f"{100 * m.of_peak:.0f}%"
    cost = (
        "-" if default is None else f"x{m.seconds(*STAGES[1:]) / default.seconds(*STAGES[1:]):.2f}"
    )
    memory = " + ".join(f"{gib:.2f}" for gib in m.memory.values())
    work = f"{m.operations / 1e12:.3f}"
    beyond = f"{100 * m.beyond:.0f}%"
    return [m.row.name, m.model, str(m.evaluations), work, rate, share, beyond, cost, memory]


def _curve(done: Benchmark) -> list[Measured]:
    """The sizes of the study with the default method, rising."""
    sizes = [m for m in done.measured if m.row.of == "curve"]
    default = done.of(DEFAULT.name)
    return sorted([*sizes, default], key=lambda m: m.voxels) if sizes and default else []


def _size(m: Measured) -> list[str]:
    seconds, millions = m.seconds(*STAGES[1:]), m.voxels / 1e6
    shape = "x".join(map(str, m.row.shape))
    memory = max(m.memory.values())
    figures = (f"{millions:.2f}", f"{seconds:.1f}", f"{seconds / millions:.2f}", f"{memory:.2f}")
    return [shape, *figures, f"{100 * memory / millions:.2f}"]


def limits_of(done: Benchmark) -> list[Limit]:
    """Every promise that the measured rows can tell of."""
    found = []
    long = [m for m in done.measured if m.evaluations and m.inference.wall > LONG_S]
    if long:
        worst = max(long, key=lambda m: m.beyond)
        told = f"{100 * worst.beyond:.0f}% ({worst.row.name})"
        promise = f"beyond the network at most {BEYOND:.0%} of an inference above {LONG_S:g} s"
        found.append(Limit(promise, told, worst.beyond <= BEYOND))
    small = min(done.measured, key=lambda m: m.first.wall)
    promise = f"first image under way within {FIRST_S:g} s"
    told = f"{small.first.wall:.1f} s, {small.first.processor:.1f} of the processors"
    found.append(Limit(promise, told, small.first.wall <= FIRST_S))
    one, twenty, default = (done.of(row.name) for row in (ONE, TWENTY, DEFAULT))
    if one and twenty:
        ratio = twenty.seconds("network", "sampling") / one.seconds("network", "sampling")
        holds = abs(ratio / 20 - 1) <= PROPORTIONAL
        found.append(
            Limit(
                f"20 evaluations cost 20 times one, within {PROPORTIONAL:.0%}",
                f"{ratio:.1f}",
                holds,
            )
        )
    if default and default.of_peak:
        told = f"{100 * default.of_peak:.0f}%"
        found.append(
            Limit(f"network at {OF_PEAK:.0%} of the peak", told, default.of_peak >= OF_PEAK)
        )
    return [*found, *_linear(_curve(done))]


def _linear(curve: list[Measured]) -> list[Limit]:
    """Promises on the curve: of the largest study against the one before it."""
    if len(curve) < 2:
        return []
    before, largest = curve[-2:]
    per_voxel = [m.seconds(*STAGES[1:]) / m.voxels for m in (before, largest)]
    ratio, memory = per_voxel[1] / per_voxel[0], max(largest.memory.values())
    shape = "x".join(map(str, largest.row.shape))
    return [
        Limit(
            f"time per voxel of {shape} as of {'x'.join(map(str, before.row.shape))}, within {LINEAR:.0%}",
            f"x{ratio:.2f}",
            ratio <= 1 + LINEAR,
        ),
        Limit(
            f"{shape} at x{largest.row.factor:g} in {LARGEST_GIB:g} GiB",
            f"{memory:.1f} GiB",
            memory <= LARGEST_GIB,
        ),
    ]


def ratios(done: Benchmark) -> dict[str, float]:
    """What two benchmarks are compared by, on machines of one kind: no seconds; less is better."""
    found = {}
    default = done.of(DEFAULT.name)
    for m in done.measured:
        inference = m.seconds(*STAGES[1:])
        if m.of_peak is not None:
            found[f"{m.row.name}: peak over network"] = 1 / m.of_peak
            found[f"{m.row.name}: inference over network"] = inference / m.seconds("network")
        if default is not None and m is not default:
            found[f"{m.row.name}: inference over the default's"] = inference / default.seconds(
                *STAGES[1:]
            )
            memory = max(m.memory.values()) / max(default.memory.values())
            found[f"{m.row.name}: memory over the default's"] = memory
    return found


def worse(done: Benchmark, before: Benchmark) -> Table:
    """The ratios of two benchmarks side by side, and which of them became worse."""
    now, then = ratios(done), ratios(before)
    cells = []
    for name in then:
        found = now.get(name)
        told = "missing" if found is None else f"{found:.3f}"
        bad = found is None or found > (1 + WORSE) * then[name]
        cells.append([name, f"{then[name]:.3f}", told, "WORSE" if bad else ""])
    return Table("Compared with the baseline", ["ratio", "baseline", "now", ""], cells)


def drawn(done: Benchmark) -> Figure:
    """Stages of every run as bars, and time and memory against voxels."""
    from matplotlib import colormaps

    from mrisr.view.pages import new_figure

    runs = [m for m in done.measured if m.row.of == "methods"]
    curve = _curve(done)
    figure = new_figure(10, 1.4 + 0.3 * len(runs) + 3 * bool(curve))
    grid = figure.add_gridspec(
        1 + bool(curve), 2, height_ratios=[0.3 * len(runs) + 1, 3][: 1 + bool(curve)]
    )
    shares = figure.add_subplot(grid[0, :])
    names = [f"{m.row.name}: {m.seconds():.1f} s" for m in runs]
    left = [0.0] * len(runs)
    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    for stage, colour in zip(STAGES, colours, strict=False):
        width = [100 * m.seconds(stage) / m.seconds() for m in runs]
        shares.barh(names, width, left=left, color=colour, label=stage)
        left = [a + b for a, b in zip(left, width, strict=True)]
    shares.invert_yaxis()
    shares.set(xlim=(0, 100), xlabel=f"share of {_clock(runs[0])}, %")
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    if curve:
        millions = [m.voxels / 1e6 for m in curve]
        drawn = {
            f"inference, s of {_clock(runs[0])}": [m.seconds(*STAGES[1:]) for m in curve],
            "peak memory, GiB": [max(m.memory.values()) for m in curve],
        }
        for k, (title, values) in enumerate(drawn.items()):
            axes = figure.add_subplot(grid[1, k])
            axes.loglog(millions, values, "o-")
            axes.loglog(millions, [values[-1] * v / millions[-1] for v in millions], "k:", lw=1)
            axes.set(xlabel="million voxels made (dotted: proportional)", ylabel=title)
    return figure


def _clock(m: Measured) -> str:
    return "processor time" if m.unit == "processor" else "time"
