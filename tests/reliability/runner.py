"""Runs the command line in a process of its own, and tells what came of it.

A server that has imported everything forks for each run (``server.py``), so that a run costs a tenth of
a second, and its time and memory are its own and not those of the imports.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.reliability.case import Skipped

ROOT = Path(__file__).resolve().parents[2]
_START_S = 120


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        code: the exit code; minus the signal's number where a signal ended the process.
        stdout, stderr: what it printed.
        seconds: from its start to its end, imports not counted.
        cpu_seconds: of a processor, which other load does not lengthen.
        peak_mib: the most memory it held beyond what it held at its start.
        timed_out: it was killed because it did not end in time.
    """

    code: int
    stdout: str
    stderr: str
    seconds: float
    cpu_seconds: float
    peak_mib: float
    timed_out: bool = False


@dataclass
class Running:
    """A command line that has been started."""

    pid: int
    _wire: Any = field(repr=False)
    _connection: socket.socket = field(repr=False)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the process and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(self, seconds: float = 120) -> Outcome:
        """How it ended; it is killed if that takes longer than ``seconds``."""
        timed_out = False
        self._connection.settimeout(seconds)
        try:
            line = self._wire.readline()
        except TimeoutError:
            timed_out = True
            self.kill()
            self._connection.settimeout(10)
            # A timeout spoils the reader of a socket, so a second one takes over.
            with self._connection.makefile("r", encoding="utf-8") as wire:
                line = wire.readline()
        self._wire.close()
        self._connection.close()
        return Outcome(**json.loads(line), timed_out=timed_out)


def start_cli(
    arguments: Sequence[object],
    folder: Path,
    *,
    env: Mapping[str, str] | None = None,
    memory_mib: float | None = None,
    file_mib: float | None = None,
    unprivileged: bool = False,
    prepare: str | None = None,
) -> Running:
    """Start ``mrisr ARGUMENTS`` in ``folder``, on the CPU, with the small models of ``models.py``.

    Args:
        arguments: what stands after ``mrisr``.
        folder: the working folder.
        env: further environment variables.
        memory_mib: address space it may take beyond what it has at its start.
        file_mib: the largest file it may write; more fails as a full disk does (EFBIG).
        unprivileged: file permissions count even for root.
        prepare: ``module:function``, called in the process before the command line runs.
    """
    address, models = _server()
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_START_S)
    connection.connect(address)
    wire = connection.makefile("rw", encoding="utf-8")
    request = {
        "arguments": [os.fspath(a) if isinstance(a, Path) else str(a) for a in arguments],
        "folder": str(folder),
        "env": {"MRISR_MODELS": models, **(env or {})},
        "memory_mib": memory_mib,
        "file_mib": file_mib,
        "unprivileged": unprivileged,
        "prepare": prepare,
    }
    print(json.dumps(request), file=wire, flush=True)
    return Running(json.loads(wire.readline())["pid"], wire, connection)


def run_cli(
    arguments: Sequence[object], folder: Path, *, seconds: float = 120, **more: Any
) -> Outcome:
    """Run ``mrisr ARGUMENTS`` to its end, or to ``seconds``; the rest as in ``start_cli``."""
    return start_cli(arguments, folder, **more).wait(seconds)


def wait_for(path: Path, seconds: float = 60) -> None:
    """Return when a file has appeared, which tells that something has begun."""
    deadline = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.0005)


def models_folder() -> Path:
    """Where the small models of this session lie; copy them before changing them."""
    return Path(_server()[1])


@cache
def _server() -> tuple[str, str]:
    """Socket address and models folder of the server, started at the first use."""
    if not hasattr(os, "fork") or not Path("/proc/self/statm").exists():
        raise Skipped("runs are started by fork and measured through /proc, which is Linux")
    folder = Path(tempfile.mkdtemp(prefix="mrisr-reliability-"))
    address, models = folder / "socket", folder / "models"
    models.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.reliability.server", str(address), str(models)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MPLBACKEND": "Agg",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONUTF8": "1",
            "NO_COLOR": "1",
        },
    )
    atexit.register(_stop, process, folder)
    deadline = time.monotonic() + _START_S
    while not address.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the server of the command line did not start")
        time.sleep(0.05)
    return str(address), str(models)


def _stop(process: subprocess.Popen[bytes], folder: Path) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)
