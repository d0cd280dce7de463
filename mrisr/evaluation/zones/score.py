"""Scores of the zones as figures, and a picture of where the segmentation lies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mrisr import metrics
from mrisr.config import Job
from mrisr.core import geometry
from mrisr.core.intensity import scaling
from mrisr.core.volume import Volume
from mrisr.data.prepare import canonical_stack
from mrisr.evaluation.case import COST_METRICS, Metric
from mrisr.zones.labels import ZONES
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
#: mm around the gland that the pictures show.
MARGIN = 12.0


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
    """The image through the middle of the gland, outlines in its own pixels: an axial slice, or for
    through-plane restoration the coronal one, rows from superior to inferior.

    Returns ``image`` on 0..1 and the labels ``found`` and ``wanted``, all of one shape ``(h, w)``, and
    ``step``: mm between rows and between columns.

    Args:
        image: a result; ``found`` are its labels, on its grid or on that of the reference.
        wanted: the reference's labels, over the same field of view.
        measured: gives the intensities their scale.
    """
    across = wanted.slice_axis
    if job == "throughplane":
        across = geometry.world_axes(wanted.affine).index(1)
    stacks = [canonical_stack(replace(v, stacked_along=across)) for v in (image, found, wanted)]
    labels, step = stacks[2]
    zones = np.stack([(labels == n).sum((1, 2)) for n in ZONES.values()])
    # The image that shows most of the smaller zone, or of any.
    index = int(np.argmax(zones.min(0) if zones.min(0).any() else zones.sum(0)))
    ends = _box(labels != 0, step)
    parts = [_inside(stack[index], s[1:], ends) for stack, s in stacks]
    low, span = scaling(measured.array)
    shown = np.clip((parts[0].astype(np.float32) - low) / span, 0, 1)
    outlines = [_enlarged(p, shown.shape).astype(np.uint8) for p in parts[1:]]
    return {
        "image": shown,
        "found": outlines[0],
        "wanted": outlines[1],
        "step": np.array(stacks[0][1][1:]),
    }


def _box(gland: NDArray[np.bool_], step: Sequence[float]) -> list[tuple[float, float]]:
    """First and last mm of rows and of columns around the gland, or of all where there is none."""
    ends = []
    for axis in (1, 2):
        others = tuple(a for a in range(3) if a != axis)
        held = np.flatnonzero(gland.any(others))
        first, last = (held[0], held[-1] + 1) if len(held) else (0, gland.shape[axis])
        width = gland.shape[axis] * step[axis]
        low, high = first * step[axis] - MARGIN, last * step[axis] + MARGIN
        ends.append((max(0.0, float(low)), min(float(width), float(high))))
    return ends


def _inside(
    image: NDArray[np.generic], step: Sequence[float], ends: Sequence[tuple[float, float]]
) -> NDArray[np.generic]:
    """The pixels of an image whose centres lie within these mm."""
    rows, columns = (
        slice(math.ceil(low / mm - 0.501), math.ceil(high / mm - 0.501))
        for (low, high), mm in zip(ends, step, strict=True)
    )
    return image[rows, columns]


def _enlarged(image: NDArray[np.generic], shape: Sequence[int]) -> NDArray[np.generic]:
    """Each pixel of the new shape takes what lies under its centre."""
    rows, columns = (
        ((np.arange(wanted) + 0.5) * n / wanted).astype(int)
        for n, wanted in zip(image.shape, shape, strict=True)
    )
    return image[np.ix_(rows, columns)]
