"""Reads damaged files in a process of its own, where a crash, a hang or a flood of memory is an answer.

The process has imported every library before the first file, so that a file costs milliseconds; it is
started again after each that ends it.
"""

from __future__ import annotations

import atexit
import faulthandler
import hashlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

from tests.reliability.case import Skipped

ROOT = Path(__file__).resolve().parents[2]
#: What one file may cost.
SECONDS, MEBIBYTES = 10.0, 1024
_START_S = 120.0
READ = "mrisr.io:read_volume"


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
        read: ``module:function`` that takes a path and options and returns a Volume.
        seconds: the longest a file may take.
        mebibytes: memory that may be taken beyond what the imports took.
    """

    def __init__(
        self,
        read: str = READ,
        *,
        seconds: float = SECONDS,
        mebibytes: int = MEBIBYTES,
    ) -> None:
        if not Path("/proc/self/statm").exists():
            raise Skipped("memory is limited and measured as Linux does it")
        self._read, self._seconds, self._mebibytes = read, seconds, mebibytes
        self._process: subprocess.Popen[bytes] | None = None
        self._noise: IO[bytes] | None = None
        self._answers = -1

    def __call__(self, path: Path, **options: object) -> Answer:
        """What became of ``path``."""
        if self._process is None:
            self._start()
        answer = self._ask({"path": str(path), "options": options}, self._seconds)
        if answer is not None:
            return Answer(**answer)
        return Answer("failed", self._buried())

    def close(self) -> None:
        """End the process."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        os.close(self._answers)
        assert self._noise is not None
        self._noise.close()
        self._process = None

    def _start(self) -> None:
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115
        self._answers, theirs = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.worker", self._read]
            + [str(self._mebibytes), str(theirs)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=self._noise,
            stderr=self._noise,
            pass_fds=[theirs],
            # Each warning counts, not only the first of its kind.
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
                "PYTHONWARNINGS": "always",
            },
        )
        os.close(theirs)
        if self._ask(None, _START_S) is None:
            raise RuntimeError(f"the worker did not start: {self._buried()}")

    def _ask(self, request: dict[str, Any] | None, seconds: float) -> dict[str, Any] | None:
        """The answer to a request; None where there is none in time, or ever."""
        assert self._process is not None
        assert self._process.stdin is not None
        if request is not None:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        deadline, line = time.monotonic() + seconds, b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                return None
            block = os.read(self._answers, 1 << 16)
            if not block:
                return None
            line += block
        return json.loads(line)

    def _buried(self) -> str:
        """Why the process gave no answer. It is gone after that."""
        assert self._process is not None
        try:
            code = self._process.wait(0.2)
        except subprocess.TimeoutExpired:
            self.close()
            return f"hung for {self._seconds:g} s"
        assert self._noise is not None
        self._noise.seek(0)
        words = self._noise.read().decode(errors="replace").split()
        self.close()
        how = f"crashed {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
        return f"{how}: {' '.join(words)[:300]}"


@cache
def reader() -> Worker:
    """The worker that all cases share."""
    worker = Worker()
    atexit.register(worker.close)
    return worker


def main() -> None:
    """Answer the paths on standard input, one JSON line for each."""
    where, mebibytes, answers = sys.argv[1:]
    faulthandler.enable()
    if where == READ:
        warm()
    module, _, name = where.partition(":")
    read = getattr(importlib.import_module(module), name)
    _limit(int(mebibytes))
    with os.fdopen(int(answers), "w") as out:
        print("{}", file=out, flush=True)
        for line in sys.stdin:
            request = json.loads(line)
            print(json.dumps(_answer(read, **request)), file=out, flush=True)


def warm() -> None:
    """Import what any file may need, so that no file pays for it."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

    for syntax in (JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless):
        assert get_decoder(syntax).is_available
    for module in ("dicom", "itk", "nifti"):
        importlib.import_module(f"mrisr.io.{module}")


def _limit(mebibytes: int) -> None:
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + (mebibytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _answer(read: Callable[..., Any], path: str, options: dict[str, Any]) -> dict[str, str]:
    from mrisr.core.errors import InputError

    try:
        kind, detail = _seen(read(Path(path), **options))
    except InputError as error:
        kind, detail = _refusal(error, path)
    except BaseException as error:
        kind, detail = "failed", f"{type(error).__name__}: {error}"
    sys.stdout.flush()
    sys.stderr.flush()
    noise = os.lseek(1, 0, os.SEEK_CUR)
    if noise:
        os.lseek(1, 0, os.SEEK_SET)
        text = os.read(1, noise).decode(errors="replace")
        os.ftruncate(1, 0)
        os.lseek(1, 0, os.SEEK_SET)
        kind, detail = "failed", f"printed {text[:200]!r}, then {kind}: {detail}"
    return {"kind": kind, "detail": detail}


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


if __name__ == "__main__":
    main()
