"""Runs the command line in processes of its own, and tells what came of each.

They are forked from a server that has imported everything, so that a run costs a tenth of a second, and
its time and memory are its own and not those of the imports.
"""

import atexit
import ctypes
import gc
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
_START_S = 120
#: Not parts of mrisr's import graph, and yet loaded during a run.
_LATE_IMPORTS = """PIL.PngImagePlugin gdcm jpeg_ls matplotlib.backends.backend_agg nibabel openjpeg
pydicom.pixels pytest rich.console scipy.linalg scipy.signal SimpleITK tests.reliability.runner
tests.reliability.warm""".split()
_QUIET = {"MPLBACKEND": "Agg", "CUDA_VISIBLE_DEVICES": "", "PYTHONUTF8": "1", "NO_COLOR": "1"}
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
#: Linux capabilities by which root reads and writes what the permissions forbid.
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2


class Skipped(Exception):
    """A case that cannot run on this machine; the message says what is missing."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        code: the exit code; minus the signal's number where a signal ended the process.
        seconds: from its start to its end, imports not counted.
        cpu_seconds: of a processor, which other load does not lengthen; 0 for a run that was killed.
        peak_mib: the most memory it held beyond what it held at its start; 0 for a run that was killed.
        timed_out: it was killed because it did not end in time.
    """

    code: int
    stdout: str
    stderr: str
    seconds: float
    timed_out: bool
    cpu_seconds: float = 0.0
    peak_mib: float = 0.0


@dataclass
class Running:
    """A process that has been started; ``place`` has what it prints."""

    process: multiprocessing.process.BaseProcess
    place: Path
    began: float

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the process and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid or 0, number)

    def wait(self, seconds: float = 120) -> Outcome:
        """How it ended; it is killed if that takes longer than ``seconds``."""
        self.process.join(seconds)
        timed_out = self.process.exitcode is None
        if timed_out:
            self.kill()
            self.process.join()
        took = time.perf_counter() - self.began
        out, err = (
            (self.place / name).read_bytes().decode(errors="replace") for name in ("out", "err")
        )
        spent = self.place / "spent"
        used = json.loads(spent.read_text()) if spent.exists() else {}
        shutil.rmtree(self.place)
        return Outcome(self.process.exitcode or 0, out, err, took, timed_out, **used)


def start(work: Callable[..., object], *arguments: Any, folder: Path, **around: Any) -> Running:
    """Start ``work(*arguments)`` in a process of its own, on the CPU, with the small models of ``models.py``.

    Args:
        work: a function of a module.
        folder: the working folder.
        around: what else ``_take_on`` takes.
    """
    context, models = _server()
    place = Path(tempfile.mkdtemp(dir=models.parent))
    around["env"] = {"MRISR_MODELS": str(models), **around.get("env", {})}
    process = context.Process(target=_be, args=(place, work, arguments, folder, around))
    process.start()
    wait_for(place / "begun", _START_S)
    return Running(process, place, time.perf_counter())


def start_cli(arguments: Sequence[object], folder: Path, **around: Any) -> Running:
    """Start ``mrisr ARGUMENTS``; the rest as in ``start``."""
    return start(_command_line, [str(a) for a in arguments], folder=folder, **around)


def run_cli(
    arguments: Sequence[object], folder: Path, *, seconds: float = 120, **around: Any
) -> Outcome:
    """Run ``mrisr ARGUMENTS`` to its end, or to ``seconds``."""
    return start_cli(arguments, folder, **around).wait(seconds)


def run_all(
    commands: Sequence[Sequence[object]], folder: Path, *, seconds: float = 120, **around: Any
) -> list[Outcome]:
    """How ``mrisr ARGUMENTS`` ended, one after the other in one process, since a fork costs more than what
    most of them do. It ends with the first that ends the process; ``peak_mib`` counts from its start."""
    given = [[str(a) for a in arguments] for arguments in commands]
    with tempfile.TemporaryDirectory(dir=models_folder().parent) as name:
        last = start(_in_turn, given, Path(name), folder=folder, **around).wait(seconds)
        ended = [Outcome(**json.loads(p.read_text())) for p in sorted(Path(name).iterdir())]
    return ended if len(ended) == len(given) else [*ended, last]


def printed() -> tuple[str, str]:
    """What a forked process has printed since the last call: standard output, standard error."""
    sys.stdout.flush()
    sys.stderr.flush()
    out, err = (_taken(stream).decode(errors="replace") for stream in (1, 2))
    return out, err


def _taken(stream: int) -> bytes:
    size = os.lseek(stream, 0, os.SEEK_CUR)
    os.lseek(stream, 0, os.SEEK_SET)
    text = os.read(stream, size)
    os.ftruncate(stream, 0)
    os.lseek(stream, 0, os.SEEK_SET)
    return text


def wait_for(path: Path, seconds: float = 60) -> None:
    """Return when a file has appeared, which tells that something has begun."""
    deadline = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.0005)


def models_folder() -> Path:
    """Where the small models of this session lie; copy them before changing them."""
    return _server()[1]


@cache
def _server() -> tuple[Any, Path]:
    """The context whose processes are forked from the server, and the folder of models."""
    from tests.reliability.models import build_models

    if not Path("/proc/self/statm").exists():
        raise Skipped("runs are started by fork and measured through /proc, which is Linux")
    folder = Path(tempfile.mkdtemp(prefix="mrisr-reliability-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    context = multiprocessing.get_context("forkserver")
    files = (p.relative_to(ROOT).with_suffix("") for p in (ROOT / "mrisr").rglob("*.py"))
    modules = [".".join(f.parts) for f in files if f.name not in ("__init__", "__main__")]
    context.set_forkserver_preload([*modules, *_LATE_IMPORTS])
    # The server computes nothing itself, so that it has no threads that a fork would lose.
    builder = context.Process(target=build_models, args=(folder / "models",))
    with mock.patch.dict(os.environ, {**_QUIET, **_ONE_THREAD}):
        builder.start()
    builder.join()
    if builder.exitcode != 0:
        raise RuntimeError("the small models could not be made")
    return context, folder / "models"


# --- in the forked process ------------------------------------------------------------------------


def _be(
    place: Path,
    work: Callable[..., object],
    arguments: tuple[Any, ...],
    folder: Path,
    around: dict[str, Any],
) -> None:
    """Do the work, and leave what it cost."""
    os.setsid()
    gc.freeze()
    # What runs in the background of a shell is deaf to Ctrl-C; a command under test is not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(place / name, os.O_RDWR | os.O_CREAT), number)
    os.chdir(folder)
    _take_on(**around)
    spent = _meter()
    (place / "begun").touch()
    try:
        if around.get("prepare"):
            around["prepare"]()
        work(*arguments)
    finally:
        for end in (signal.SIGINT, signal.SIGTERM):
            signal.signal(end, signal.SIG_IGN)
        with suppress(Exception):  # there may be no memory left
            (place / "spent").write_text(json.dumps(spent()))


def _meter() -> Callable[[], dict[str, float]]:
    """Tells processor time of this process and the memory that it took beyond what it has now."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def spent() -> dict[str, float]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        peak_mib = max(0.0, (used.ru_maxrss - before) / 1024)
        return {"cpu_seconds": used.ru_utime + used.ru_stime, "peak_mib": peak_mib}

    return spent


def _take_on(
    *,
    env: Mapping[str, str],
    memory_mib: float | None = None,
    file_mib: float | None = None,
    unprivileged: bool = False,
    prepare: Callable[[], object] | None = None,
) -> None:
    """Take on the surroundings of a run.

    Args:
        env: environment variables.
        memory_mib: address space it may take beyond what it has at its start.
        file_mib: the largest file it may write; more fails as a full disk does (EFBIG).
        unprivileged: file permissions count even for root.
        prepare: called before the work.
    """
    os.environ.update(env)
    if unprivileged and os.geteuid() == 0:
        _drop_override()
    if file_mib is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does at its own start
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(file_mib * 2**20),) * 2)
    if memory_mib is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + int(memory_mib * 2**20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _command_line(arguments: list[str]) -> None:
    from mrisr.cli import main

    sys.argv = ["mrisr", *arguments]
    main()


def _in_turn(commands: list[list[str]], place: Path) -> None:
    spent = _meter()
    for number, arguments in enumerate(commands):
        began, before = time.perf_counter(), spent()["cpu_seconds"]
        with warnings.catch_warnings():  # each warning is shown again
            try:
                _command_line(arguments)
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
        used, (out, err) = spent(), printed()
        used["cpu_seconds"] -= before
        known = {"code": code, "stdout": out, "stderr": err, "timed_out": False, **used}
        known["seconds"] = time.perf_counter() - began
        (place / f"{number:03d}").write_text(json.dumps(known))


def _drop_override() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; low words, high words
    if libc.capget(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    for i in range(3):
        sets[i] &= ~(1 << _DAC_OVERRIDE | 1 << _DAC_READ_SEARCH)
    if libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")
