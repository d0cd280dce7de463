"""The benchmark measures the run that users get, and says what was found of its promises."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mrisr.benchmark import report, run, work
from mrisr.benchmark.rows import (
    CURVE,
    DEFAULT,
    ONE,
    TWENTY,
    Benchmark,
    Measured,
    Peaks,
    Timed,
    planned,
)
from mrisr.core import stages
from mrisr.core.errors import MrisrError
from mrisr.core.stages import STAGES, Clock, Spent, stage
from mrisr.data.phantom import phantom
from mrisr.io import write_volume

SHAPE = (32, 32, 4)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.nii.gz"
    write_volume(phantom(SHAPE, spacing=(0.6, 0.6, 3.6), noise=0.02), path)
    return path


@pytest.fixture
def quick_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "EDGE", {"cpu": 64})
    monkeypatch.setattr(work, "COPIED", {"cpu": 2**16})
    whole = work.peaks
    monkeypatch.setattr(work, "peaks", lambda device: whole(device, 0.01))


def test_time_goes_to_the_innermost_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """One second passes between any two readings of the clock, two of the processors."""
    readings = iter(range(100))
    monkeypatch.setattr(stages, "now", lambda: Spent(n := next(readings), 2 * n))
    settled: list[int] = []

    @stage("network")
    def evaluate() -> int:
        return 7

    assert evaluate() == 7  # no clock is read
    with Clock(Spent(-3, 0), lambda: settled.append(1)) as clock:
        with stage("read"):
            pass
        with stage("sampling"):
            evaluate()
    expected = {"start-up": (4, 2), "read": (1, 2), "sampling": (2, 4), "network": (1, 2)}
    expected["rest"] = (1, 2)
    found = {name: (s.wall, s.processor) for name, s in clock.spent.items() if s.wall}
    assert found == expected
    assert clock.first == Spent(5, 4)
    assert len(settled) == 7


def test_a_clock_ends_where_a_run_fails() -> None:
    with pytest.raises(ZeroDivisionError), Clock() as clock, stage("read"):
        raise ZeroDivisionError
    assert clock.spent["read"].wall > 0
    with stage("write"):
        pass
    assert clock.spent["write"] == Spent()


@pytest.mark.usefixtures("models", "quick_peaks")
def test_a_row_is_measured(study: Path, tmp_path: Path) -> None:
    """Operations by hand: four convolutions of 8 channels on images folded by 2, for each evaluation."""
    trace = tmp_path / "trace.json"
    row = Timed(name="three", steps=3, shape=SHAPE, repeats=2)
    found = work.measure(row, study, "cpu", trace=trace)
    per_pixel = 2 * 9 * (2 * 4 * 8 + 2 * 8 * 8 + 8 * 4) / 4
    assert found.voxels == 4 * 32 * 32 * 4
    assert found.operations == pytest.approx(3 * per_pixel * found.voxels, rel=0.05)
    assert (found.evaluations, found.unit, found.precision) == (3, "processor", "fp32")
    used = {"start-up", "read", "to grid", "network", "sampling", "consistency", "write"}
    assert all(found.stages[name].wall > 0 for name in used)
    assert found.first.wall < sum(s.wall for s in found.stages.values())
    events = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert used - {"start-up"} < events
    assert not list(study.parent.glob("result-*.nii.gz"))
    across = Timed(name="slices", job="throughplane", factor=6.0, shape=SHAPE)
    deep = work.measure(across, study, "cpu")
    both = 2 * per_pixel * deep.voxels  # rows against slices, and columns against slices
    assert deep.operations == pytest.approx(both, rel=0.05)


def test_a_cuda_device_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels run on behind Python's back; the CPU's do not, and a device not in use is left alone."""
    import torch

    waited: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append("cuda"))
    for in_use in (False, True):
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda in_use=in_use: in_use)
        work._settle("cpu")
        work._settle("cuda:0")
    assert waited == ["cuda"]
    assert measured(DEFAULT, device="cuda: a card").unit == "wall"


def measured(row: Timed, device: str = "cpu: x, 1 threads", **change: float) -> Measured:
    """A row that was not run: network in proportion to voxels, 5% beyond it, on a device of 1 GFLOP/s."""
    evaluations = row.steps or 1
    voxels = row.shape[0] * row.shape[1] * row.shape[2] * 4
    network = change.get("network", evaluations * voxels / 1e6)
    spent = dict.fromkeys(STAGES, Spent()) | {"start-up": Spent(2, 2)}
    spent |= {"network": Spent(network, network / 2)}
    beyond = change.get("beyond", 0.05) * network
    spent |= {"write": Spent(beyond, beyond / 2)}
    first = change.get("first", 2.0)
    gib = change.get("gib", 0.5 + voxels / 1e8)
    return Measured(
        row=row,
        model=row.method or "default",
        evaluations=evaluations,
        voxels=voxels,
        stages=spent,
        first=Spent(first, first),
        operations=change.get("rate", 0.8) * 1e9 * network / 2,
        memory={"process": gib},
        device=device,
        precision="fp32",
        threads=1,
        peaks=Peaks(fp32=1e9, bf16=1e9, copied=1e9),
    )


def benchmark(**changes: dict[str, float]) -> Benchmark:
    """All rows of a plan, those named changed."""
    rows = [measured(row, **changes.get(row.name, {})) for row in planned(quick=False)]
    return Benchmark(
        mrisr="1", machine="m", torch="2", command="mrisr benchmark", measured=tuple(rows)
    )


LARGEST = "x".join(map(str, CURVE[-1]))


@pytest.mark.parametrize(
    ("broken", "changes"),
    [
        ("", {}),
        ("beyond the network", {"SR3, 100": {"beyond": 0.2}}),
        ("first image", {row.name: {"first": 3.5} for row in planned(quick=False)}),
        ("20 evaluations", {TWENTY.name: {"network": 65.0}}),
        ("network at 70%", {DEFAULT.name: {"rate": 0.6}}),
        ("time per voxel", {LARGEST: {"network": 300.0}}),
        (f"{LARGEST} at x2", {LARGEST: {"gib": 9.0}}),
    ],
)
def test_a_promise_that_does_not_hold_is_said(
    broken: str, changes: dict[str, dict[str, float]]
) -> None:
    done = benchmark(**changes)
    found = report.limits_of(done)
    assert len(found) == 6
    failed = [limit.promise for limit in found if not limit.holds]
    assert len(failed) == bool(broken)
    assert all(promise.startswith(broken) for promise in failed)
    said = {t.title: t for t in report.tables(done)}["Limits"]
    assert [cells[-1] for cells in said.cells].count("NO") == len(failed)


def test_ratios_are_compared_not_seconds() -> None:
    """Twice as slow a machine is as good; a network a sixth slower than the matrix product is not."""
    before = benchmark()
    slow = [
        m.model_copy(
            update={
                "stages": {k: s + s for k, s in m.stages.items()},
                "peaks": Peaks(fp32=5e8, bf16=5e8, copied=1e9),
            }
        )
        for m in before.measured
    ]
    slower = before.model_copy(update={"measured": tuple(slow)})
    assert not any(cells[-1] for cells in report.worse(slower, before).cells)
    for rate, found in ((0.8 / 1.14, []), (0.8 / 1.16, [f"{ONE.name}: peak over network"])):
        now = benchmark(**{ONE.name: {"rate": rate}})
        assert [cells[0] for cells in report.worse(now, before).cells if cells[-1]] == found
    fewer = before.model_copy(update={"measured": before.measured[:-1]})
    assert any(c[2] == "missing" and c[3] for c in report.worse(fewer, before).cells)


@pytest.fixture
def one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark of one small row, in this process."""
    rows = [DEFAULT.model_copy(update={"shape": SHAPE, "repeats": 1})]
    monkeypatch.setattr(run, "planned", lambda quick: rows)
    monkeypatch.setattr(
        run,
        "in_own_process",
        lambda row, study, device, t: work.measure(row, study, device, None, t),
    )
    monkeypatch.setattr(run, "STUDY", SHAPE)
    monkeypatch.setattr(work, "published", lambda: (1e7, 10**8))


@pytest.mark.usefixtures("models", "quick_peaks", "one_row")
def test_the_command(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    paths = {name: tmp_path / f"{name}.out" for name in ("json", "plot", "profile")}
    files = [word for name, path in paths.items() for word in (f"--{name}", path)]
    code, out, err = run("benchmark", "--device", "cpu", *files)
    assert code == 0, err
    assert all(
        words in out
        for words in (DEFAULT.name, "Limits", "not run: SR3", "peak a core", "study of 32x32x4")
    )
    assert all(path.stat().st_size > 500 for path in paths.values())
    assert run("benchmark", "--json", paths["json"])[0] == 3  # nothing is replaced
    content = json.loads(paths["json"].read_text())
    content["measured"][0]["operations"] *= 100
    paths["json"].write_text(json.dumps(content))
    code, out, _ = run("benchmark", "--baseline", paths["json"], "--quiet")
    assert (code, "WORSE" in out) == (8, True)
    paths["json"].write_text("{}")
    code, _, err = run("benchmark", "--baseline", paths["json"])
    assert (code, "expected a benchmark" in err) == (2, True)


@pytest.mark.slow
@pytest.mark.usefixtures("models")
def test_a_row_has_a_process_of_its_own(study: Path) -> None:
    found = run.in_own_process(Timed(name="small", shape=SHAPE), study, "cpu")
    assert found.first.processor > 0.1  # the interpreter and its libraries
    with pytest.raises(MrisrError, match=r"ended with 1: .*no model 'other-inplane'"):
        run.in_own_process(Timed(name="other", method="other", shape=SHAPE), study, "cpu")
