"""Cores, memory and GPUs of this machine, and the peak memory of one part of a batch."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

#: Share of the memory that jobs may ask for.
_SHARE = 0.9
#: Where Linux states a limit of the memory of a container, in bytes.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_GPUS = ("/dev/nvidia[0-9]*", "/dev/kfd")


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_mb(limits: Sequence[str] = _LIMITS) -> int | None:
    """Memory that jobs may ask for together; None where the system does not tell."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    for path in limits:
        with suppress(OSError, ValueError):
            total = min(total, int(Path(path).read_text()))
    return int(total * _SHARE / 2**20)


def has_gpu() -> bool:
    """Tell whether there is a GPU that PyTorch may find."""
    return any(True for pattern in _GPUS for _ in Path("/").glob(pattern.lstrip("/")))


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
