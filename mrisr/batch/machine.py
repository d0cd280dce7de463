"""What this machine has for jobs that run on it, without the libraries that would tell more."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

#: Share of the memory that jobs may ask for.
_SHARE = 0.9
#: Where Linux states a limit of the memory of a container, in bytes.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
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
    """Whether there is a GPU that PyTorch may find."""
    return any(True for pattern in _GPUS for _ in Path("/").glob(pattern.lstrip("/")))
