"""kill -9 while something is written: what is at the final path afterwards, and after the next run."""

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.reliability.expect import Cases
from tests.reliability.runner import Running, start, wait_for
from tests.reliability.volume_files import late
from tests.reliability.writers import CARELESS, IN_GATE, WRITERS, Writer

CASES = Cases("Killed while writing")
OLD, NEW, LAST = 1, 2, 3
_EVENTS = {"open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.truncate"}
_PROMISE = "absent, the old content or the new, whole; no temporary file after the next writing"


def write_as_asked(
    name: str,
    target: Path,
    version: int,
    small: bool,
    befalls: Callable[[], object] | None = None,
    fatal: int = 0,
    begun: Path | None = None,
    count: Path | None = None,
) -> None:
    """Write a version, in a process of its own, and end as the command line would.

    Args:
        name: of the writer.
        befalls: what befalls the process: a function of ``hooks.py``.
        fatal: the operation on files before which the process is killed.
        begun: a file that appears when the work begins.
        count: gets the number of operations on files.
    """
    from mrisr.cli import explain

    inputs = target.parent.parent / "inputs"
    inputs.mkdir(exist_ok=True)
    if begun:
        begun.touch()
    writer = next(w for w in (*WRITERS, *CARELESS) if w.name == name)
    steps = Steps(str(target.parent), fatal)
    if fatal or count:
        sys.addaudithook(steps.count)
    if befalls:
        befalls()
    try:
        writer.write(target, version, small, inputs)
    except Exception as error:
        message, code = explain(error)
        print(f"mrisr: {message}", file=sys.stderr, flush=True)
        os._exit(code)
    if count:
        count.write_text(str(steps.done))
    os._exit(0)


@dataclass
class Steps:
    """Counts the operations on files in a folder, and ends this process as kill -9 does before one."""

    folder: str
    fatal: int
    done: int = 0

    def count(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook (sys.addaudithook)."""
        if event in _EVENTS:
            # What removes a folder names its files from inside, without the folder.
            inside = any(isinstance(a, int) and a > 2 for a in arguments[-2:])
            counts = inside or any(_lies_in(a, self.folder) for a in arguments[:2])
        else:
            counts = event == "ctypes.dlsym"  # the exchange of two folders
        if counts:
            self.done += 1
            if self.done == self.fatal:
                os.kill(os.getpid(), signal.SIGKILL)


def _lies_in(path: object, folder: str) -> bool:
    return isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith(folder)


@dataclass
class Bench:
    """A folder in which one writer is killed again and again.

    Attributes:
        folder: has the outputs in ``out``, and what they are made of beside it.
        small: whether the outputs are small: a few milliseconds instead of a tenth of a second.
    """

    writer: Writer
    folder: Path
    small: bool
    seen: Counter[str] = field(default_factory=Counter)
    expected: dict[int, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.target.parent.mkdir(parents=True, exist_ok=True)
        for version in (OLD, NEW, LAST):
            self.write(version)
            self.expected[version] = self.writer.read(self.target)
            shutil.copytree(self.target.parent, self.folder / f"kept{version}")
        parts = [set(e.values()) for e in self.expected.values()]
        assert all(parts), f"nothing was written: {self.expected}"
        assert len(set.union(*parts)) == sum(map(len, parts)), "the versions do not differ"

    @property
    def target(self) -> Path:
        return self.folder / "out" / self.writer.target

    def start(
        self,
        version: int,
        *,
        small: bool | None = None,
        unprivileged: bool = False,
        file_mib: float | None = None,
        **how: Any,
    ) -> Running:
        """Begin to write a version over whatever is there; ``small`` is another size than the others',
        ``how`` what else ``write_as_asked`` takes."""
        size = self.small if small is None else small
        write = partial(write_as_asked, self.writer.name, self.target, version, size, **how)
        return start(write, folder=self.folder, unprivileged=unprivileged, file_mib=file_mib)

    def write(self, version: int, *, small: bool | None = None) -> None:
        outcome = self.start(version, small=small).wait()
        assert outcome.code == 0, f"the writer failed: {outcome.stderr[-300:]}"

    def restore(self, before: int | None) -> None:
        """Have this version at the target, or nothing. Temporary files stay where they are."""
        for path in self.target.parent.iterdir():
            if not path.name.startswith("."):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if before is not None:
            shutil.copytree(self.folder / f"kept{before}", self.target.parent, dirs_exist_ok=True)

    def judge(self, before: int | None) -> str:
        """What is at the target after a kill; AssertionError if it is corrupt."""
        old = {} if before is None else self.expected[before]
        new = self.expected[NEW]
        try:
            found = self.writer.read(self.target)
        except Exception as error:
            raise AssertionError(f"corrupt: {' '.join(str(error).split())[:200]}") from error
        kinds = set()
        for name in old.keys() | new.keys() | found.keys():
            kind = {new.get(name): "new", old.get(name): "old or absent"}.get(found.get(name))
            if found.get(name) is None and name in old:
                kind = "lost"
            assert kind, f"corrupt: {name} is neither the old one nor the new one"
            kinds.add(kind)
        assert "lost" not in kinds, "the old output is gone and there is no new one"
        assert len(kinds) == 1 or self.writer.names, f"a mixture: {found}"
        return kinds.pop() if len(kinds) == 1 else "mixed"

    def settle(self) -> None:
        """The next writing must do its work and leave nothing else behind."""
        self.write(LAST)
        assert self.writer.read(self.target) == self.expected[LAST], "the next writing is not whole"
        self.assert_tidy()

    def assert_tidy(self) -> None:
        """No temporary file or folder is there."""
        left = [p.name for p in self.target.parent.iterdir() if "mrisr-" in p.name]
        if self.target.is_dir():
            left += [p.name for p in self.target.iterdir() if "mrisr-" in p.name]
        assert not left, f"left behind: {left}"


def kill_at_steps(writer: Writer, folder: Path, most: int | None = None) -> Counter[str]:
    """Kill it before its operations on files (or ``most`` of them), from nothing and over an old output."""
    bench = Bench(writer, folder, small=True)
    for before in (None, OLD):
        steps: Sequence[int] = range(1, _count(bench, before) + 1)
        if most and most < len(steps):
            steps = sorted(random.Random(len(steps)).sample(steps, most))
        for step in steps:
            bench.restore(before)
            outcome = bench.start(NEW, fatal=step).wait()
            assert outcome.code == -signal.SIGKILL, f"it was not hit: {outcome.stderr[-300:]}"
            bench.seen[bench.judge(before)] += 1
            bench.settle()
    return bench.seen


def _count(bench: Bench, before: int | None) -> int:
    bench.restore(before)
    count = bench.folder / "count"
    assert bench.start(NEW, count=count).wait().code == 0
    return int(count.read_text())


def kill_at_random(writer: Writer, folder: Path, kills: int) -> Counter[str]:
    """Kill it at random moments of its work, every other time over an old output."""
    bench = Bench(writer, folder, small=False)
    begun, draw = folder / "begun", random.Random(7)
    whole = max(_seconds(bench, begun) for _ in range(2))
    for i in range(kills):
        before = OLD if i % 2 else None
        bench.restore(before)
        running = _begin(bench, begun)
        time.sleep(draw.uniform(0, 1.05 * whole))
        running.kill()
        code = running.wait().code
        assert code in (0, -signal.SIGKILL), f"the writer failed: exit {code}"
        bench.seen[bench.judge(before)] += 1
    bench.settle()
    return bench.seen


def _seconds(bench: Bench, begun: Path) -> float:
    running, start = _begin(bench, begun), time.perf_counter()
    assert running.wait().code == 0
    return time.perf_counter() - start


def _begin(bench: Bench, begun: Path) -> Running:
    """Start a writing and return when it has really begun."""
    begun.unlink(missing_ok=True)
    running = bench.start(NEW, begun=begun)
    wait_for(begun)
    return running


@late
def _told(
    folder: Path, kill: Callable[..., Counter[str]], writer: Writer, number: int | None
) -> str:
    seen = kill(writer, folder, number)
    parts = [f"{seen[kind]} {kind}" for kind in ("old or absent", "new", "mixed") if seen[kind]]
    return f"{seen.total()} kills: {', '.join(parts)}, 0 corrupt"


for writer in WRITERS:
    should = _PROMISE + ("; each of the files for itself" if writer.names else "")
    for name, experiment, number in (
        ("4 moments", kill_at_steps, 2),
        ("before each operation on a file", kill_at_steps, None),
        ("200 random moments", kill_at_random, 200),
    ):
        run, slow = _told(experiment, writer, number), name != "4 moments"
        slow = slow or writer.name not in IN_GATE
        CASES.add(f"{writer.name}: {name}", should, run, slow=slow)
