"""Disks that are full, small, read-only or gone; two runs on one output at the same time, runs that are
stopped, and a folder that goes while they work."""

import json
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.reliability import hooks
from tests.reliability.dicom_files import series
from tests.reliability.expect import Cases, assert_line, snapshot
from tests.reliability.kills import NEW, OLD, Bench
from tests.reliability.runner import Outcome, Running, Skipped, run_cli, start_cli, wait_for
from tests.reliability.volume_files import late
from tests.reliability.writers import IN_GATE, WRITERS, Writer

CASES = Cases("Disks")
_SHOULD = (
    "exit 3; one line with the path, the cause and the bytes needed; the old output intact, nothing "
    "left behind"
)
_FULL = "No space left on device"


@contextmanager
def disk(folder: Path, size: int) -> Iterator[Path]:
    """A disk of ``size`` bytes at ``folder``, gone afterwards. Raises Skipped where none may be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        raise Skipped("disks cannot be mounted here (root may: try `unshare -rm`)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def assert_told(outcome: Outcome, path: Path, cause: str, *, needs: bool = True) -> str:
    """Assert exit 3 and one line that names the path, the cause and the bytes needed; return the line."""
    line = outcome.stderr
    assert outcome.code == 3, f"exit {outcome.code}: {line[-300:]}"
    assert line.count("\n") == 1, f"{line.count(chr(10))} lines: {line[-300:]}"
    assert str(path) in line, f"the path is not named: {line}"
    assert re.search(cause, line), f"the cause is not named: {line}"
    assert not needs or re.search(r"\d+ bytes needed", line), f"no bytes needed in: {line}"
    return line.strip().removeprefix("mrisr: ").replace(f"{path.parent}/", "")


def _try(bench: Bench, cause: str, *, needs: bool = True, **run: Any) -> str:
    """Have the new version written where it cannot be, and find the old one as it was."""
    outcome = bench.start(NEW, small=False, **run).wait()
    line = assert_told(outcome, bench.target, cause, needs=needs)
    assert bench.writer.read(bench.target) == bench.expected[OLD], "the old output is not as it was"
    bench.assert_tidy()
    return line


def _bench(writer: Writer, folder: Path) -> tuple[Bench, int]:
    """A small old output, the inputs of a large new one, and the bytes that this takes."""
    bench = Bench(writer, folder, small=True)
    bench.write(NEW, small=False)
    size = sum(p.stat().st_size for p in bench.target.parent.rglob("*") if p.is_file())
    bench.restore(OLD)
    return bench, size


def full_and_read_only(writer: Writer, folder: Path) -> str:
    """A disk with a third of the room that is needed, with as little that promises more, and no writing."""
    with disk(folder / "out", 64 << 20) as place:
        bench, size = _bench(writer, folder)
        filler = place / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(place).free - size // 3))
        line = _try(bench, _FULL)
        _try(bench, _FULL, befalls=hooks.promise_room)
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        _try(bench, "Read-only file system|cannot be written", needs=False)
        subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
        bench.settle()
    return line


def limited_and_forbidden(writer: Writer, folder: Path) -> str:
    """A limit on the size of files, as a quota sets one, and a folder without permission to write."""
    bench, _ = _bench(writer, folder)
    line = _try(bench, "File too large", file_mib=0.004)
    places = [p for p in (bench.target, bench.target.parent) if p.is_dir()]
    for place in places:
        place.chmod(0o555)
    try:
        _try(bench, "Permission denied|cannot be written", needs=False, unprivileged=True)
    finally:
        for place in places:
            place.chmod(0o755)
    bench.settle()
    return line


def no_room_for_the_picture(folder: Path) -> str:
    """There is room for the volume of a run, and then none for what goes with it."""
    source = series(folder, "source")
    run = ["inplane", "--input", source, "--output", "out.nii", "--qc", "out.png", "--quiet"]
    with disk(folder / "out", 16 << 20) as place:
        for scale in (2, 3):
            outcome = run_cli([*run, "--scale", scale, "--force"], place)
            assert outcome.code == 0, outcome.stderr[-300:]
        sizes = {p.suffix: p.stat().st_size for p in place.iterdir()}
        filler = place / "filler"
        room = shutil.disk_usage(place).free
        filler.write_bytes(bytes(room - sizes[".nii"] - sizes[".png"] // 2))
        before = snapshot(place)
        outcome = run_cli([*run, "--scale", 3, "--seed", 1, "--force"], place)
        line = assert_told(outcome, Path("out.png"), _FULL)
        changed = dict(snapshot(place).items() ^ before.items())
        assert not changed, f"changed or left behind: {sorted(changed)}"
    return line


for writer in WRITERS:
    title = f"{writer.name}: full disk, over quota, read-only disk"
    CASES.add(title, _SHOULD, partial(full_and_read_only, writer), slow=writer.name not in IN_GATE)
for writer in WRITERS:
    title, run = f"{writer.name}: limit on the size of files, no permission", limited_and_forbidden
    CASES.add(title, _SHOULD, partial(run, writer), slow=writer.name not in IN_GATE)
picture = "room for the volume of a run, but not for its picture"
CASES.add(picture, _SHOULD, no_room_for_the_picture)


_FACTORS = (2.0, 3.0)
CASES.group = "Runs that meet or are stopped"


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
both = "both succeed; the result of one is there, whole, with its own record"
for how, meet, should in (
    ("", _one_wins, "one wins; the other exits 3 and says so"),
    (", with --force", _both_succeed, both),
):
    for times, often in ((1, ""), (4, ", many times")):
        for output in _OUTPUTS:
            name = f"two runs write {output} at the same moment{how}{often}"
            CASES.add(name, should, meet(output, times), slow=times > 1)
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
