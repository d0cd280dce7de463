"""LIIF: an image as a function of continuous coordinates (Chen et al. 2021, arXiv 2012.09161), reduced.

An encoder sees the measured pixels on their own grid; a small perceptron answers at any position, from
the features around it, the offset to their pixel and the size of the target's pixel. So one network
serves every factor, along one axis or both.
"""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrisr.networks.unshuffle import zeroed


class EncoderBlock(nn.Module):
    """Residual block of EDSR, ``x + conv(relu(conv(x)))``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = zeroed(nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.second(F.relu(self.first(x))))


class Liif(nn.Module):
    """Implicit network: a correction to the interpolated image at any grid of positions.

    Args:
        channels: image channels.
        width, blocks: of the encoder (EDSR-baseline has 64 and 16).
        hidden, layers: of the perceptron (LIIF has 256 and 4 hidden layers).

    Kept from the paper: feature unfolding (the perceptron's first layer sees the 3 x 3 features around, which
    is a 3 x 3 convolution and is computed as one), the local ensemble of the four nearest pixels weighted by
    area, and cell decoding. The last layer starts at zero.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        width: int = 64,
        blocks: int = 8,
        hidden: int = 96,
        layers: int = 3,
    ) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.body = nn.ModuleList(EncoderBlock(width) for _ in range(blocks))
        self.unfold = nn.Conv2d(width, hidden, 3, padding=1)
        self.place = nn.Linear(4, hidden, bias=False)
        self.mlp = nn.ModuleList(nn.Conv2d(hidden, hidden, 1) for _ in range(layers - 1))
        self.tail = zeroed(nn.Conv2d(hidden, channels, 1))

    def features(self, y: Tensor) -> Tensor:
        """Encode and unfold: ``(b, c, n, m) -> (b, hidden, n, m)`` on the measured grid."""
        first = self.head(y)
        hidden = first
        for block in self.body:
            hidden = block(hidden)
        unfolded: Tensor = self.unfold(hidden + first)
        return unfolded

    def forward(
        self, features: Tensor, rows: Tensor, columns: Tensor, cell: tuple[float, float]
    ) -> Tensor:
        """The correction ``(b, c, r, k)`` at a grid of positions.

        Args:
            features: of :meth:`features`.
            rows, columns: ``(r,)`` and ``(k,)``, positions in measured pixels (0 is the centre of the first).
            cell: size of a target pixel in measured pixels, along rows and columns.
        """
        corners = [
            _neighbours(p, n) for p, n in zip((rows, columns), features.shape[-2:], strict=True)
        ]
        total = torch.zeros((), device=features.device)
        for (i, dy, wy), (j, dx, wx) in product(*corners):
            place = self._place(dy, dx, cell)
            hidden = features.index_select(2, i).index_select(3, j) + place.to(features.dtype)
            for layer in self.mlp:
                hidden = layer(F.relu(hidden))
            total = total + (wy[:, None] * wx) * self.tail(F.relu(hidden)).float()
        return total

    def _place(self, dy: Tensor, dx: Tensor, cell: tuple[float, float]) -> Tensor:
        """Contribution of offset and cell to the perceptron's first layer, ``(1, hidden, r, k)``."""
        offsets = torch.meshgrid(dy, dx, indexing="ij")
        sizes = (torch.full_like(offsets[0], size) for size in cell)
        placed: Tensor = self.place(torch.stack([*offsets, *sizes], dim=-1))
        return placed.permute(2, 0, 1)[None]


def _neighbours(position: Tensor, n: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """The two pixels around each position: index, offset from it, and linear weight."""
    below = position.floor()
    share = position - below
    found = []
    for step, weight in ((0, 1 - share), (1, share)):
        index = (below + step).clamp(0, n - 1)
        found.append((index.long(), position - index, weight))
    return found
