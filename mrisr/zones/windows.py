"""The network on whole stacks: find the gland, then look at it in windows as in training."""

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


class Windowed(NamedTuple):
    """How a network looks at stacks: through windows of so many pixels and slices."""

    scores: Scores
    edge: int
    slices: int


def zone_shares(stack: Tensor, windowed: Windowed) -> Tensor | None:
    """Probabilities of background, peripheral and transition zone.

    Args:
        stack: ``(slices, rows, columns)`` on the working pixels, about 0..1, inferior to superior.

    Returns:
        ``(3, slices, rows, columns)``, or none where no gland is found.
    """
    centre = find_gland(stack, windowed)
    return None if centre is None else around(stack, centre, windowed)


def find_gland(stack: Tensor, windowed: Windowed) -> tuple[int, int] | None:
    """Row and column of the gland's centroid, or none: windows over whole slices, hardly overlapping."""
    gland = 1 - _windows(stack, windowed, overlap=(0.0, 0.125, 0.125)).softmax(0)[0]
    gland = torch.where(gland > 0.5, gland, 0.0).sum(0)
    if float(gland.sum()) < LEAST:
        return None
    rows, columns = (
        float((gland.sum(1 - d) * torch.arange(gland.shape[d])).sum() / gland.sum()) for d in (0, 1)
    )
    return round(rows), round(columns)


def around(stack: Tensor, centre: tuple[int, int], windowed: Windowed) -> Tensor:
    """As :func:`zone_shares`, looking only at the window around ``centre``, as it is and mirrored."""
    starts = [
        min(max(0, c - windowed.edge // 2), max(0, n - windowed.edge))
        for c, n in zip(centre, stack.shape[1:], strict=True)
    ]
    rows, columns = (slice(s, s + windowed.edge) for s in starts)
    part = stack[:, rows, columns]
    overlap = (0.5, 0.0, 0.0)
    seen = _windows(part, windowed, overlap).softmax(0)
    seen = seen + _windows(part.flip(-1), windowed, overlap).softmax(0).flip(-1)
    shares = torch.zeros(CLASSES, *stack.shape)
    shares[0] = 1.0
    shares[:, :, rows, columns] = seen / 2
    return shares


def _windows(stack: Tensor, windowed: Windowed, overlap: tuple[float, float, float]) -> Tensor:
    """Blended scores ``(3, slices, rows, columns)``; what is smaller than a window is padded by its edge."""
    slices = min(windowed.slices, len(stack))
    scores = sliding_window_inference(
        stack[None, None],
        (slices, windowed.edge, windowed.edge),
        1,
        windowed.scores,
        overlap=overlap,
        mode="gaussian",
        padding_mode="replicate",
    )
    return torch.as_tensor(scores)[0].float().cpu()
