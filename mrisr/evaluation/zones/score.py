"""Scores of the zones as figures, and a picture of where the segmentation lies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mrisr import metrics
from mrisr.config import Job
from mrisr.core.intensity import scaling
from mrisr.core.volume import Volume
from mrisr.evaluation.case import COST_METRICS, Metric
from mrisr.view import qc
from mrisr.zones.picture import gland_centre
from mrisr.zones.score import ZoneScore

#: Figures of a zone; for Hausdorff's and the surface distance see :mod:`mrisr.zones.score`.
ZONE_METRICS = {
    "dice": Metric("Dice", ".3f", 1, True),
    "hd95_mm": Metric("HD95 mm", ".1f", -1, True),
    "asd_mm": Metric("ASD mm", ".2f", -1, True),
    "volume_bias_ml": Metric("bias ml", "+.1f", 0, True),
}
#: Figures of the stack.
STACK_METRICS = {
    "psnr": Metric("PSNR dB", ".2f", 1, True),
    "cpu_seconds": COST_METRICS["cpu_seconds"],
}
#: Image that was not restored, which the tables have beside the methods, by the kind of scale.
ORIGINAL = {"degraded": "original image", "measured": "measured stack"}
#: Side of the square that the pictures show and of its pixels, mm.
EXTENT_MM, PIXEL_MM = 80.0, 0.4


def figures_of(scores: Mapping[str, ZoneScore], kind: str = "") -> dict[str, float]:
    """Scores by names such as ``PZ.dice``, or ``PZ.agreement.dice`` for the kind ``agreement.``"""
    return {f"{z}.{kind}{name}": v for z, s in scores.items() for name, v in asdict(s).items()}


def psnr_of_gland(result: Volume, reference: Volume, labels: Volume) -> float:
    """PSNR in dB within the box that holds the labels, mean over its slices, intensities scaled to the
    reference's 0..99.5 percentile range; NaN where nothing is labelled."""
    held = np.nonzero(labels.array)
    if not len(held[0]):
        return math.nan
    box = tuple(slice(a.min(), a.max() + 1) for a in held)
    low, span = scaling(reference.array)
    images = []
    for volume in (result, reference):
        slices = np.moveaxis(volume.array[box], reference.slice_axis, 0).astype(np.float32)
        images.append(torch.from_numpy((slices - low) / span).clamp(0, 1)[:, None])
    return float(metrics.psnr(*images).mean())


def picture_of(
    image: Volume, found: Volume, wanted: Volume, job: Job, measured: Volume
) -> dict[str, NDArray[Any]]:
    """A square cut through the middle of the gland: axial, or coronal for through-plane restoration.

    Args:
        image: a result; ``found`` are its labels, on its grid or on that of the reference.
        wanted: the reference's labels, over the same field of view.
        measured: gives the intensities their scale.

    Returns:
        ``image`` on 0..1, and the labels ``found`` and ``wanted``, each ``(n, n)`` of the nearest voxels.
    """
    plane = "axial" if job == "inplane" else "coronal"
    centre, directions = gland_centre(wanted), qc.anatomical_directions(wanted.affine)
    cuts = [
        np.nan_to_num(qc.panel(v, plane, centre, EXTENT_MM, PIXEL_MM, directions))
        for v in (image, found, wanted)
    ]
    low, span = scaling(measured.array)
    labels = dict(zip(("found", "wanted"), (c.astype(np.uint8) for c in cuts[1:]), strict=True))
    return {"image": np.clip((cuts[0] - low) / span, 0, 1).astype(np.float32), **labels}
