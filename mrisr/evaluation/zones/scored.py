"""What one method reached downstream on one stack at one scale: scores of the zones, and a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mrisr import metrics
from mrisr.config import Job
from mrisr.core import geometry
from mrisr.core.intensity import scaling
from mrisr.core.volume import Volume
from mrisr.data.prepare import canonical_stack
from mrisr.evaluation.case import Metric
from mrisr.evaluation.kept import number
from mrisr.evaluation.zones.settings import Scale
from mrisr.zones.labels import ZONES
from mrisr.zones.score import ZoneScore, as_json

#: Figures of a zone; for Hausdorff's and the surface distance see :mod:`mrisr.zones.score`.
ZONE_METRICS = {
    "dice": Metric("Dice", ".3f", 1),
    "hd95_mm": Metric("HD95 mm", ".1f", -1),
    "asd_mm": Metric("ASD mm", ".2f", -1),
    "volume_bias_ml": Metric("bias ml", "+.1f", 0),
}
#: Figures of the stack.
STACK_METRICS = {
    "psnr": Metric("PSNR dB", ".2f", 1),
    "cpu_seconds": Metric("CPU s / slice", ".3g", None),
}
#: mm around the gland that the pictures show.
MARGIN = 12.0


class Outlined(NamedTuple):
    """One image through the gland: intensities on 0..1, labels of the result and of the reference, all of
    one shape ``(h, w)``; ``step`` is mm between rows and between columns."""

    image: NDArray[np.float32]
    found: NDArray[np.uint8]
    wanted: NDArray[np.uint8]
    step: tuple[float, float]


@dataclass(frozen=True)
class ZonesScored:
    """What one method reached.

    Attributes:
        labels: zone -> the score against the patient's labels.
        agreement: zone -> the score against what the segmenter says of the image that was not restored;
            none for that image itself.
        psnr: in dB within the box that holds the gland, mean over slices; NaN where there is no truth.
        seconds: wall seconds of restoring one slice.
        cpu_seconds: processor seconds of the same.
        evaluations: of the network, per image.
        picture: of the middle of the gland.
        facts: what else is worth knowing of this result, ready for JSON.
    """

    labels: Mapping[str, ZoneScore]
    agreement: Mapping[str, ZoneScore] | None
    psnr: float
    seconds: float
    cpu_seconds: float
    evaluations: int
    picture: Outlined
    facts: Mapping[str, Any] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """Every figure that is finite: ``PZ.dice``, ``PZ.agreement.dice`` ..., ``psnr``, ``cpu_seconds``."""
        values = {"psnr": self.psnr, "seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
        for kind, scores in (("", self.labels), ("agreement.", self.agreement or {})):
            for zone, score in scores.items():
                values |= {f"{zone}.{kind}{m}": getattr(score, m) for m in ZONE_METRICS}
        return {name: float(v) for name, v in values.items() if math.isfinite(v)}

    def figures(self) -> dict[str, Any]:
        """All but the picture, ready for JSON once numbers that are not finite are taken out."""
        return {
            "labels": as_json(self.labels),
            "agreement": None if self.agreement is None else as_json(self.agreement),
            "psnr": self.psnr,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "evaluations": self.evaluations,
            "step": list(self.picture.step),
            "facts": dict(self.facts),
        }

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The picture, to be kept."""
        image, found, wanted, _ = self.picture
        return {"image": image.astype(np.float16), "found": found, "wanted": wanted}

    @classmethod
    def from_kept(
        cls, figures: Mapping[str, Any], arrays: Mapping[str, NDArray[np.generic]]
    ) -> ZonesScored:
        """What :meth:`figures` and :meth:`arrays` came from. Raises KeyError, TypeError, ValueError."""
        rows, columns = figures["step"]
        picture = Outlined(
            arrays["image"].astype(np.float32),
            arrays["found"].astype(np.uint8),
            arrays["wanted"].astype(np.uint8),
            (float(rows), float(columns)),
        )
        agreement = figures["agreement"]
        return cls(
            labels=_scores(figures["labels"]),
            agreement=None if agreement is None else _scores(agreement),
            psnr=number(figures["psnr"]),
            seconds=number(figures["seconds"]),
            cpu_seconds=number(figures["cpu_seconds"]),
            evaluations=int(figures["evaluations"]),
            picture=picture,
            facts=figures["facts"],
        )


def _scores(content: Mapping[str, Mapping[str, float | None]]) -> dict[str, ZoneScore]:
    return {z: ZoneScore(**{k: number(v) for k, v in content[z].items()}) for z in ZONES}


@dataclass(frozen=True)
class ZonesResult:
    """What one method reached on one stack at one scale; ``seen`` says that a model knew the patient."""

    case: str
    series: str
    scale: Scale
    method: str
    seen: bool
    scored: ZonesScored

    def means(self) -> dict[str, float]:
        """Every figure that is finite."""
        return self.scored.means()


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
) -> Outlined:
    """The image through the middle of the gland, outlines in its own pixels: an axial slice, or for
    through-plane restoration the coronal one, rows from superior to inferior.

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
    rows, columns = stacks[0][1][1:]
    return Outlined(shown, outlines[0], outlines[1], (rows, columns))


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
