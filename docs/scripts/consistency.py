"""What each part of the projection onto the measurement does, on the digital phantom.

Run it with ``python docs/scripts/consistency.py``; it needs no model and a few seconds, and prints
the table of docs/explanation/consistency.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mrisr.core.options import InPlane
from mrisr.data.phantom import phantom
from mrisr.demo import study_of
from mrisr.physics.measurement import Measurement, measure_in_plane


def row(name: str, measurement: Measurement, x: Tensor) -> str:
    """Residual of an estimate, and of the file that it becomes, as shares of the intensity range."""
    y = measurement.y
    before = (measurement.apply(measurement.operator, x) - y).double().square().mean().sqrt() / 2
    stored = measurement.residual(measurement.placed.volume(x.clone()))["rms_of_range"]
    return f"| {name} | {float(before):.1e} | {stored:.1e} |"


def main() -> None:
    """Print the table as Markdown."""
    truth = phantom((240, 240, 4), spacing=(0.5, 0.5, 3.0), seed=7)
    study = study_of(truth, InPlane(scale=4.0))
    measurement = measure_in_plane(study, 4.0, "bicubic")
    y, x = measurement.y, measurement.interpolated()
    rough = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    print(f"storage {study.storage.dtype}, lowest voxel {study.array.min()}")
    print("| estimate | as computed | as stored |")
    print("|---|---|---|")
    print(row("interpolation with noise added", measurement, rough))
    print(row("one projection", measurement, measurement.operator.project(rough, y)))
    print(row("projection within bounds", measurement, measurement.project(rough, 1.0)))


if __name__ == "__main__":
    main()
