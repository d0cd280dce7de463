"""The zonal segmenter's network: a U-Net within slices whose deeper features attend across slices.

Prostate stacks have slices six times as thick as their pixels, so convolutions stay within the slice and
attention carries what neighbours, base and apex tell (Hung et al. 2022, "CAT-Net: A Cross-Slice Attention
Transformer Model for Prostate Zonal Segmentation in MRI", the segmenter of the PartDiff paper).
Convolutional blocks are MONAI's. Like the denoisers, the network works on pixel-unshuffled
images, which makes it several times cheaper.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from monai.networks.blocks.dynunet_block import UnetResBlock, UnetUpBlock
from torch import Tensor, nn

from mrisr.config import ZonesNetworkSettings

#: Background, peripheral zone, transition zone.
CLASSES = 3
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
        tokens = tokens.reshape(-1, slices, c) + slice_positions(slices, c).to(x)
        attended: Tensor = self.out(self.block(tokens)).reshape(-1, h * w, slices, c)
        return x + attended.permute(0, 2, 3, 1).reshape(n, c, h, w)


def slice_positions(slices: int, channels: int) -> Tensor:
    """Sinusoids ``(slices, channels)`` of the slice's number, from the middle of the stack.

    Source: Vaswani et al. 2017, "Attention Is All You Need", Sec. 3.5, with periods from 2 to 64 slices.
    """
    place = torch.arange(slices, dtype=torch.float32)[:, None] - (slices - 1) / 2
    half = (channels + 1) // 2
    rates = torch.pi / torch.logspace(0, 5, half, base=2.0)
    angles = place * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :channels]


class CrossSliceUNet(nn.Module):
    """Stacks to scores of background, peripheral and transition zone.

    Args:
        settings: widths of the levels, where attention stands, heads, dropout.
    """

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
