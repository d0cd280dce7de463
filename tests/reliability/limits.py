"""Too little memory: one line and nothing written, or smaller tiles or the CPU, noted in the record. And
training that is killed, or whose disk fills up, and goes on as if nothing had happened."""

import json
import random
import shutil
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.reliability import hooks
from tests.reliability.expect import Cases, assert_line
from tests.reliability.faults import assert_told, disk
from tests.reliability.runner import ROOT, Outcome, Running, run_cli, start_cli
from tests.reliability.volume_files import late

#: What tiles may change: RMS and maximum as a share of the intensity range.
TILE_RMS, TILE_MAX = 1e-3, 1e-2
CASES = Cases("Memory")


def _study(folder: Path, pixels: int) -> Path:
    """A phantom with a quarter of the pixels along each axis, made fine by interpolation: cheaply large."""
    from scipy.ndimage import zoom

    from mrisr.data.phantom import phantom, phantom_affine
    from mrisr.io import write_volume

    folder.mkdir(parents=True, exist_ok=True)
    coarse = phantom((pixels // 4, pixels // 4, 4), spacing=(2.0, 2.0, 3.0))
    array = zoom(coarse.array, (4, 4, 1), order=1)
    affine = phantom_affine(array.shape, spacing=(0.5, 0.5, 3.0))
    return write_volume(coarse.with_array(array, affine), folder / "study.nii.gz")


def _run(source: Path, output: str, *options: object, **run: Any) -> Outcome:
    work = source.parent / "work"
    work.mkdir(exist_ok=True)
    arguments = ["inplane", "--input", source, "--output", output, "--scale", 2, "--quiet"]
    return run_cli([*arguments, *options], work, **run)


def _result(folder: Path) -> tuple[np.ndarray, dict[str, Any]]:
    from mrisr.io import read_volume

    work = folder / "work"
    return read_volume(work / "out.nii").array, json.loads((work / "out.json").read_text())


@late
def tight(folder: Path, ending: str, pixels: int, limits: tuple[int, ...]) -> str:
    """Ever more address space (MiB): refusals, and then the result that there is without a limit."""
    source, output = _study(folder, pixels), f"out{ending}"
    seen: dict[int, list[int]] = {0: [], 1: []}
    for limit in limits:
        outcome = _run(source, output, "--qc", "out.png", memory_mib=limit)
        found = _take_outputs(folder / "work")
        seen[outcome.code].append(limit)
        if outcome.code != 0:
            assert_line(outcome, 1, None, "out of memory")
            assert not found, f"left under {limit} MiB: {sorted(found)}"
        elif not json.loads(found["out.json"])["notes"]:
            assert _run(source, output, "--qc", "out.png").code == 0
            same = {**_take_outputs(folder / "work"), "out.json": found["out.json"]} == found
            assert same, f"another result under {limit} MiB"
    assert seen[1], "the limits are too generous to show anything"
    return f"{len(seen[1])} limits: exit 1, out of memory; {len(seen[0])} limits: done"


def _take_outputs(work: Path) -> dict[str, bytes]:
    """What lies in the folder, which is empty then."""
    found = {p.name: p.read_bytes() for p in work.iterdir()}
    for name in found:
        (work / name).unlink()
    return found


def no_room_on_cuda(folder: Path, pixels: int, room: int) -> tuple[float, float, list[str]]:
    """A result with tiles or on the CPU against the plain one: RMS and maximum of the difference as
    shares of the range, and the record's notes."""
    source = _study(folder, pixels)
    assert _run(source, "out.nii", "--precision", "fp32", "--force").code == 0
    plain, _ = _result(folder)
    outcome = _run(
        source,
        "out.nii",
        *("--precision", "fp32", "--force", "--device", "cuda"),
        prepare=partial(hooks.pretend_cuda, room),
    )
    assert outcome.code == 0, outcome.stderr[-300:]
    made, record = _result(folder)
    off = (made.astype(float) - plain) / float(np.ptp(plain))
    return float(np.sqrt((off**2).mean())), float(np.abs(off).max()), record["notes"]


def smaller_tiles(folder: Path) -> str:
    rms, largest, notes = no_room_on_cuda(folder, 200, 210 * 210)
    assert notes == ["out of memory: tile reduced to 200"], notes
    assert 0 < rms < TILE_RMS, f"RMS {rms:.1e} of the range"
    assert largest < TILE_MAX, f"at most {largest:.1e} of the range"
    return f"noted: {notes[0]}; RMS {rms:.0e}, at most {largest:.0e} of the range"


def at_last_the_cpu(folder: Path) -> str:
    _, largest, notes = no_room_on_cuda(folder, 150, 0)
    assert notes[-1].endswith("continued on the CPU"), notes
    assert largest == 0, f"differs by {largest:.1e} of the range from a run on the CPU"
    return f"noted: {'; '.join(notes)}; equal to the last bit"


_LADDER = (1, 2, 4, 8, 12, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 192, 224, 256)
_LADDER += tuple(range(288, 640, 32))
should = "exit 1, one line that says out of memory, nothing written; or the whole result"
for ending, limits in (
    (".nii.gz", (4, 16, 48)),
    *((ending, _LADDER) for ending in (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")),
):
    name = f"address space limited to {limits[0]} to {limits[-1]} MiB, {ending}"
    CASES.add(name, should, tight(ending, 320, limits), slow=limits is _LADDER)
should = (
    f"the tile is halved, noted in the record; RMS < {TILE_RMS:g}, maximum < {TILE_MAX:g} of the "
    "range against the untiled result"
)
CASES.add("no memory on the device for a whole image (faked)", should, smaller_tiles)
should = "continued on the CPU, noted in the record; equal to a run on the CPU"
CASES.add("no memory on the device at all (faked)", should, at_last_the_cpu)


CASES.group = "Training"
_CHECKPOINT = "checkpoint.safetensors"


def _prepared(folder: Path, iterations: int) -> tuple[Path, Path]:
    """A configuration, and a cache of two patients and one held out."""
    from mrisr.data.phantom import phantom
    from mrisr.io import write_volume

    data, cache, config = folder / "data", folder / "cache", folder / "config.yaml"
    for i, case in enumerate(("one", "two", "held-out")):
        (data / case).mkdir(parents=True)
        made = phantom((64, 60, 3), spacing=(0.8, 0.8, 3.0), seed=i, noise=0.01)
        write_volume(made, data / case / "t2w.nii")
    done = run_cli(["prepare", "--data", data, "--output", cache, "--quiet"], folder)
    assert done.code == 0, done.stderr
    content = yaml.safe_load((ROOT / "configs" / "smoke.yaml").read_text())
    content["data"]["validation"] = ["held-out"]
    often = {"checkpoint_every": 3, "log_every": 1, "validate_every": iterations}
    content["train"] |= {"iterations": iterations, **often}
    config.write_text(yaml.safe_dump(content))
    return config, cache


def _train(config: Path, cache: Path, run: Path) -> Running:
    arguments = ["train", "--config", config, "--data", cache, "--output", run, "--resume"]
    return start_cli([*arguments, "--device", "cpu", "--quiet"], config.parent)


def _finish(running: Running) -> Outcome:
    outcome = running.wait(300)
    assert outcome.code == 0, f"exit {outcome.code}: {outcome.stderr[-300:]}"
    return outcome


def _curve(run: Path) -> list[dict[str, Any]]:
    """Lines of the log without what depends on the clock."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def _step(run: Path) -> int:
    from safetensors import safe_open

    path = run / _CHECKPOINT
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        for key in file.keys():  # noqa: SIM118 (not a mapping)
            file.get_tensor(key)
        return int(json.loads(file.metadata()["progress"])["step"])


def _assert_same(run: Path, whole: Path) -> None:
    assert _curve(run) == _curve(whole), "another loss curve than that of the uninterrupted run"
    same = (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert same, "other weights than those of the uninterrupted run"
    left = [p.name for p in run.rglob("*") if "mrisr-tmp" in p.name or ".next." in p.name]
    assert not left, f"left behind: {left}"


def killed(folder: Path, kills: int, iterations: int) -> str:
    """Killed at random moments and resumed, until it has been killed often enough."""
    config, cache = _prepared(folder, iterations)
    seconds = _finish(_train(config, cache, folder / "whole")).seconds
    run, draw, steps = folder / "killed", random.Random(11), [0]
    done = 0
    while done < kills:
        running = _train(config, cache, run)
        time.sleep(draw.uniform(0, seconds / kills))
        running.kill()
        if running.wait().code == 0:  # it was through before
            shutil.rmtree(run)
            steps.append(0)
            continue
        done += 1
        steps.append(_step(run))
        assert steps[-1] >= steps[-2], f"the checkpoint went back: {steps}"
    _finish(_train(config, cache, run))
    _assert_same(run, folder / "whole")
    return f"{kills} kills, checkpoints at {', '.join(map(str, steps[1:]))}; same curve and weights"


def terminated(folder: Path) -> str:
    """SIGTERM, as a cluster sends it at the end of the time."""
    config, cache = _prepared(folder, 30)
    seconds = _finish(_train(config, cache, folder / "whole")).seconds
    running = _train(config, cache, folder / "stopped")
    time.sleep(seconds / 2)
    running.kill(signal.SIGTERM)
    outcome = running.wait()
    assert outcome.code == 1, f"exit {outcome.code}: {outcome.stderr[-300:]}"
    assert outcome.stderr == "mrisr: stopped\n", outcome.stderr[-300:]
    at = _step(folder / "stopped")
    _finish(_train(config, cache, folder / "stopped"))
    _assert_same(folder / "stopped", folder / "whole")
    return f"exit 1, stopped; resumed at step {at}: same curve and weights"


def disk_fills_up(folder: Path) -> str:
    """First there is no room for a checkpoint, then there is."""
    config, cache = _prepared(folder, 12)
    _finish(_train(config, cache, folder / "whole"))
    size = (folder / "whole" / _CHECKPOINT).stat().st_size
    picture = (folder / "whole" / "examples" / "0000000.png").stat().st_size
    with disk(folder / "run", 8 * size + picture) as run:
        filler = run / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(run).free - 3 * size // 2 - picture))
        outcome = _train(config, cache, run).wait()
        line = assert_told(outcome, run / _CHECKPOINT, "No space left on device")
        at = _step(run)
        assert at == 3, f"the last checkpoint is of step {at}"
        filler.write_bytes(b"")
        filler.unlink()
        _finish(_train(config, cache, run))
        _assert_same(run, folder / "whole")
    return f"{line}; resumed at step {at}: same curve and weights"


_SAME = "the last checkpoint can be loaded; the resumed run has the curve and weights of an undisturbed one"

CASES.add("kill -9, 3 times", _SAME, lambda f: killed(f, 3, 30))
CASES.add("kill -9, 12 times", _SAME, lambda f: killed(f, 12, 400), slow=True)
CASES.add("SIGTERM", f"one line, exit 1; {_SAME}", terminated)
should = f"exit 3, one line with path and bytes needed; {_SAME}"
CASES.add("full disk", should, disk_fills_up)
