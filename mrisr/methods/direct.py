"""Methods of one step: interpolation, regression, and LIIF as an implicit image."""

from functools import partial
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor, nn

from mrisr.config import InterpolationSettings, LiifSettings, MethodSettings
from mrisr.core.options import Sampling
from mrisr.data.pairs import Pair
from mrisr.diffusion import Noise
from mrisr.methods.base import Evaluate, Given, Objective, Restorer, directly
from mrisr.networks import build_network
from mrisr.networks.liif import Liif
from mrisr.physics.separable import SeparableOperator


class InterpolationRestorer(Restorer):
    """Bicubic, B-spline, Lanczos or linear interpolation (:mod:`mrisr.physics.rows`)."""

    def __init__(self, settings: MethodSettings, condition: int) -> None:
        super().__init__(settings, nn.Identity())

    def restore(
        self, given: Given, sampling: Sampling, noise: Noise, evaluate: Evaluate = directly
    ) -> Tensor:
        network = self.settings.network
        assert isinstance(network, InterpolationSettings)
        return given.operator.interpolating_by(network.kind).interpolate(given.y)

    def objective(self, pair: Pair, generator: torch.Generator) -> NoReturn:
        raise TypeError("an interpolation has nothing to train")

    def evaluations(self, sampling: Sampling) -> int:
        super().evaluations(sampling)
        return 0


class RegressionRestorer(Restorer):
    """The diffusion methods' network without a latent: x_LR takes its place, at signal level 1.

    Source: the regression baseline of SR3 (Saharia et al. 2022, Sec. 4) and PartDiff (Sec. 5).
    SRGAN's generator (Ledig et al. 2017, arXiv 1609.04802) is of the same kind: residual blocks
    at low resolution, one long skip, sub-pixel convolution.
    """

    options = frozenset({"tile"})

    def __init__(self, settings: MethodSettings, condition: int) -> None:
        super().__init__(settings, build_network(settings.network, condition))

    def _estimate(self, x_low: Tensor, condition: Tensor) -> Tensor:
        n = len(x_low)
        g = torch.ones(n, device=x_low.device)
        estimate: Tensor = self.network(x_low, x_low, g, condition.expand(n, -1))
        return estimate

    def restore(
        self, given: Given, sampling: Sampling, noise: Noise, evaluate: Evaluate = directly
    ) -> Tensor:
        return evaluate(lambda x_low: self._estimate(x_low, given.condition), given.x_low)

    def objective(self, pair: Pair, generator: torch.Generator) -> Objective:
        restored = self._estimate(pair.x_low, pair.condition)
        return Objective(self.pixel_loss(restored, pair.x_high), restored)


#: Edge of the square of target pixels that is asked for in training, and target pixels asked for at once.
WINDOW = 48
QUERIES = 400_000


class Target(NamedTuple):
    """One axis of the target grid in measured pixels: positions, and the size of a target pixel."""

    positions: Tensor
    cell: float


def target_axis(operator: SeparableOperator, dim: int, n: int, device: torch.device) -> Target:
    """``n`` target pixels along ``dim``; the fields of view of both grids begin at the same edge."""
    axis = operator.axes.get(dim)
    factor = 1.0 if axis is None else axis.factor
    return Target((torch.arange(n, device=device) + 0.5) / factor - 0.5, 1 / factor)


class ImplicitRestorer(Restorer):
    """LIIF in reduced size, adding to x_LR like the other methods (:class:`mrisr.networks.liif.Liif`)."""

    network: Liif

    options = frozenset({"tile"})

    def __init__(self, settings: MethodSettings, condition: int) -> None:
        network = settings.network
        assert isinstance(network, LiifSettings)
        super().__init__(settings, Liif(**network.model_dump(exclude={"type"})))

    def restore(
        self, given: Given, sampling: Sampling, noise: Noise, evaluate: Evaluate = directly
    ) -> Tensor:
        features = evaluate(self.network.features, given.y)
        n, _, h, w = given.x_low.shape
        rows, columns = (
            target_axis(given.operator, dim, size, features.device)
            for dim, size in ((-2, h), (-1, w))
        )
        cell = (rows.cell, columns.cell)
        parts = [
            evaluate(partial(self.network, features, some, columns.positions, cell))
            for some in rows.positions.split(max(1, QUERIES // (n * w)))
        ]
        return given.x_low + torch.cat(parts, dim=-2)

    def objective(self, pair: Pair, generator: torch.Generator) -> Objective:
        """Pixel loss on one square of target pixels per group, placed anew in every step."""
        h, w = pair.x_high.shape[-2:]
        edge = min(WINDOW, h, w)
        u = torch.rand(2, generator=generator, device=generator.device).tolist()
        top, left = (int(v * (size - edge + 1)) for v, size in zip(u, (h, w), strict=True))
        inner = (..., slice(top, top + edge), slice(left, left + edge))
        corrections = []
        for y, operator in pair.measured:
            rows, columns = (
                target_axis(operator, dim, pair.margin + first + edge, y.device)
                for dim, first in ((-2, top), (-1, left))
            )
            features = self.network.features(y)
            asked = (rows.positions[-edge:], columns.positions[-edge:])
            corrections.append(self.network(features, *asked, (rows.cell, columns.cell)))
        restored = pair.x_low[inner] + torch.cat(corrections)
        return Objective(self.pixel_loss(restored, pair.x_high[inner]))
