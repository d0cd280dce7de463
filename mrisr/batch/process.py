"""The process of a chunk, and what to do when it dies at a study.

Libraries crash, and systems kill processes that need too much memory. So the studies of a chunk are worked on
by a child process; when that dies, another one goes on, and what has brought two of them down is given up.
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mrisr.batch.names import out_of
from mrisr.batch.run import studies_of
from mrisr.batch.status import read_status
from mrisr.core.errors import MrisrError

#: Works on a chunk in its own process.
COMMAND = (sys.executable, "-m", "mrisr", "chunk", "--alone")
_PR_SET_PDEATHSIG = 1
#: Seconds that a process has to end cleanly once it is told to.
PATIENCE_S = 25.0


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
