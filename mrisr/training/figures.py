"""What a run shows of itself: lines of progress, curves, example pictures, and before and after."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mrisr.io.atomic import make_folder, write_bytes
from mrisr.view.pages import png

Row = Mapping[str, Any]
#: Endings of the figures of a restoration in the log, with what they are called.
PSNR, GAIN = "_psnr", "_gain"


def duration(seconds: float) -> str:
    """A time in hours, minutes and seconds, of which the largest two count: ``1 h 12 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def figures_line(row: Row) -> str:
    """Figures of a validation in words: PSNR and its gain over interpolation, or Dice."""
    psnr = [key.removesuffix(PSNR) for key in row if key.endswith(PSNR)]
    told = [f"{k} {row[k + PSNR]:.2f} dB ({row[k + GAIN]:+.2f})" for k in psnr]
    return ", ".join(told or [f"{k} {v:.4f}" for k, v in row.items() if k != "step"])


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Read the lines of a run's ``metrics.jsonl``; none if there is no such file yet."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def before_after(folder: Path) -> list[list[str]]:
    """Rows of figure, first value, last value and change of a run's validations; none without two."""
    found = [row for row in read_log(folder) if "loss" not in row]
    if len(found) < 2:
        return []
    first, last = found[0], found[-1]
    return [
        [key, f"{first[key]:.4f}", f"{last[key]:.4f}", f"{last[key] - first[key]:+.4f}"]
        for key in last
        if key != "step"
    ]


def write_curves(folder: Path) -> None:
    """Draw ``curves.png`` beside the log: the loss and, where patients are held out, the gain over
    interpolation in dB (or Dice) against the steps."""
    from matplotlib.figure import Figure

    rows = read_log(folder)
    losses = [row for row in rows if "loss" in row]
    found = [row for row in rows if "loss" not in row]
    gains = [
        key for key in (found[-1] if found else ()) if key.endswith(GAIN) and "ssim" not in key
    ]
    shown = gains or [key for key in (found[-1] if found else ()) if key != "step"]
    figure = Figure(
        figsize=(8.0, 3.2)
    )  # without constrained layout, which takes as long as the rest
    figure.subplots_adjust(left=0.09, right=0.99, bottom=0.16, top=0.9, wspace=0.2)
    left, *right = figure.subplots(1, 2 if found else 1, squeeze=False)[0]
    left.plot([r["step"] for r in losses], [r["loss"] for r in losses])
    left.set(xlabel="step", title="loss")
    for axes in right:
        for key in shown:
            psnr = found[-1].get(key.replace(GAIN, PSNR)) if gains else None
            label = key.removesuffix(GAIN) + (f": {psnr:.2f} dB" if psnr else "")
            axes.plot([r["step"] for r in found], [r[key] for r in found], "o-", label=label)
        axes.set(xlabel="step", title="PSNR over interpolation, dB" if gains else "Dice")
        axes.legend(fontsize="small", framealpha=0.6)
    write_bytes(folder / "curves.png", png(figure))


class Example(NamedTuple):
    """Interpolated, restored and reference slice on 0..1: ``(h, w)``, or ``(h, w, 3)`` in colours."""

    interpolated: Tensor
    restored: Tensor
    reference: Tensor


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
