"""``mrisr demo``: a digital phantom study, upsampled both ways, with the truth beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrisr import metrics
from mrisr.core.geometry import resampled_grid
from mrisr.core.intensity import scaling
from mrisr.core.volume import Volume, VolumeFile
from mrisr.data.phantom import phantom, phantom_affine
from mrisr.io import write_json, write_volume
from mrisr.io.atomic import make_folder
from mrisr.physics.measurement import Measurement, measure_in_plane, measure_through_plane
from mrisr.restore.sampling import Options
from mrisr.restore.volumes import Restored, upsample_in_plane, upsample_through_plane
from mrisr.runs.record import describe_in_a_line, make_record
from mrisr.view.qc import qc_picture

SCALE, FACTOR = 4.0, 6.0
SEED = 7


@dataclass(frozen=True)
class Trial:
    """One job of the demo: the truth, how coarse it is measured, and how it is brought back.

    Attributes:
        truth: the phantom on the fine grid.
        factors: the coarse grid's spacing over the fine one's, along each array axis.
        measure: a volume on the coarse grid as a measurement.
        upsample: the job.
    """

    truth: Volume
    factors: tuple[float, float, float]
    measure: Callable[[Volume], Measurement]
    upsample: Callable[[Volume, Options], Restored]

    def study(self) -> Volume:
        """The coarse study that the demo's scanner makes of the truth."""
        shape, affine = resampled_grid(
            self.truth.shape, self.truth.affine, [1 / f for f in self.factors]
        )
        storage = self.truth.storage
        empty = Volume(np.zeros(shape, storage.dtype), affine, storage)
        measurement = self.measure(empty)
        x = self.truth.array.transpose(measurement.order).astype(np.float32)
        y = measurement.apply(measurement.operator, torch.from_numpy(x)).numpy()
        array = storage.encode(y.transpose(np.argsort(measurement.order)))
        thickness = float(empty.spacing[empty.slice_axis])
        return replace(empty, array=array, slice_thickness=thickness, name="phantom")


def trials(share: float = 1.0) -> dict[str, Trial]:
    """The demo's jobs by name, on ``share`` of its field of view."""
    pixels = int(SCALE) * round(60 * share)
    flat = phantom((pixels, pixels, 10), spacing=(0.5, 0.5, 3.0), seed=SEED)
    shape = (round(160 * share), round(160 * share), 96)
    grid = phantom_affine(shape, spacing=(0.6, 0.6, 0.6))
    deep = phantom(shape, grid, seed=SEED, slice_thickness=0.6)
    return {
        "inplane-x4": Trial(
            flat,
            (SCALE, SCALE, 1.0),
            lambda volume: measure_in_plane(volume, SCALE, "bicubic"),
            lambda volume, options: upsample_in_plane(volume, SCALE, options),
        ),
        "throughplane-x6": Trial(
            deep,
            (1.0, 1.0, FACTOR),
            lambda volume: measure_through_plane(volume, FACTOR, "gaussian", 1.0),
            lambda volume, options: upsample_through_plane(volume, options, factor=FACTOR),
        ),
    }


def run_demo(
    output: Path,
    *,
    device: str = "auto",
    share: float = 1.0,
    report: Callable[[str], None] = lambda line: None,
) -> str:
    """Make the phantom, measure it coarsely, upsample it, and write all of it to ``output``.

    Two studies: one with coarse pixels (the phantom's 0.5 mm slices through the in-plane
    operator) and one with thick slices (through the slice profile). Volumes, records and pictures
    go to ``output``, earlier ones of a demo are replaced. ``share`` (of the field of view) below 1
    is for those in a hurry.

    Returns:
        A table of PSNR and SSIM against the phantom.
    """
    make_folder(output)
    report("making the phantom")
    lines = [f"{'phantom':<18}{'interpolated':>18}{'super-resolved':>18}{'gain':>10}"]
    for name, trial in trials(share).items():
        report(f"upsampling: {name}")
        study = trial.study()
        restored = trial.upsample(study, Options(device=device))
        lines.append(_write(output, name, study, trial.truth, restored))
    lines.append(f"pictures: {output / 'inplane-x4.png'}, {output / 'throughplane-x6.png'}")
    return "\n".join(lines)


def _write(output: Path, name: str, study: Volume, truth: Volume, restored: Restored) -> str:
    """Volumes, record and picture of one job; returns its line of the table."""
    interpolated = restored.measurement.interpolated()
    record: dict[str, Any] = make_record(name.split("-")[0], restored, VolumeFile(study), 0.0)
    del record["seconds"]
    scores = [score(v, truth) for v in (interpolated, restored.volume)]
    record["phantom_psnr_ssim"] = {"interpolated": scores[0], "super_resolved": scores[1]}
    write_volume(study, output / f"study_{name}.nii.gz", force=True)
    write_volume(truth, output / f"truth_{name}.nii.gz", force=True)
    target = output / f"result_{name}.nii.gz"
    write_volume(restored.volume, target, force=True, description=describe_in_a_line(record))
    write_json(output / f"result_{name}.json", record)
    (a, sa), (b, sb) = scores
    title = f"digital phantom, {name}: interpolated {a:.2f} dB, super-resolved {b:.2f} dB"
    qc_picture(
        restored.volume, study, interpolated, output / f"{name}.png", title=title, reference=truth
    )
    return (
        f"{name:<18}{f'{a:.2f} dB / {sa:.4f}':>18}{f'{b:.2f} dB / {sb:.4f}':>18}{b - a:>+7.2f} dB"
    )


def score(result: Volume, truth: Volume) -> tuple[float, float]:
    """PSNR (dB) and SSIM, means over slices, on the truth's 0..99.5 percentile range."""
    offset, scale = scaling(truth.array)
    axis = truth.slice_axis
    x, reference = (
        torch.from_numpy(
            np.moveaxis((v.array.astype(np.float32) - offset) / scale, axis, 0).copy()
        ).clamp(0, 1)
        for v in (result, truth)
    )
    psnr = metrics.psnr(x[:, None], reference[:, None])
    ssim = metrics.ssim(x[:, None], reference[:, None])
    return round(float(psnr.mean()), 4), round(float(ssim.mean()), 4)
