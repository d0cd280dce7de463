"""The published denoiser: SR3's U-Net, by default in PartDiff's MRI configuration (its Table 1).

Per level ``blocks`` residual blocks on the way down and one more on the way up, a strided
convolution between levels down and nearest-neighbour upsampling up. What SR3 changed in DDPM's U-Net
is kept: the continuous signal level enters every residual block by a feature-wise affine, sums of a
skip and its branch are divided by sqrt(2), and the low-resolution image is concatenated to the latent.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrisr.networks.unshuffle import NoiseScaleEmbedding, zeroed


def _norm(width: int, channels_per_group: int) -> nn.GroupNorm:
    return nn.GroupNorm(width // channels_per_group, width)


class ResidualBlock(nn.Module):
    """Residual block of two normalised convolutions, a feature-wise affine of the embedding between them.

    ``(b, entering, h, w), (b, embedding) -> (b, leaving, h, w)``.
    """

    def __init__(
        self, entering: int, leaving: int, embedding: int, channels_per_group: int, dropout: float
    ) -> None:
        super().__init__()
        self.first_norm = _norm(entering, channels_per_group)
        self.first = nn.Conv2d(entering, leaving, 3, padding=1)
        self.affine = nn.Linear(embedding, 2 * leaving)
        self.second_norm = _norm(leaving, channels_per_group)
        self.dropout = nn.Dropout(dropout)
        self.second = zeroed(nn.Conv2d(leaving, leaving, 3, padding=1))
        self.skip = nn.Identity() if entering == leaving else nn.Conv2d(entering, leaving, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.first(F.silu(self.first_norm(x)))
        scale, shift = self.affine(emb)[..., None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.second_norm(h).to(shift.dtype), 1 + scale)
        h = self.second(self.dropout(F.silu(h)))
        return torch.add(self.skip(x), h) / math.sqrt(2)


class SelfAttention(nn.Module):
    """Self-attention over all positions, in heads as wide as one normalisation group."""

    def __init__(self, width: int, channels_per_group: int) -> None:
        super().__init__()
        self.heads = width // channels_per_group
        self.norm = _norm(width, channels_per_group)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = zeroed(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        parts = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w)
        q, k, v = parts.transpose(-1, -2).unbind(1)
        mixed = F.scaled_dot_product_attention(q, k, v)
        branch = self.out(mixed.transpose(-1, -2).reshape(b, c, h, w))
        return torch.add(x, branch) / math.sqrt(2)


class Stage(nn.Module):
    """A residual block and, where asked for, self-attention."""

    def __init__(
        self,
        entering: int,
        leaving: int,
        embedding: int,
        channels_per_group: int,
        dropout: float,
        attention: bool,
    ) -> None:
        super().__init__()
        self.block = ResidualBlock(entering, leaving, embedding, channels_per_group, dropout)
        self.attention = SelfAttention(leaving, channels_per_group) if attention else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        attended: Tensor = self.attention(self.block(x, emb))
        return attended


class Downsample(nn.Module):
    """Strided convolution to half the size; the embedding is not used."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        smaller: Tensor = self.conv(x)
        return smaller


class Rise(nn.Module):
    """Level of the way up: a stage for each skip (taken off the end), then twice the size."""

    def __init__(self, stages: Sequence[Stage], width: int, last: bool) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.smooth = None if last else nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, skips: list[Tensor], emb: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(torch.cat([x, skips.pop()], dim=1), emb)
        if self.smooth is not None:
            x = self.smooth(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x


class UNet(nn.Module):
    """Predicts eps (or x_HR, as the configuration says) from the latent and the low-resolution image.

    Args:
        channels: image channels (1 for MRI).
        width: feature channels of the finest level.
        multipliers: width of each level over that of the finest.
        blocks: residual blocks per level.
        channels_per_group: channels in each group of GroupNorm.
        attention_levels: levels (0 is the finest) with self-attention; with the coarsest among
            them, the bottom of the U has it too.
        dropout: inside residual blocks.
        condition: length of the vector that describes the degradation.

    ``forward(x_t, x_low, g, condition)`` takes ``(b, c, h, w)`` twice, ``(b,)`` and
    ``(b, condition)``; any ``h`` and ``w``: images are padded to a multiple of the coarsest level's
    pixel. The last layer starts at zero.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        width: int = 128,
        multipliers: Sequence[int] = (1, 1, 2, 2, 4, 4),
        blocks: int = 3,
        channels_per_group: int = 16,
        attention_levels: Sequence[int] = (),
        dropout: float = 0.0,
        condition: int = 7,
    ) -> None:
        super().__init__()
        self.multiple = 2 ** (len(multipliers) - 1)
        embedding = 4 * width
        self.embed = NoiseScaleEmbedding(embedding, condition)
        self.head = nn.Conv2d(2 * channels, width, 3, padding=1)

        def stage(entering: int, leaving: int, level: int) -> Stage:
            attention = level in attention_levels
            return Stage(entering, leaving, embedding, channels_per_group, dropout, attention)

        widths = [width * m for m in multipliers]
        deepest = len(widths) - 1
        down: list[nn.Module] = []
        skips = [widths[0]]  # widths of what the way down leaves for the way up
        for level, leaving in enumerate(widths):
            for _ in range(blocks):
                down.append(stage(skips[-1], leaving, level))
                skips.append(leaving)
            if level < deepest:
                down.append(Downsample(leaving))
                skips.append(leaving)
        self.down = nn.ModuleList(down)
        self.bottom = nn.ModuleList(
            [stage(widths[-1], widths[-1], deepest), stage(widths[-1], widths[-1], -1)]
        )
        up = []
        entering = widths[-1]
        for level, leaving in reversed(list(enumerate(widths))):
            stages = []
            for _ in range(blocks + 1):
                stages.append(stage(entering + skips.pop(), leaving, level))
                entering = leaving
            up.append(Rise(stages, leaving, last=level == 0))
        self.up = nn.ModuleList(up)
        self.norm = _norm(width, channels_per_group)
        self.tail = zeroed(nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, x_t: Tensor, x_low: Tensor, g: Tensor, condition: Tensor) -> Tensor:
        h, w = x_low.shape[-2:]
        x = torch.cat([x_t, x_low], dim=1)
        pad = (-h % self.multiple, -w % self.multiple)
        if any(pad):
            x = F.pad(x, (0, pad[1], 0, pad[0]), mode="replicate")
        emb = self.embed(g, condition)
        x = self.head(x)
        skips = [x]
        for layer in self.down:
            x = layer(x, emb)
            skips.append(x)
        for layer in self.bottom:
            x = layer(x, emb)
        for layer in self.up:
            x = layer(x, skips, emb)
        predicted: Tensor = self.tail(F.silu(self.norm(x)))
        return predicted[..., :h, :w].to(x_low.dtype)
