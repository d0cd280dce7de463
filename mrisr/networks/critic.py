"""The critic of adversarial training: real or restored, judged patch by patch."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class Critic(nn.Module):
    """Discriminator of patches (Isola et al. 2017), spectrally normalised (Miyato et al. 2018).

    SRGAN's discriminator in reduced size, made to judge patches so that crops of any size serve.
    ``(b, c, h, w)`` to logits ``(b, 1, h / 16, w / 16)`` and the features of every layer.
    """

    def __init__(self, channels: int = 1, width: int = 32) -> None:
        super().__init__()
        widths = [channels, width, width, 2 * width, 2 * width, 4 * width, 4 * width]
        strides = [2, 2, 1, 2, 1, 2]
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 3, stride, padding=1))
            for (a, b), stride in zip(pairwise(widths), strides, strict=True)
        )
        self.last = spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.last(x), features
