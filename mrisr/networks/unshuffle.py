"""The default denoiser: a residual network on pixel-unshuffled images.

All convolutions run on images folded by ``fold`` in both directions, so one evaluation costs a few
percent of a U-Net's on the full grid and sees a wide neighbourhood. There is no normalisation
layer: the answer at a pixel depends on its neighbourhood only, never on what else is in the
image, so tiles and whole images agree.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrisr.networks import AnyModule
from mrisr.physics.noise import told

#: Level of the noise, a share of the intensity range, from which the network for noisy images answers alone.
NOISY = 0.01


def zeroed(layer: AnyModule) -> AnyModule:
    """A layer with all parameters zero, so that its branch starts as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class NoiseScaleEmbedding(nn.Module):
    """Embedding of a signal level and a condition vector, ``(b,), (b, n) -> (b, width)``.

    The level ``g = sqrt(alpha_bar)`` in (0, 1] enters as sines and cosines of ``sqrt(-log g)``, in which
    a linear beta schedule is nearly uniform (WaveGrad conditions on it likewise).
    """

    def __init__(self, width: int, condition: int, frequencies: int = 16) -> None:
        super().__init__()
        self.frequencies: Tensor
        # Made on the CPU also where a network is tried on the meta device: there it would load a compiler.
        spread = torch.logspace(-1, 1.5, frequencies, device="cpu") * torch.pi
        here = torch.get_default_device()
        self.register_buffer("frequencies", spread.to(here), persistent=False)
        self.mlp = nn.Sequential(
            nn.Linear(2 * frequencies + condition, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
        )

    def forward(self, g: Tensor, condition: Tensor) -> Tensor:
        u = torch.sqrt(-torch.log(g.float().clamp(1e-4, 1.0)))
        phase = u[:, None] * self.frequencies
        embedded: Tensor = self.mlp(torch.cat([phase.sin(), phase.cos(), condition.float()], dim=1))
        return embedded


class ResidualBlock(nn.Module):
    """Residual block ``x + conv(act(scale * conv(x) + shift))``, scale and shift from the embedding."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        # A block starts as the identity, which keeps high learning rates stable.
        self.second = zeroed(nn.Conv2d(width, width, 3, padding=1))
        self.modulate = zeroed(nn.Linear(embedding, 2 * width))

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        scale, shift = self.modulate(emb)[..., None, None].to(x.dtype).chunk(2, dim=1)
        h = torch.addcmul(shift, self.first(x), 1 + scale)
        return torch.add(x, self.second(F.silu(h)))


class UnshuffleBody(nn.Module):
    """Residual network on images folded by ``fold``, with one long skip, unfolded again.

    Args:
        entering, leaving: image channels in and out.
        width: feature channels.
        blocks: residual blocks.
        fold: pixel-unshuffle factor.
        condition: length of the vector that describes the degradation.
    """

    def __init__(
        self,
        entering: int,
        leaving: int,
        *,
        width: int = 64,
        blocks: int = 12,
        fold: int = 4,
        condition: int = 7,
    ) -> None:
        super().__init__()
        self.fold = fold
        embedding = 2 * width
        self.embed = NoiseScaleEmbedding(embedding, condition)
        self.head = nn.Conv2d(entering * fold**2, width, 3, padding=1)
        self.body = nn.ModuleList(ResidualBlock(width, embedding) for _ in range(blocks))
        self.tail = zeroed(nn.Conv2d(width, leaving * fold**2, 3, padding=1))

    def folded(self, x: Tensor, g: Tensor, condition: Tensor) -> Tensor:
        """Map ``(b, entering, h, w), (b,), (b, condition)`` to ``(b, leaving, h, w)``; zero at the start."""
        h, w = x.shape[-2:]
        pad = (-h % self.fold, -w % self.fold)
        if any(pad):
            x = F.pad(x, (0, pad[1], 0, pad[0]), mode="replicate")
        features = self.head(F.pixel_unshuffle(x, self.fold))
        emb = self.embed(g, condition)
        hidden = features
        for block in self.body:
            hidden = block(hidden, emb)
        unfolded = F.pixel_shuffle(self.tail(hidden + features), self.fold)
        return unfolded[..., :h, :w]


class UnshuffleResNet(UnshuffleBody):
    """Predicts x_HR from the latent and the low-resolution image on the target grid.

    ``forward(x_t, x_low, g, condition)`` takes ``(b, c, h, w)`` twice, ``(b,)`` and
    ``(b, condition)``; any ``h`` and ``w``. The output is x_low plus a correction whose last
    layer starts at zero. ``channels`` is 1 for MRI, 3 for RGB.
    """

    def __init__(self, *, channels: int = 1, **size: int) -> None:
        super().__init__(2 * channels, channels, **size)

    def forward(self, x_t: Tensor, x_low: Tensor, g: Tensor, condition: Tensor) -> Tensor:
        correction = self.folded(torch.cat([x_t, x_low], dim=1), g, condition)
        return x_low + correction.to(x_low.dtype)


class ByNoise(nn.Module):
    """Two networks of one design, shared out by the level of the noise: one for images without it, which is
    not told of any, and one for noisy images, which is. Between none and ``NOISY`` answers are blended.

    So a model that knows noise loses nothing on images without. ``forward`` as of :class:`UnshuffleResNet`;
    the last column of the condition is the level as told (:func:`mrisr.physics.noise.told`).
    """

    def __init__(self, *, condition: int, **size: int) -> None:
        super().__init__()
        self.quiet = UnshuffleResNet(condition=condition - 1, **size)
        self.noisy = UnshuffleResNet(condition=condition, **size)

    def forward(self, x_t: Tensor, x_low: Tensor, g: Tensor, condition: Tensor) -> Tensor:
        share = (condition[:, -1] / told(NOISY)).clamp(max=1)
        if bool((share == 1).all()):
            noisy: Tensor = self.noisy(x_t, x_low, g, condition)
            return noisy
        quiet: Tensor = self.quiet(x_t, x_low, g, condition[:, :-1])
        if not bool(share.any()):
            return quiet
        return torch.lerp(quiet, self.noisy(x_t, x_low, g, condition), share[:, None, None, None])


class NoisePredictor(UnshuffleBody):
    """InvSR's ``f_w(x_LR, t)``: mean and log variance of the noise, per pixel (its Sec. 3.2).

    ``forward(x_low, g, condition)`` takes ``(b, c, h, w)``, ``(b,)`` and ``(b, condition)``; both outputs
    have the image's shape. It starts as standard normal noise.
    """

    def __init__(self, *, channels: int = 1, **size: int) -> None:
        super().__init__(channels, 2 * channels, **size)

    def forward(self, x_low: Tensor, g: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.folded(x_low, g, condition).to(x_low.dtype).chunk(2, dim=1)
        return mean, log_variance.clamp(-10.0, 4.0)
