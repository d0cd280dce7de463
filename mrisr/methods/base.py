"""Interface of all restorers: a measurement in, x_HR out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrisr.config import MethodSettings
from mrisr.core.errors import UsageError
from mrisr.core.options import KINDS, Kind, Sampling
from mrisr.core.stages import stage
from mrisr.data.pairs import Pair
from mrisr.diffusion import Noise
from mrisr.physics.noise import told
from mrisr.physics.separable import SeparableOperator, describe

Output = TypeVar("Output")


class Given(NamedTuple):
    """Input of a restorer.

    Attributes:
        y: measured images ``(b, c, rows, columns)`` in -1..1.
        operator: the ``A`` they are a measurement by.
        x_low: ``y`` interpolated on the target grid ``(b, c, h, w)``.
        condition: the degradation as a vector ``(n,)``.
    """

    y: Tensor
    operator: SeparableOperator
    x_low: Tensor
    condition: Tensor


@stage("to grid")
def given(
    y: Tensor,
    operator: SeparableOperator,
    kinds: Sequence[Kind] = KINDS,
    noise: float | None = None,
) -> Given:
    """A measurement with what follows from it, for a model conditioned on the degradations ``kinds``, and on
    the level of the noise (a share of the intensity range) unless it is None.

    Raises:
        UsageError: the operator is of another kind.
    """
    condition = describe(operator, kinds)
    if noise is not None:
        condition = torch.cat([condition, told(noise)[None]])
    condition = condition.to(y.device)
    return Given(y, operator, operator.interpolate(y), condition)


class Evaluate(Protocol):
    """Evaluation of a network on whole images: at once, through tiles, in a lower precision."""

    def __call__(self, function: Callable[..., Tensor], *images: Tensor) -> Tensor:
        """``function`` of images ``(b, c, h, w)``; its result has their ``h`` and ``w``."""
        ...


def directly(function: Callable[..., Tensor], *images: Tensor) -> Tensor:
    """The function of the whole images as they are."""
    return function(*images)


def at_level(function: Callable[..., Output], given: Given, g: Tensor) -> Callable[..., Output]:
    """A function of images, signal levels ``(b,)`` and condition ``(b, n)`` as one of images, at a level."""

    def of_images(*images: Tensor) -> Output:
        n = len(images[0])
        return function(*images, g.float().expand(n), given.condition.expand(n, -1))

    return of_images


class Objective(NamedTuple):
    """Loss of one training step, and the x_HR behind it where there is one (for a critic)."""

    loss: Tensor
    restored: Tensor | None = None


class Restorer(nn.Module, ABC):
    """A method with its networks. ``network`` holds the weights that a model file stores."""

    def __init__(self, settings: MethodSettings, network: nn.Module) -> None:
        super().__init__()
        self.settings = settings
        self.network = network

    #: Steps of the figures during training.
    quick_steps = 1
    #: Options of sampling that the method takes; see :meth:`takes`.
    options: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def restore(
        self, given: Given, sampling: Sampling, noise: Noise, evaluate: Evaluate = directly
    ) -> Tensor:
        """x_HR ``(b, c, h, w)``, not yet projected onto the measurement.

        Args:
            given: the measurement.
            sampling: resolved: options that the method takes have a value.
            noise: standard normal fields of the steps.
            evaluate: how a network is evaluated.
        """

    def takes(self, sampling: Sampling) -> frozenset[str]:
        """Options of sampling that have an effect on this method, given the others."""
        return self.options

    @abstractmethod
    def objective(self, pair: Pair, generator: torch.Generator) -> Objective:
        """Compute what training minimises on a batch; ``generator`` is on the batch's device."""

    def evaluations(self, sampling: Sampling) -> int:
        """Evaluations of the network per image. Raises UsageError for steps that the method cannot do."""
        if sampling.steps not in (None, 1):
            raise UsageError(
                f"steps: {self.settings.method} takes one step, found {sampling.steps}"
            )
        return 1

    def pixel_loss(self, result: Tensor, target: Tensor) -> Tensor:
        """Mean absolute or squared error, as the settings say."""
        l1 = self.settings.diffusion.loss == "l1"
        return F.l1_loss(result, target) if l1 else F.mse_loss(result, target)
