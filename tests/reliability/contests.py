"""Two runs on one output at the same time; runs that are stopped; a folder that goes while they work."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.reliability import hooks
from tests.reliability.dicom_files import series
from tests.reliability.expect import Cases, assert_line
from tests.reliability.runner import Outcome, Running, run_cli, start_cli, wait_for
from tests.reliability.volume_files import late

_FACTORS = (2.0, 3.0)
CASES = Cases("Runs that meet or are stopped")


def _start(
    source: Path, output: str, work: Path, scale: float, *, force: bool = False, **more: Any
) -> Running:
    work.mkdir(exist_ok=True)
    arguments: list[object] = ["inplane", "--input", source, "--output", output, "--quiet"]
    arguments += ["--scale", scale, "--model", "zero-inplane", *["--force"] * force]
    return start_cli(arguments, work, **more)


def _meet(
    source: Path, output: str, work: Path, pauses: Sequence[tuple[float, float]], *, force: bool
) -> list[Outcome]:
    """Two runs with different results that write at the same moment, but for ``pauses``."""
    place = work.parent / f"meeting{len(list(work.parent.iterdir()))}"
    place.mkdir()
    hook = partial(hooks.meet_and_pause, place, len(_FACTORS))
    runs = [
        _start(source, output, work, s, force=force, prepare=partial(hook, *pause))
        for s, pause in zip(_FACTORS, pauses, strict=True)
    ]
    return [run.wait() for run in runs]


def _assert_of_one(work: Path, output: str, ends: list[Outcome]) -> None:
    """Assert that the result of one run is there, with its own record and nothing else."""
    from mrisr.io import read_volume

    record = work / f"{output.split('.')[0]}.json"
    voxels = [f"{output[:-4]}.raw"] if output.endswith(".mhd") else []
    found = sorted(p.name for p in work.iterdir())
    assert found == sorted([output, record.name, *voxels]), f"in the folder: {found}"
    known = json.loads(record.read_text())
    shape = list(read_volume(work / output).shape)
    assert shape == known["output"]["shape"], "the record is that of the other run's volume"
    scale = float(known["parameters"]["scale"])
    winners = [s for s, end in zip(_FACTORS, ends, strict=True) if end.code == 0]
    assert scale in winners, f"the result of a run that failed: {[e.stderr for e in ends]}"


@late
def _one_wins(folder: Path, output: str, times: int) -> str:
    source = series(folder, "source")
    for i in range(times):
        work = folder / f"work{i}"
        ends = _meet(source, output, work, ((0, 0), (0, 0)), force=False)
        assert sorted(e.code for e in ends) == [0, 3], [(e.code, e.stderr) for e in ends]
        loser = next(e for e in ends if e.code == 3)
        assert_line(loser, 3, None, output, "exists already")
        _assert_of_one(work, output, ends)
    return f"{times} times one wins, the other: exit 3, exists already"


@late
def _both_succeed(folder: Path, output: str, times: int) -> str:
    source, work = series(folder, "source"), folder / "work"
    # The second writes its volume and its record between the volume and the record of the first.
    for pauses in times * [((0, 0), (0, 0)), ((0, 0.2), (0.1, 0))]:
        ends = _meet(source, output, work, pauses, force=True)
        assert [e.code for e in ends] == [0, 0], [(e.code, e.stderr) for e in ends]
        _assert_of_one(work, output, ends)
    return f"{2 * times} times both exit 0 and the result of one is there, whole, with its record"


def _at_work(source: Path, work: Path, folder: Path, scale: float) -> Running:
    """A run that has understood its command line. (Before that, libraries may swallow an interrupt.)"""
    sign = folder / "at work"
    sign.unlink(missing_ok=True)
    hook = partial(hooks.tell_when_at_work, sign)
    running = _start(source, "out.nii.gz", work, scale, force=True, prepare=hook)
    wait_for(sign)
    return running


@late
def _stopped(folder: Path, number: signal.Signals, times: int) -> str:
    source, draw, seen = series(folder, "source"), random.Random(3), Counter[str]()
    work = folder / "work"
    for scale in _FACTORS:  # the first run of a process is slow, the second tells
        running, began = _at_work(source, work, folder, scale), time.perf_counter()
        assert running.wait().code == 0
    whole = time.perf_counter() - began
    before = {p.name: p.read_bytes() for p in work.iterdir()}
    for _ in range(times):
        running = _at_work(source, work, folder, 2.0)
        time.sleep(draw.uniform(0, whole))
        running.kill(number)
        outcome = running.wait()
        now = {p.name: p.read_bytes() for p in work.iterdir()}
        seen["through before" if outcome.code == 0 else "stopped"] += 1
        if outcome.code != 0:
            assert_line(outcome, 1, None, "stopped")
            assert now.keys() == before.keys(), f"in the folder: {sorted(now)}"
        before = now
    assert seen["stopped"], "no run was stopped"
    return f"{times} times: {', '.join(f'{n} {what}' for what, n in sorted(seen.items()))}"


@late
def _folder_goes(folder: Path, output: str) -> str:
    source, work, place = series(folder, "source"), folder / "work", folder / "place"
    place.mkdir()
    hook = partial(hooks.lose_the_folder, place)
    outcome = _start(source, str(place / output), work, 2.0, prepare=hook).wait()
    assert_line(outcome, 3, place / output)
    assert not place.exists()
    return outcome.stderr.strip().removeprefix("mrisr: ").replace(f"{folder}/", "")


def _device_full(folder: Path) -> str:
    """As a link, since the name of the device has no ending that says what to write."""
    source, work = series(folder, "source"), folder / "work"
    work.mkdir()
    (work / "out.nii.gz").symlink_to("/dev/full")
    for force in (False, True):
        outcome = _start(source, "out.nii.gz", work, 2.0, force=force).wait()
        assert_line(outcome, 3, Path("out.nii.gz"))
    named = run_cli(["inplane", "--input", source, "--output", "/dev/full"], work)
    assert_line(named, 3, Path("/dev/full"))
    assert (work / "out.nii.gz").readlink() == Path("/dev/full")
    assert len(list(work.iterdir())) == 1
    return outcome.stderr.strip().removeprefix("mrisr: ")


_OUTPUTS = ("out.nii.gz", "out.mhd", "series")
for how, meet, should in (
    ("", _one_wins, "one wins; the other exits 3 and says so"),
    (", with --force", _both_succeed,
     "both succeed; the result of one is there, whole, with its own record"),
):  # fmt: skip
    for slow in (False, True):
        for output in _OUTPUTS:
            name = (
                f"two runs write {output} at the same moment{how}{', many times' if slow else ''}"
            )
            CASES.add(name, should, meet(output, 4 if slow else 1), slow=slow)
should = "one line, exit 1; the outputs old or new, no temporary files"
for times in (4, 40):
    for number in (signal.SIGINT, signal.SIGTERM):
        name = f"{number.name} at {times} random moments"
        CASES.add(name, should, _stopped(number, times), slow=times > 4)
should = "exit 3, one line with the path"
for output in _OUTPUTS:
    name = f"the folder of {output} is removed while the network works"
    CASES.add(name, should, _folder_goes(output))
CASES.add("/dev/full as output", should, _device_full)
