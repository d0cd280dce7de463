"""``mrisr demo``: a digital phantom study, upsampled both ways, with the truth beside it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mrisr import metrics
from mrisr.core.options import KINDS_OF, InPlane, ThroughPlane
from mrisr.core.statistics import scaling
from mrisr.core.volume import Volume, VolumeFile
from mrisr.data.phantom import phantom, phantom_affine
from mrisr.io import write_json, write_volume
from mrisr.io.atomic import make_folder, write_bytes
from mrisr.physics.measurement import Measurement, degraded, noisy
from mrisr.physics.noise import TYPICAL
from mrisr.runs.results import upsample
from mrisr.view.qc import qc_png

SCALE, FACTOR = 4.0, 6.0
SEED = 7


def truths(share: float = 1.0) -> Iterator[tuple[str, Volume, InPlane | ThroughPlane]]:
    """Jobs of the demo: name, the phantom on the fine grid (``share`` of its field of view), settings."""
    pixels = int(SCALE) * round(60 * share)
    flat = phantom((pixels, pixels, 10), spacing=(0.5, 0.5, 3.0), seed=SEED)
    yield "inplane-x4", flat, InPlane(scale=SCALE)
    shape = (round(160 * share), round(160 * share), 96)
    grid = phantom_affine(shape, spacing=(0.6, 0.6, 0.6))
    deep = phantom(shape, grid, seed=SEED, slice_thickness=0.6)
    yield "throughplane-x6", deep, ThroughPlane(factor=FACTOR)


def study_of(truth: Volume, settings: InPlane | ThroughPlane) -> Volume:
    """The coarse study that the demo's scanner makes of the truth, in the truth's storage and with noise."""
    factor = settings.scale if isinstance(settings, InPlane) else FACTOR
    study = noisy(degraded(truth, settings.job, factor, KINDS_OF[settings.job][0]), TYPICAL, SEED)
    stored = truth.storage.encode(study.array.astype(np.float64))
    array = truth.storage.decode(stored)
    return replace(study, array=array, storage=truth.storage, name="phantom")


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
    for name, truth, settings in truths(share):
        report(f"upsampling: {name}")
        lines.append(_upsampled(output, name, truth, replace(settings, device=device)))
    lines.append(f"pictures: {output / 'inplane-x4.png'}, {output / 'throughplane-x6.png'}")
    return "\n".join(lines)


def _upsampled(output: Path, name: str, truth: Volume, settings: InPlane | ThroughPlane) -> str:
    """Write volumes, record and picture of one job; returns its line of the table."""
    study = study_of(truth, settings)
    made = upsample(VolumeFile(study), settings)
    measurement = made.measurement
    assert isinstance(measurement, Measurement)
    interpolated = measurement.placed.volume(measurement.interpolated())
    (a, sa), (b, sb) = (score(v, truth) for v in (interpolated, made.volume))
    record = made.record.as_dict()
    del record["seconds"]
    record["phantom_psnr_ssim"] = {"interpolated": (a, sa), "super_resolved": (b, sb)}
    write_volume(study, output / f"study_{name}.nii.gz", force=True)
    write_volume(truth, output / f"truth_{name}.nii.gz", force=True)
    target = output / f"result_{name}.nii.gz"
    write_volume(made.volume, target, force=True, description=made.record.line())
    write_json(output / f"result_{name}.json", record)
    title = f"digital phantom, {name} - interpolated {a:.2f} dB, super-resolved {b:.2f} dB"
    picture = qc_png(made.volume, study, interpolated, title=title, reference=truth)
    write_bytes(output / f"{name}.png", picture)
    before, after = f"{a:.2f} dB / {sa:.4f}", f"{b:.2f} dB / {sb:.4f}"
    return f"{name:<18}{before:>18}{after:>18}{b - a:>+7.2f} dB"


def score(result: Volume, truth: Volume) -> tuple[float, float]:
    """PSNR (dB) and SSIM, means over slices, on the truth's 0..99.5 percentile range."""
    offset, scale = scaling(truth.array)
    stacks = (np.moveaxis(v.array, truth.slice_axis, 0)[:, None] for v in (result, truth))
    x, reference = (
        torch.from_numpy((s.astype(np.float32) - offset) / scale).clamp(0, 1) for s in stacks
    )
    psnr, ssim = (f(x, reference).mean() for f in (metrics.psnr, metrics.ssim))
    return round(float(psnr), 4), round(float(ssim), 4)
