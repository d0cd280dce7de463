"""What every test shares: quiet plots, a sensible number of threads, and the optional real data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["MPLBACKEND"] = "Agg"
# Set before torch loads. Many containers show more cores than they may use; four are plenty here.
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
os.environ.setdefault("OMP_NUM_THREADS", str(min(4, _CORES)))

# The same examples in every run, and no deadline: the first call of a kernel may be slow.
settings.register_profile("mrisr", deadline=None, derandomize=True)
settings.load_profile("mrisr")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real patients that may lie beside the checkout; elsewhere the test is skipped."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"needs the development data in {folder}, which are not part of the repository")
    return folder
