"""What adapting a model to a scan gains: the tables of docs/how-to/adapt-to-a-scan.md.

``python docs/scripts/adapt.py JOB VOLUME...`` degrades every volume, with noise at its own level, restores it
without and with ``--minutes`` of adaptation, and prints PSNR and SSIM against what it was. ``--model NAME``
names another model.

In the plane the degraded scan itself is what the model is adapted to, and so it is through the plane for a
volume of even voxels. Of a stack of thick slices nobody knows what lies between them: the model is adapted to
the first half of them as they were measured, and restores the others, degraded along their rows.

``--peer FOLDER`` leaves what was measured of a volume there, as ``NAME/t2w_ax.nii.gz``, and scores what
another program that learns from one volume has made of it, ``NAME.nii.gz`` (docs/scripts/peers/eclare.py).
"""

import argparse
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mrisr import metrics
from mrisr.core.options import KINDS_OF, Job
from mrisr.core.statistics import DARK, scaling
from mrisr.core.volume import Volume
from mrisr.evaluation.degraded import central, cut, degraded_shape
from mrisr.io import read_volume, write_volume
from mrisr.models.store import Model, load_model
from mrisr.physics.measurement import (
    Measurement,
    degraded,
    measure_in_plane,
    measure_through_plane,
    noise_level,
    noisy,
)
from mrisr.planes.reconstruction import brought
from mrisr.restore import restore
from mrisr.training.adapt import adapted

#: Largest edge of what is restored, and spacing over pixel from which on a volume is a stack of thick slices.
EDGE, THICK = 320, 1.5


class Task(NamedTuple):
    """What a model is adapted to, what it then restores, and what that was."""

    known: Measurement
    measured: Measurement
    truth: Volume


def scaled(path: Path) -> Volume:
    """A volume on 0..1, cut to its 0..99.5 percentile range, its central part of at most ``EDGE`` pixels."""
    volume = read_volume(path)
    offset, span = scaling(volume.array)
    array = ((volume.array.astype(np.float32) - offset) / span).clip(0, 1)
    volume = replace(volume, array=array, stacked_along=volume.slice_axis)
    size = [n if a == volume.slice_axis else min(n, EDGE) for a, n in enumerate(volume.shape)]
    return central(volume, size)


def task(volume: Volume, job: Job, factor: float) -> Task:
    """The task that a volume sets."""
    level, kind, through = noise_level(volume), KINDS_OF[job][0], volume.slice_axis
    settings: Any = SimpleNamespace(job=job)

    def made(truth: Volume) -> tuple[Measurement, Volume]:
        truth = central(truth, degraded_shape(truth, settings, factor))
        coarse = noisy(degraded(truth, job, factor, kind), level)
        measure = measure_in_plane if job == "inplane" else measure_through_plane
        return replace(measure(coarse, factor, kind), noise=level), truth

    pixels = np.delete(volume.spacing, through)
    if job == "inplane" or volume.spacing[through] < THICK * pixels.min():
        measured, truth = made(volume)
        return Task(measured, measured, truth)
    half = volume.shape[through] // 2
    known = measure_through_plane(cut(volume, through, 0, half), factor, kind)
    rows = min(a for a in range(3) if a != through)
    rest = cut(volume, through, half + 1, volume.shape[through])
    measured, truth = made(replace(rest, stacked_along=rows))
    return Task(replace(known, noise=level), measured, truth)


def images(volume: Volume, measured: Measurement) -> Tensor:
    """A volume's slices in the plane that a job works in, ``(n, 1, h, w)`` on 0..1."""
    stack = torch.from_numpy(volume.array.transpose(measured.placed.order).astype(np.float32))
    across = 3 - measured.views[0] if measured.views else 0
    return stack.movedim(across, 0)[:, None].clamp(0, 1)


def figures(result: Volume, found: Task) -> dict[str, float]:
    """Mean PSNR and SSIM of a result's images, and the PSNR of all voxels that show something: empty
    background rewards who leaves no grain there."""
    pair = [images(v, found.measured) for v in (result, found.truth)]
    measures = {"psnr": metrics.psnr, "ssim": metrics.ssim}
    batches = list(zip(*(x.split(8) for x in pair), strict=True))
    means = {k: float(torch.cat([f(*b) for b in batches]).mean()) for k, f in measures.items()}
    error = (pair[0] - pair[1])[pair[1] > DARK].double()
    return means | {"tissue": float(-10 * error.square().mean().log10())}


def of_peer(folder: Path, name: str, found: Task) -> str | None:
    """A row's text of what another program has made; what it needs is written where it has made nothing."""
    made, needed = folder / f"{name}.nii.gz", folder / name / "t2w_ax.nii.gz"
    if made.exists():
        volume = read_volume(made)
        array = brought(volume, found.truth.shape, found.truth.affine, np.eye(4)).numpy()
        score = figures(found.truth.with_array(array), found)
        return f"by another program: {', '.join(f'{k} {v:.4f}' for k, v in score.items())}"
    needed.parent.mkdir(parents=True, exist_ok=True)
    write_volume(found.measured.placed.measured, needed, force=True)
    return None


def interpolated(job: Job) -> Model:
    """The interpolation that a job begins with."""
    return load_model("bicubic" if job == "inplane" else "bspline")


def main() -> None:
    """Print a row for each volume as it is done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("job", choices=("inplane", "throughplane"))
    parser.add_argument("volumes", nargs="+", type=Path)
    parser.add_argument("--factor", type=float, help="default: 2 in the plane, 6 through it")
    parser.add_argument("--model", help="default: the job's")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--steps", type=int, help="instead of minutes")
    parser.add_argument("--peer", type=Path, help="folder of another program's volumes")
    asked = parser.parse_args()
    factor = asked.factor or (2.0 if asked.job == "inplane" else 6.0)
    model = load_model(asked.model or f"partdiff-{asked.job}")
    budget = {"steps": asked.steps} if asked.steps else {"minutes": asked.minutes}
    print(
        "| volume | noise | interpolated | as released | adapted | gain | SSIM | PSNR of tissue |"
        " held-back slices | steps |"
    )
    print("|---" * 10 + "|")
    for path in asked.volumes:
        found = task(scaled(path), asked.job, factor)
        name = path.parent.name or path.stem
        if asked.peer and (said := of_peer(asked.peer, name, found)):
            print(f"<!-- {name} {said} -->", flush=True)
        base, before = (
            figures(restore(found.measured, m).volume, found)
            for m in (interpolated(asked.job), model)
        )
        new, report = adapted(model, [found.known], **budget)
        after = before
        if report.kept:
            after = figures(restore(found.measured, new).volume, found)
        cells = [
            name,
            f"{100 * found.measured.noise:.1f}%",
            f"{base['psnr']:.2f}",
            f"{before['psnr']:.2f}",
            f"{after['psnr']:.2f}" if report.kept else "(not kept)",
            f"{after['psnr'] - before['psnr']:+.2f} dB",
            f"{before['ssim']:.4f} to {after['ssim']:.4f}",
            ", ".join(f"{x['tissue']:.2f}" for x in (base, before, after)),
            f"{report.psnr_after - report.psnr_before:+.2f} dB",
            f"{report.steps}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
