"""The zonal segmenter's network: a U-Net within slices whose deeper features attend across slices.

Prostate stacks have slices six times as thick as their pixels, so convolutions stay within the slice and
attention carries what neighbours, base and apex tell (Hung et al. 2022, "CAT-Net: A Cross-Slice Attention
Transformer Model for Prostate Zonal Segmentation in MRI", the segmenter of the PartDiff paper).
Convolutional blocks are MONAI's. Like the denoisers, the network works on pixel-unshuffled
images, which makes it several times cheaper. It sees whole stacks through a sliding window, which is placed
around the gland once that is found.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from monai.inferers.utils import sliding_window_inference
from monai.networks.blocks.dynunet_block import UnetResBlock, UnetUpBlock
from torch import Tensor, nn

from mrisr.config import ZonesNetworkSettings
from mrisr.models.card import ZonesCard, card_path, read_zones_card
from mrisr.models.store import checked_weights

#: Background, peripheral zone, transition zone.
CLASSES = 3
#: Name of the bundled model.
DEFAULT = "zones"
#: Fewest voxels' worth of probability that count as a gland.
_LEAST = 50.0
_NORM = ("instance", {"affine": True})


class CrossSliceAttention(nn.Module):
    """Attention of each place of a slice to the same place in all slices of its stack.

    A transformer block on tokens of ``channels``; its output is added, and begins at zero.
    """

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(
            channels, heads, 2 * channels, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, slices: int) -> Tensor:
        """Features ``(b * slices, c, h, w)`` to the same shape."""
        n, c, h, w = x.shape
        tokens = x.reshape(n // slices, slices, c, h * w).permute(0, 3, 1, 2)
        tokens = tokens.reshape(-1, slices, c) + _slice_positions(slices, c).to(x)
        attended: Tensor = self.out(self.block(tokens)).reshape(-1, h * w, slices, c)
        return x + attended.permute(0, 2, 3, 1).reshape(n, c, h, w)


def _slice_positions(slices: int, channels: int) -> Tensor:
    """Sinusoids ``(slices, channels)`` of the slice's number from the stack's middle, periods 2 to 64 slices
    (Vaswani et al. 2017, "Attention Is All You Need", Sec. 3.5)."""
    place = torch.arange(slices, dtype=torch.float32)[:, None] - (slices - 1) / 2
    angles = place * (torch.pi / torch.logspace(0, 5, (channels + 1) // 2, base=2.0))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :channels]


class CrossSliceUNet(nn.Module):
    """Stacks to scores of background, peripheral and transition zone."""

    def __init__(self, settings: ZonesNetworkSettings) -> None:
        super().__init__()
        widths = settings.widths
        self.fold = settings.fold
        folded = settings.fold**2
        sizes = zip((folded, *widths[:-1]), widths, (1, *(2 for _ in widths[1:])), strict=True)
        self.down = nn.ModuleList(UnetResBlock(2, a, b, 3, stride, _NORM) for a, b, stride in sizes)
        self.up = nn.ModuleList(
            UnetUpBlock(2, deep, wide, 3, 2, 2, _NORM) for wide, deep in pairwise(widths)
        )
        self.across = nn.ModuleDict(
            {
                str(level): CrossSliceAttention(widths[level], settings.heads, settings.dropout)
                for level in settings.attention_levels
            }
        )
        self.head = nn.Conv2d(widths[0], CLASSES * folded, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(b, 1, slices, rows, columns)`` to scores ``(b, 3, slices, rows, columns)``.

        Slices run from inferior to superior; rows and columns are multiples of the settings'
        ``multiple``.
        """
        b, _, slices, h, w = x.shape
        features = F.pixel_unshuffle(x.reshape(b * slices, 1, h, w), self.fold)
        levels = []
        for level, block in enumerate(self.down):
            features = block(features)
            if str(level) in self.across:
                features = self.across[str(level)](features, slices)
            levels.append(features)
        for block, skip in zip(reversed(self.up), reversed(levels[:-1]), strict=True):
            features = block(features, skip)
        scores = F.pixel_shuffle(self.head(features), self.fold)
        return scores.reshape(b, slices, CLASSES, h, w).transpose(1, 2)


class ZonesModel(NamedTuple):
    """A card and its network (eval mode, CPU, float32)."""

    card: ZonesCard
    network: CrossSliceUNet


def load_zones_model(name_or_path: str | Path = DEFAULT) -> ZonesModel:
    """Load a zonal segmenter by name or path and check its weights against the card's SHA-256.

    Raises:
        UsageError: there is no such model, or it does not segment.
        InputError: weights are missing, truncated, altered or do not fit the card.
    """
    path = card_path(name_or_path)
    card = read_zones_card(path)
    weights = checked_weights(path, card, lambda: CrossSliceUNet(card.network))
    network = CrossSliceUNet(card.network)
    network.load_state_dict(weights)
    return ZonesModel(card, network.eval().requires_grad_(False))


class SlidingWindow(NamedTuple):
    """A network and the window through which it sees stacks: ``edge`` pixels square, so many slices."""

    #: Images ``(b, 1, slices, rows, columns)`` to scores ``(b, 3, slices, rows, columns)``.
    scores: Callable[[Tensor], Tensor]
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
    if float(gland.sum()) < _LEAST:
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
