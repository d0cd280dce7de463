"""Disks that are full, small, read-only or gone: exit code 3, one line, and the old output intact."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.reliability import hooks
from tests.reliability.dicom_files import series
from tests.reliability.expect import Cases, snapshot
from tests.reliability.kills import NEW, OLD, Bench
from tests.reliability.runner import Outcome, Skipped, run_cli
from tests.reliability.writers import WRITERS, Writer

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


_QUICK = (".nii.gz", ".mhd", "a derived DICOM series", "a saved model")
for writer in WRITERS:
    title = f"{writer.name}: full disk, over quota, read-only disk"
    CASES.add(title, _SHOULD, partial(full_and_read_only, writer))
for writer in WRITERS:
    title, run = f"{writer.name}: limit on the size of files, no permission", limited_and_forbidden
    CASES.add(title, _SHOULD, partial(run, writer), slow=writer.name not in _QUICK)
picture = "room for the volume of a run, but not for its picture"
CASES.add(picture, _SHOULD, no_room_for_the_picture)
