"""Validation during training: held-out patients, few evaluations from the start, against interpolation."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mrisr import metrics
from mrisr.config import Config
from mrisr.core.options import Sampling
from mrisr.data import cache, pairs
from mrisr.io.atomic import make_folder, write_bytes
from mrisr.models.store import Model
from mrisr.restore import restore

#: Pictures that figures are computed on (of more, some spread over all), and rows of the example picture.
MOST_PICTURES = 64
MOST_EXAMPLES = 16


class Example(NamedTuple):
    """Interpolated, restored and reference slice on 0..1: ``(h, w)``, or ``(h, w, 3)`` in colours."""

    interpolated: Tensor
    restored: Tensor
    reference: Tensor


def _factors(config: Config) -> list[tuple[pairs.Drawn, str]]:
    """The exact factors of the first degradation kind, without blur: what the figures are quoted for."""
    first = config.data.degradations[0]
    factors = first.factors or (first.range[0], first.range[1])
    return [(pairs.Drawn(first.kind, f), f"x{f:g}") for f in dict.fromkeys(factors)]


def validation_planes(config: Config) -> list[str]:
    """Planes of validation: axial slices for in-plane models, coronal ones for through-plane models, and
    pictures for those that learn from them."""
    if "picture" in config.data.planes:
        return ["picture"]
    return ["axial"] if config.job == "inplane" else ["coronal"]


def validate(
    model: Model,
    stacks: Sequence[cache.Stack],
    config: Config,
    slices: int = 8,
    device: str = "auto",
) -> tuple[dict[str, float], list[Example]]:
    """PSNR and SSIM per factor, and their gains over interpolation, averaged over patients.

    ``slices`` central slices of every validation stack are restored at full size (cropped to 320).
    Of pictures at most 64 are, spread evenly over all.
    """
    steps = model.restorer.quick_steps if "steps" in model.restorer.options else None
    sampling = Sampling(steps=steps, device=device, precision="fp32")
    rows: dict[str, list[float]] = {}
    examples = []
    for _, stack_images in pairs.validation_images(_some(stacks), validation_planes(config)):
        first = max(0, (len(stack_images) - slices) // 2)
        x_high = stack_images[first : first + slices]
        reference = (x_high + 1) / 2
        for drawn, label in _factors(config):
            measurement = pairs.measurement_of(x_high, config.job, drawn)
            found = restore(measurement, model, sampling).stack
            both = (pairs.as_images(measurement, x) for x in (measurement.interpolated(), found))
            base, result = ((x + 1).div(2).clamp(0, 1) for x in both)
            figures = {
                f"{label}_psnr": metrics.psnr(result, reference),
                f"{label}_gain": metrics.psnr(result, reference) - metrics.psnr(base, reference),
                f"{label}_ssim": metrics.ssim(result, reference),
                f"{label}_ssim_gain": metrics.ssim(result, reference)
                - metrics.ssim(base, reference),
            }
            for key, value in figures.items():
                rows.setdefault(key, []).append(float(value.mean()))
            middle = len(x_high) // 2
            examples.append(Example(*(_shown(x[middle]) for x in (base, result, reference))))
    return {k: float(np.mean(v)) for k, v in rows.items()}, examples[:MOST_EXAMPLES]


def _some(stacks: Sequence[cache.Stack]) -> Sequence[cache.Stack]:
    """The stacks, but of pictures no more than are needed for a figure."""
    if len(stacks) <= MOST_PICTURES or stacks[0].channels == 1:
        return stacks
    return [stacks[i * len(stacks) // MOST_PICTURES] for i in range(MOST_PICTURES)]


def _shown(image: Tensor) -> Tensor:
    """An image ``(c, h, w)`` as it is drawn: its one channel, or the colours last."""
    return (image[0] if len(image) == 1 else image.movedim(0, -1)).cpu()


def write_examples(path: Path, examples: Sequence[Example]) -> None:
    """One PNG: a row per example with the interpolated, the restored and the reference slice."""
    if not examples:
        return
    from matplotlib.image import imsave

    width = max(e.reference.shape[1] for e in examples)
    rows = [np.concatenate([_padded(x, width) for x in example], axis=1) for example in examples]
    make_folder(path.parent)
    picture = io.BytesIO()
    imsave(picture, np.concatenate(rows), cmap="gray", vmin=0, vmax=1, format="png")
    write_bytes(path, picture.getvalue())


def _padded(image: Tensor, width: int) -> NDArray[np.float32]:
    """The image with black to its right, ``width`` columns in all."""
    return np.pad(image.numpy(), [(0, 0), (0, width - image.shape[1]), (0, 0)][: image.ndim])
