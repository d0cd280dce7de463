"""A process that has imported everything and forks once for each command line it is asked to run.

Started by ``runner.py`` as ``python -m tests.reliability.server SOCKET MODELS``. Each request comes on
a connection of its own: a line of JSON in, the process id as a line out, and when the command has
ended a line with its exit status, what it printed, its time and its peak memory. It ends when its
standard input is closed.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import io
import json
import os
import pkgutil
import resource
import select
import signal
import socket
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn

#: Not parts of mrisr's import graph, and yet loaded during a run.
_LATE_IMPORTS = (
    "PIL.PngImagePlugin",
    "gdcm",
    "jpeg_ls",
    "matplotlib.backends.backend_agg",
    "nibabel",
    "openjpeg",
    "pydicom.pixels",
    "rich.console",
    "scipy.linalg",
    "scipy.signal",
    "SimpleITK",
)
#: Linux capabilities by which root reads and writes what the permissions forbid.
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2


def main(address: str, models: str) -> None:
    """Answer requests at the Unix socket ``address`` until standard input ends."""
    warm_up()
    with socket.socket(socket.AF_UNIX) as listener:
        _build_models(models)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the supervisors
        listener.bind(address)
        listener.listen(16)
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    listener.close()
                    supervise(connection)


def warm_up() -> None:
    """Import all that a command may import, so that a case measures itself and not the imports."""
    import mrisr

    for module in pkgutil.walk_packages(mrisr.__path__, "mrisr."):
        if not module.name.endswith("__main__"):
            with suppress(ImportError):
                importlib.import_module(module.name)
    for name in _LATE_IMPORTS:
        with suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def _build_models(folder: str) -> None:
    """Small models, made in a child, so that the server itself never computes anything."""
    child = os.fork()
    if child == 0:
        from tests.reliability.models import build_models

        _exit_after(lambda: build_models(Path(folder)))
    if os.waitpid(child, 0)[1] != 0:
        raise RuntimeError("the small models could not be made")


def supervise(connection: socket.socket) -> NoReturn:
    """Run one command in a child and report on it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # What runs in the background of a shell is deaf to Ctrl-C; a command under test is not.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def work() -> None:
        with connection.makefile("rw", encoding="utf-8") as wire:
            request = json.loads(wire.readline())
            with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
                began = time.perf_counter()
                started, ready = os.pipe()
                child = os.fork()
                if child == 0:
                    connection.close()
                    os.close(started)
                    run(request, out, err, ready)
                os.close(ready)
                start_kib = int(os.read(started, 32) or b"0")
                print(json.dumps({"pid": child}), file=wire, flush=True)
                _, status, usage = os.wait4(child, 0)
                answer = {
                    "code": os.waitstatus_to_exitcode(status),
                    "seconds": time.perf_counter() - began,
                    "cpu_seconds": usage.ru_utime + usage.ru_stime,
                    "peak_mib": max(0.0, (usage.ru_maxrss - start_kib) / 1024),
                    "stdout": _text(out),
                    "stderr": _text(err),
                }
                print(json.dumps(answer), file=wire, flush=True)

    _exit_after(work)


def run(request: dict[str, Any], out: IO[bytes], err: IO[bytes], ready: int) -> NoReturn:
    """In the child: take on the request's surroundings and be the command line."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False), encoding="utf-8")  # noqa: SIM115
    sys.stderr = io.TextIOWrapper(
        open(2, "wb", closefd=False),  # noqa: SIM115
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )
    os.chdir(request["folder"])
    os.environ.update(request["env"])
    sys.argv = ["mrisr", *request["arguments"]]
    if request["unprivileged"]:
        _drop_override()
    if request["file_mib"] is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does at its own start
        _limit(resource.RLIMIT_FSIZE, int(request["file_mib"] * 2**20))
    if request["memory_mib"] is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        held = pages * resource.getpagesize()
        _limit(resource.RLIMIT_AS, held + int(request["memory_mib"] * 2**20))
    os.write(ready, str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss).encode())
    os.close(ready)

    def work() -> None:
        if request["prepare"]:
            module, _, name = request["prepare"].partition(":")
            getattr(importlib.import_module(module), name)()
        from mrisr.cli import main as command_line

        command_line()

    _exit_after(work)


def _exit_after(work: Any) -> NoReturn:
    """End this process as the interpreter would after ``work``, without its parent's clean-up."""
    code: object = 0
    try:
        work()
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
        code = 1
    with suppress(Exception):
        sys.stdout.flush()
    with suppress(Exception):
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _limit(what: int, value: int) -> None:
    resource.setrlimit(what, (value, value))


def _drop_override() -> None:
    """Make permissions count for root too (Linux); for any other user they count anyway."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; low words, high words
    if libc.capget(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    for i in range(3):
        sets[i] &= ~(1 << _DAC_OVERRIDE | 1 << _DAC_READ_SEARCH)
    if libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", errors="replace")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
