"""What neighbouring reformats know of each other's noise: ``python docs/scripts/neighbours.py``.

Prints the table of docs/explanation/consistency.md: on phantoms whose truth is known, degraded to x6 with
Rician noise, what a second family of reformats, a further pass by the in-plane network, agreement enforced by
conjugate gradients and a mean of adjacent reformats are worth.
"""

import argparse
import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mrisr.core.options import Sampling
from mrisr.core.volume import Volume
from mrisr.data.phantom import phantom
from mrisr.models.store import load_model
from mrisr.physics.measurement import (
    Measurement,
    degraded,
    measure_in_plane,
    measure_through_plane,
    noisy,
)
from mrisr.physics.noise import grain
from mrisr.planes.joint import join
from mrisr.restore import restore

SHAPE, FINE, FACTOR = (160, 160, 96), 0.6, 6
SAMPLING = Sampling(device="cpu")


def psnr(found: Tensor, truth: Tensor) -> float:
    """On the range -1..1, without the edges of the field."""
    inner = (slice(8, -8),) * 3
    error = (found - truth)[inner].clamp(-2, 2)
    return float(-10 * torch.log10(error.square().mean() / 4))


def again_in_plane(measurement: Measurement, volume: Volume) -> Tensor:
    """The result's axial slices, denoised by the in-plane network at scale 1 and projected once more."""
    seen = measure_in_plane(volume, 1.0).with_estimated_noise()
    denoised = restore(seen, load_model("partdiff-inplane"), replace(SAMPLING, consistency=0))
    stack = measurement.placed.stack(denoised.volume)
    return measurement.project(stack)


def adjacent(stack: Tensor) -> Tensor:
    """A mean of neighbouring columns and of neighbouring rows, 1/4, 1/2, 1/4."""
    for dim in (1, 2):
        stack = stack / 2 + (stack.roll(1, dim) + stack.roll(-1, dim)) / 4
    return stack


def scores(seed: int, noise: float) -> dict[str, tuple[float, float, float]]:
    """PSNR in dB, noise over the scan's, and seconds, by the name of the way."""
    truth = phantom(SHAPE, spacing=(FINE,) * 3, seed=seed, dtype=np.float32)
    truth = replace(truth, stacked_along=2)
    scan = noisy(degraded(truth, "throughplane", FACTOR, "gaussian"), noise, seed)
    measured = measure_through_plane(scan, FACTOR).with_estimated_noise()
    model = load_model("partdiff-throughplane")
    exact, level = measured.placed.stack(truth), grain(measured.y)
    found: dict[str, tuple[float, float, float]] = {}

    def score(name: str, stack: Tensor, began: float) -> None:
        seconds = time.process_time() - began
        found[name] = (psnr(stack, exact), grain(stack) / max(level, 1e-9), seconds)

    for name, views in (("one family", measured.views[:1]), ("two families", measured.views)):
        began = time.process_time()
        result = restore(replace(measured, views=views), model, SAMPLING)
        score(name, result.stack, began)
    took = found["two families"][2]
    began = time.process_time() - took
    score(
        "two families, the in-plane network after", again_in_plane(measured, result.volume), began
    )
    began = time.process_time() - took
    score(
        "two families, mean of adjacent reformats", measured.project(adjacent(result.stack)), began
    )
    began = time.process_time()
    joint = join([measured], model, SAMPLING, FINE, register=False)
    score("posterior mean of one stack", measured.placed.stack(joint.volume), began)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phantoms", type=int, default=3)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.02, 0.05])
    asked = parser.parse_args()
    for noise in asked.noise:
        every = [scores(seed, noise) for seed in range(asked.phantoms)]
        print(f"\nnoise {noise:.0%} of the range, {asked.phantoms} phantoms of {SHAPE} voxels\n")
        print("| | PSNR dB | noise, result to scan | seconds |\n|---|---|---|---|")
        for name in every[0]:
            mean = np.mean([e[name] for e in every], axis=0)
            print(f"| {name} | {mean[0]:.2f} | {mean[1]:.2f} | {mean[2]:.1f} |")


if __name__ == "__main__":
    main()
