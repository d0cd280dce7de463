"""Sliding-window inference on whole stacks: localise the gland, then predict around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from monai.inferers.utils import sliding_window_inference
from torch import Tensor

from mrisr.zones.network import CLASSES

#: Network: images ``(b, 1, slices, rows, columns)`` to scores ``(b, 3, slices, rows, columns)``.
Scores = Callable[[Tensor], Tensor]
#: Fewest voxels' worth of probability that count as a gland.
LEAST = 50.0


class SlidingWindow(NamedTuple):
    """A network and the window through which it sees stacks: ``edge`` pixels square, so many slices."""

    scores: Scores
    edge: int
    slices: int


def zone_probabilities(stack: Tensor, window: SlidingWindow) -> Tensor | None:
    """Probabilities of background, peripheral and transition zone.

    Args:
        stack: ``(slices, rows, columns)`` on the working pixels, about 0..1, inferior to superior.

    Returns:
        ``(3, slices, rows, columns)``, or None where no gland is found.
    """
    centre = find_gland(stack, window)
    return None if centre is None else predict_at(stack, centre, window)


def find_gland(stack: Tensor, window: SlidingWindow) -> tuple[int, int] | None:
    """Row and column of the gland's centroid, or None: windows over whole slices, hardly overlapping."""
    gland = 1 - _windows(stack, window, overlap=(0.0, 0.125, 0.125)).softmax(0)[0]
    gland = torch.where(gland > 0.5, gland, 0.0).sum(0)
    if float(gland.sum()) < LEAST:
        return None
    rows, columns = (
        float((gland.sum(1 - d) * torch.arange(gland.shape[d])).sum() / gland.sum()) for d in (0, 1)
    )
    return round(rows), round(columns)


def predict_at(stack: Tensor, centre: tuple[int, int], window: SlidingWindow) -> Tensor:
    """Probabilities as :func:`zone_probabilities`, background beyond one window around ``centre``.

    Averaged over the image and its mirror image.
    """
    starts = [
        min(max(0, c - window.edge // 2), max(0, n - window.edge))
        for c, n in zip(centre, stack.shape[1:], strict=True)
    ]
    rows, columns = (slice(s, s + window.edge) for s in starts)
    part = stack[:, rows, columns]
    overlap = (0.5, 0.0, 0.0)
    found = _windows(part, window, overlap).softmax(0)
    found = found + _windows(part.flip(-1), window, overlap).softmax(0).flip(-1)
    probabilities = torch.zeros(CLASSES, *stack.shape)
    probabilities[0] = 1.0
    probabilities[:, :, rows, columns] = found / 2
    return probabilities


def _windows(stack: Tensor, window: SlidingWindow, overlap: tuple[float, float, float]) -> Tensor:
    """Blended scores ``(3, slices, rows, columns)``; smaller stacks are padded by their edge."""
    slices = min(window.slices, len(stack))
    scores = sliding_window_inference(
        stack[None, None],
        (slices, window.edge, window.edge),
        1,
        window.scores,
        overlap=overlap,
        mode="gaussian",
        padding_mode="replicate",
    )
    return torch.as_tensor(scores)[0].float().cpu()
