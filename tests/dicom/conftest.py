"""Sources, results and derivations for the writers of derived objects."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from mrisr.core import geometry
from mrisr.core.volume import Volume
from mrisr.dicom.derivation import Derivation
from mrisr.dicom.series import storable, write_series
from mrisr.dicom.source import Source, read_source
from mrisr.io import read_volume
from tests.dicom.synthetic import hospital_series

DERIVATION = Derivation(
    label="super-resolved in-plane x2",
    description="Super-resolved in-plane x2 by mrisr 0. Research use only, not for diagnosis.",
    details="model tiny; seed 3",
    version="0",
    model_sha256="ab" * 32,
    seed=3,
    key="tiny x2 seed 3",
    series_offset=81,
    created=datetime(2026, 3, 5, 23, 30, 1, tzinfo=timezone.utc),
)


def upsampled(volume: Volume, factors: tuple[float, float, float]) -> Volume:
    """A stand-in for a result: the nearest voxels on the finer grid of the same field of view."""
    shape, affine = geometry.resampled_grid(volume.shape, volume.affine, factors)
    array = volume.array
    for axis, (n, old) in enumerate(zip(shape, volume.shape, strict=True)):
        nearest = np.clip((np.arange(n) + 0.5) * old / n, 0, old - 1).astype(int)
        array = array.take(nearest, axis=axis)
    between = float(geometry.spacing(affine)[2])
    thickness = volume.slice_thickness if factors[2] == 1 else between
    return replace(volume.with_array(array, affine), slice_thickness=thickness)


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    return hospital_series(tmp_path / "hospital")


@pytest.fixture
def derive(tmp_path: Path) -> Callable[..., tuple[Path, Volume, Source]]:
    """Read a series, upsample it, write it as a derived one; returns folder, volume and source."""

    def run(series, factors=(2, 2, 1), *, name="derived", source=None):
        volume = storable(upsampled(read_volume(series), factors))
        source = source or read_source(series)
        return write_series(volume, tmp_path / name, source, DERIVATION), volume, source

    return run


def tool(name: str) -> str:
    """The path of a program that not every machine has; the test is skipped without it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: dicom3tools, dcmtk, dcm2niix)")
    return found


def errors_of(*command: object) -> list[str]:
    """Lines that a validator begins with Error; its exit code says nothing."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if line.startswith("Error")]


def assert_valid(path: Path) -> None:
    """``dciodvfy`` finds no error in a file."""
    assert errors_of(tool("dciodvfy"), "-new", path) == []
