"""Reads damaged files in a process of its own, where a crash, a hang or a flood of memory is an answer.

The process is a fork of the server of ``runner.py``, so that a file costs milliseconds; it is started again
after each file that ends it.
"""

import atexit
import faulthandler
import hashlib
import importlib
import multiprocessing
import signal
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.reliability.runner import ROOT, Running, printed, start

#: What one file may cost.
SECONDS, MEBIBYTES = 10.0, 1024
_READ = "mrisr.io:read_volume"


@dataclass(frozen=True)
class Answer:
    """What became of one file.

    Attributes:
        kind: ``read``, ``refused``, or ``failed`` for everything that breaks the promise.
        detail: shape, and digest of voxels and grid; the refusal; or what went wrong.
    """

    kind: str
    detail: str


class Worker:
    """A warm process that reads one path after the other.

    Args:
        read: ``module:function`` that takes a path and returns a Volume.
        seconds: the longest a file may take.
        mebibytes: memory that may be taken beyond what the imports took.
    """

    def __init__(
        self, read: str = _READ, *, seconds: float = SECONDS, mebibytes: int = MEBIBYTES
    ) -> None:
        self._read, self._seconds, self._mebibytes = read, seconds, mebibytes
        self._running: Running | None = None

    def __call__(self, path: Path) -> Answer:
        """What became of ``path``."""
        if self._running is None:
            self._wire, there = multiprocessing.Pipe()
            around = {"folder": ROOT, "memory_mib": self._mebibytes}
            self._running = start(answer_all, self._read, there, **around)
            there.close()
        with suppress(OSError, EOFError):
            self._wire.send(str(path))
            if self._wire.poll(self._seconds):
                return Answer(*self._wire.recv())
        outcome = self._running.wait(0.2)
        self._running = None
        if outcome.timed_out:
            return Answer("failed", f"hung for {self._seconds:g} s")
        code, words = outcome.code, " ".join((outcome.stdout + outcome.stderr).split())[:300]
        how = f"crashed {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
        return Answer("failed", f"{how}: {words}")

    def close(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running.process.join()  # at the end its printed lines may be gone already
            self._running = None


@cache
def reader() -> Worker:
    """The worker that all cases share."""
    worker = Worker()
    atexit.register(worker.close)
    return worker


def answer_all(reader: str, wire: Connection) -> None:
    """Answer the paths that come by the wire."""
    faulthandler.enable()
    warnings.simplefilter("always")  # each counts, not only the first of its kind
    module, _, name = reader.partition(":")
    read = getattr(importlib.import_module(module), name)
    while True:
        wire.send(_answer(read, wire.recv()))


def _answer(read: Callable[[Path], Any], path: str) -> tuple[str, str]:
    from mrisr.core.errors import InputError

    try:
        kind, detail = _seen(read(Path(path)))
    except InputError as error:
        kind, detail = _refusal(error, path)
    except BaseException as error:
        kind, detail = "failed", f"{type(error).__name__}: {error}"
    noise = "".join(printed())
    if noise:
        return "failed", f"printed {noise[:200]!r}, then {kind}: {detail}"
    return kind, detail


def _refusal(error: BaseException, path: str) -> tuple[str, str]:
    message = str(error)
    if len(message.splitlines()) != 1 or len(message) > 2000:
        return "failed", f"a refusal in {len(message.splitlines())} lines: {message[:300]!r}"
    if not message.startswith(path):
        return "failed", f"a refusal that names no file: {message[:300]!r}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (MemoryError, RecursionError)):
            return "failed", f"{type(cause).__name__} behind {message[:200]!r}"
        cause = cause.__cause__ or cause.__context__
    return "refused", message


def _seen(volume: Any) -> tuple[str, str]:
    """The digest of a volume, or what it can be known not to be."""
    import numpy as np

    linear = volume.affine[:3, :3]
    steps = np.linalg.norm(linear, axis=0)
    if not np.isfinite(volume.affine).all() or not (steps > 0).all():
        return "failed", f"an affine of {volume.affine.tolist()}"
    if np.abs(linear.T @ linear / np.outer(steps, steps) - np.eye(3)).max() > 1.1e-3:
        return "failed", f"a sheared affine {volume.affine.tolist()}"
    if min(volume.shape) < 1 or not np.isfinite(volume.array).all():
        return "failed", f"voxels of shape {volume.shape}, NaN or infinite"
    digest = hashlib.sha256(repr((volume.shape, volume.array.dtype.str)).encode())
    digest.update(np.ascontiguousarray(volume.array).tobytes())
    digest.update((np.round(volume.affine, 4) + 0.0).tobytes())
    return "read", f"{'x'.join(map(str, volume.shape))} {digest.hexdigest()}"
