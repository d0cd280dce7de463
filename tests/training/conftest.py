"""A small cache to train from."""

from pathlib import Path

import numpy as np
import pytest

from mrisr.data import cache


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of three patients with axial slices of blobs and stripes."""
    folder = tmp_path_factory.mktemp("cache")
    entries = []
    r, c = np.meshgrid(np.arange(56), np.arange(64), indexing="ij")
    for i, case in enumerate(("one", "two", "held-out")):
        slices = [
            1500 + 900 * np.sin(r / (2 + k) + i) + 900 * np.cos((r + c) / (3 + i)) for k in range(3)
        ]
        stack = cache.Stack(
            case, "t2w", "axial", (3.0, 0.5, 0.5), np.stack(slices).clip(0).astype(np.int16)
        )
        entries.append(cache.write_stack(folder, stack, i))
    cache.write_index(folder, entries)
    return folder


@pytest.fixture
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw no curves: drawing takes longer than a training of a few steps."""
    monkeypatch.setattr("mrisr.training.loop.write_curves", lambda folder: None)
