"""Too little memory: one line and nothing written, or smaller tiles or the CPU, noted in the record."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.reliability import hooks
from tests.reliability.expect import Cases, assert_line
from tests.reliability.runner import Outcome, run_cli
from tests.reliability.volume_files import late

#: What tiles may change: RMS and maximum as a share of the intensity range.
TILE_RMS, TILE_MAX = 1e-3, 1e-2
CASES = Cases("Memory")


def _study(folder: Path, pixels: int) -> Path:
    from mrisr.data.phantom import phantom
    from mrisr.io import write_volume

    folder.mkdir(parents=True, exist_ok=True)
    made = phantom((pixels, pixels, 4), spacing=(0.5, 0.5, 3.0))
    return write_volume(made, folder / "study.nii.gz")


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
    (".nii.gz", (4, 10, 16, 24, 48)),
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
