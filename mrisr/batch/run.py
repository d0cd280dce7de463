"""All stages over the studies of a chunk. Whatever a study does, the next one gets its turn.

Libraries crash, and systems kill processes that need too much memory. So the studies of a chunk are worked on
by a child process; when that dies, another one goes on, and what has brought two of them down is given up.
"""

import ctypes
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mrisr.batch.names import HIDDEN, lock_file, out_of
from mrisr.batch.plan import Plan, StudyPlan, read_plan
from mrisr.batch.status import Digests, Part, Status, read_status, settled, write_status
from mrisr.batch.work import Models, Work
from mrisr.core.errors import MrisrError, OutputError, UsageError, one_line
from mrisr.io.atomic import make_folder
from mrisr.io.files import locked, remove

#: A part at which the process died this often is given up.
DEATHS = 2
DIED = f"the process died here {DEATHS} times (killed, out of memory, or a crash of a library)"
#: Works on a chunk in its own process.
COMMAND = (sys.executable, "-m", "mrisr", "chunk", "--alone")
#: Seconds that a process has to end cleanly once it is told to.
PATIENCE_S = 25.0
_PR_SET_PDEATHSIG = 1


def studies_of(chunk: Path) -> tuple[Plan, list[StudyPlan]]:
    """The plan of a batch, and the studies of a chunk in it. Raises UsageError: the file is no chunk."""
    plan = read_plan(out_of(chunk))
    try:
        names = set(json.loads(chunk.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{chunk}: expected a chunk that mrisr batch wrote ({error})") from error
    return plan, [study for study in plan.studies if study.folder in names]


def supervise(chunk: Path, report: Callable[[str], None]) -> int:
    """Let a process work on a chunk, and another one go on where it dies; the last one's exit code.

    Raises:
        UsageError: the file is no chunk.
        MrisrError: it died before it came to a study.
    """
    out, (_, studies) = out_of(chunk), studies_of(chunk)
    while True:
        before = [read_status(out / study.folder) for study in studies]
        process = subprocess.Popen([*COMMAND, str(chunk)], preexec_fn=die_with_parent)
        try:
            code = process.wait()
        except BaseException:
            _stop(process)
            raise
        if code >= 0:
            return code
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        if before == [read_status(out / study.folder) for study in studies]:
            raise MrisrError(f"the process died ({name}) before it came to a study")
        report(f"the process died ({name}); going on")


def run_chunk(path: Path, report: Callable[[str], None] = lambda line: None) -> None:
    """Make what is to be made of the studies of a chunk, and write the status of each.

    Raises:
        UsageError: the file is no chunk.
        OutputError: a status cannot be written, which concerns all studies.
    """
    plan, studies = studies_of(path)
    out = out_of(path)
    kept = out / HIDDEN / "digests"
    digests = Digests.load([kept / "plan.json", kept / f"{path.stem}.json"])
    models = Models(plan.settings)
    for study in studies:
        with locked(lock_file(out, study.folder)):
            run = StudyRun(Work(out, study, models), plan.batch, digests)
            if run.todo:
                run.run()
                report(f"{study.folder}: {run.told}")
    digests.save(kept / f"{path.stem}.json")


class StudyRun:
    """All stages of one study, in the run ``batch``, in which a part may be begun so often and not more."""

    def __init__(self, work: Work, batch: str, digests: Digests) -> None:
        self.work, self.batch, self.digests = work, batch, digests
        self.before = read_status(work.folder)
        planned = work.plan.parts
        self.parts = {p.id: p for p in (*planned, *settled(work.folder, planned, digests))}
        if self.before.batch == batch:  # a process has died, or its job has been started again
            for part in self.before.of_plan(planned).parts:
                if part.state in ("failed", "skipped"):
                    self.parts[part.id] = part
                elif self.parts[part.id].state == "unfinished":
                    self._set(self.parts[part.id], attempts=part.attempts)

    @property
    def todo(self) -> list[Part]:
        """The parts that are still to be made."""
        return [part for part in self.parts.values() if part.state == "unfinished"]

    def run(self) -> None:
        """Make what is missing."""
        self.work.models.prepare()
        self._write()
        self._remove_outputs(self.before.parts)
        for part in self.todo:
            self._take(part)
        self._remove_outputs(tuple(self.parts.values()))
        write_status(self.work.folder, self._status)

    @property
    def _status(self) -> Status:
        return Status(self.batch, tuple(self.parts.values()))

    @property
    def told(self) -> str:
        """The states of the stages, on one line."""
        said = []
        for name, stage in self._status.stages.items():
            states = Counter(part.state for part in stage.parts)
            ended = ", ".join(f"{count} {state}" for state, count in states.items())
            said.append(f"{name} {ended}" + (f" ({stage.reason})" if stage.reason else ""))
        return "; ".join(said)

    def _write(self) -> None:
        write_status(self.work.folder, self._status, lasting=False)

    def _set(self, part: Part, **changes: Any) -> Part:
        self.parts[part.id] = replace(part, **changes)
        return self.parts[part.id]

    def _take(self, part: Part) -> None:
        """Make one part, or say why not."""
        lacking = self._lacking(part)
        if lacking:
            self._set(part, state="skipped", reason=lacking)
        elif part.attempts >= DEATHS:
            self._set(part, state="failed", reason=DIED)
        else:
            begun = self._set(part, attempts=part.attempts + 1)
            self._write()
            try:
                self._set(self._made(begun))
            except BaseException:  # stopped, not failed
                self._set(part)
                self._write()
                raise

    def _made(self, part: Part) -> Part:
        """A part once it is made; an error becomes its reason."""
        measuring, began = _start_measuring(), time.perf_counter()
        folder = self.work.folder
        try:
            for path in part.outputs:
                make_folder((folder / path).parent)
            part = getattr(self.work, part.stage)(part)
            outputs = [folder / path for path in part.outputs]
            digest = self.digests.of(*outputs) if outputs else None
            if outputs and digest is None:
                raise OutputError(f"{part.outputs[0]}: cannot be read back")
            part = replace(part, state="done", sha256=digest)
        except Exception as error:
            reason = self.work.without_paths(one_line(error))[:500]
            part = replace(part, state="failed", reason=reason)
        peak = _peak_memory_gib() if measuring else None
        return replace(part, seconds=round(time.perf_counter() - began, 3), peak_memory_gib=peak)

    def _lacking(self, part: Part) -> str:
        """The reason why a part cannot be made: the first result that it needs and that is not there."""
        for needed in (self.parts[need] for need in part.needs):
            if needed.state == "failed":
                return f"{needed.name} failed in {needed.stage}"
            if needed.state == "skipped":
                return needed.reason
        return ""

    def _remove_outputs(self, parts: tuple[Part, ...]) -> None:
        """Remove outputs that do not belong to a part that is done, and what a process left half written."""
        done = {path for p in self.parts.values() if p.state == "done" for path in p.outputs}
        for path in {path for part in parts for path in part.outputs}:
            target = self.work.folder / path
            if path not in done:
                remove(target)
            for left in target.parent.glob(f".{target.name}.mrisr-*"):
                remove(left)
            if target.parent != self.work.folder:
                with suppress(OSError):
                    target.parent.rmdir()


def _start_measuring() -> bool:
    """Let peak memory be counted from here on; False where the system cannot do that."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak resident set, see proc(5)
    except OSError:
        return False
    return True


def _peak_memory_gib() -> dict[str, float] | None:
    """Peak resident memory of the process since then, and of a CUDA device that it uses, in GiB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None
    peak = {"process": round(kib / 2**20, 3)}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        peak["device"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
    return peak


def end_with_parent() -> None:
    """Let the system kill this process when the one that started it ends; only Linux can."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def die_with_parent() -> None:
    """Let this process be killed when its parent is: a run that is killed leaves nothing behind at work.

    For ``preexec_fn``. Only Linux can do that; elsewhere the locks keep the next run apart. A shell lets its
    background jobs ignore Ctrl-C; the process shall not, because that is how it is stopped.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Let a process end cleanly; kill it if it does not. Ctrl-C reaches it without help."""
    for tell, seconds in ((None, 1.0), (process.terminate, PATIENCE_S), (process.kill, None)):
        if tell is not None:
            tell()
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return
