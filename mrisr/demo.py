"""``mrisr demo``: a digital phantom study, upsampled both ways, with the truth beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrisr import cache, metrics
from mrisr.inference.measurement import Measurement, measure_in_plane, measure_through_plane
from mrisr.inference.options import Options
from mrisr.inference.record import describe_in_a_line, make_record
from mrisr.inference.volumes import Restored, upsample_in_plane, upsample_through_plane
from mrisr.io import write_json, write_volume
from mrisr.io.atomic import make_folder
from mrisr.phantom import phantom, phantom_affine
from mrisr.qc import qc_picture
from mrisr.volume import Volume

SCALE, FACTOR = 4.0, 6.0
SEED = 7


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
    options = Options(device=device)
    report("making the phantom")
    lines = []
    for name, truth in truths(share).items():
        report(f"upsampling: {name}")
        study = measured(truth, name)
        if name.startswith("inplane"):
            restored = upsample_in_plane(study, SCALE, options)
        else:
            restored = upsample_through_plane(study, options, factor=FACTOR)
        lines.append(_write(output, name, study, truth, restored))
    head = f"{'phantom':<18}{'interpolated':>18}{'super-resolved':>18}{'gain':>10}"
    return "\n".join(
        [head, *lines, f"pictures: {output / 'inplane-x4.png'}, {output / 'throughplane-x6.png'}"]
    )


def truths(share: float) -> dict[str, Volume]:
    """The phantom on the fine grid of each job, within ``share`` of the demo's field of view."""
    pixels = int(SCALE) * round(60 * share)
    flat = phantom((pixels, pixels, 10), spacing=(0.5, 0.5, 3.0), seed=SEED)
    shape = (round(160 * share), round(160 * share), 96)
    grid = phantom_affine(shape, spacing=(0.6, 0.6, 0.6))
    deep = phantom(shape, grid, seed=SEED, slice_thickness=0.6)
    return {"inplane-x4": flat, "throughplane-x6": deep}


def measured(truth: Volume, name: str) -> Volume:
    """The coarse study that the demo's scanner would have made of ``truth``."""
    coarse = _coarse_grid(truth, name)
    through = truth.slice_axis
    measurement = _measurement(coarse, name)
    order = measurement.order
    x = torch.from_numpy(truth.array.transpose(order).astype(np.float32))
    y = measurement.apply(measurement.operator, x).numpy().transpose(np.argsort(order))
    array = np.clip(np.rint(y), 0, None).astype(truth.storage.dtype)
    thickness = float(coarse.spacing[through])
    return Volume(
        array, coarse.affine, truth.storage, slice_thickness=thickness, name=f"phantom_{name}"
    )


def _coarse_grid(truth: Volume, name: str) -> Volume:
    """An empty volume on the coarse grid."""
    from mrisr import geometry

    inplane = name.startswith("inplane")
    through = truth.slice_axis
    factors = [
        1.0 if (a == through) == inplane else 1 / (SCALE if inplane else FACTOR) for a in range(3)
    ]
    shape, affine = geometry.resampled_grid(truth.shape, truth.affine, factors)
    return Volume(np.zeros(shape, truth.storage.dtype), affine, truth.storage)


def _measurement(coarse: Volume, name: str) -> Measurement:
    if name.startswith("inplane"):
        return measure_in_plane(coarse, SCALE, "bicubic")
    return measure_through_plane(coarse, FACTOR, "gaussian", 1.0)


def _write(output: Path, name: str, study: Volume, truth: Volume, restored: Restored) -> str:
    """Volumes, record and picture of one job; returns its line of the table."""
    interpolated = restored.measurement.interpolated()
    record: dict[str, Any] = make_record(name.split("-")[0], restored, 0.0)
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
    offset, scale = cache.scaling(truth.array)
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
