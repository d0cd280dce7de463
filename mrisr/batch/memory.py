"""Peak memory of one part of a batch, where the system tells."""

from __future__ import annotations

import sys
from pathlib import Path

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def start_measuring() -> bool:
    """Let peak memory be counted from here on; False where the system cannot do that."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    try:
        _CLEAR.write_text("5")  # resets the peak resident set of this process, see proc(5)
    except OSError:
        return False
    return True


def peak_memory_gib() -> dict[str, float] | None:
    """Peak resident memory of the process since then, and of a CUDA device that it uses, in GiB."""
    try:
        lines = _STATUS.read_text().splitlines()
        kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None
    peak = {"process": round(kib / 2**20, 3)}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        peak["device"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
    return peak
