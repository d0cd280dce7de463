"""Standard deviation of a result: the spread of samples, or what one answer tells of itself, calibrated.

Both predict the error; what makes them standard deviations is the calibration in the model's card, fitted on
patients whose truth is known (docs/scripts/uncertainty.py).
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from mrisr.core.errors import UsageError
from mrisr.core.options import Sampling
from mrisr.models.card import Calibration, ModelCard, Uncertainty
from mrisr.physics.measurement import Measurement

#: Samples where none are asked for, and the fewest steps of a model that nobody has calibrated.
SAMPLES, FEWEST = 8, 4
#: Edge in voxels of the squares over which features and spreads are averaged.
WINDOW = 5
#: Features weaker than this, on the scaled range of 2, are all alike.
FAINTEST = 2e-3


@dataclass(frozen=True, eq=False)
class Deviation:
    """Standard deviation of each voxel of a stack, on the scaled range of 2; ``scalar`` is what the spread of
    samples was multiplied by: None of one answer, and where there is no calibration (``calibrated``)."""

    stack: Tensor
    scalar: float | None = None
    calibrated: bool = True


def sampled(card: ModelCard) -> Uncertainty:
    """How a model is sampled where nothing else is asked."""
    steps = max(card.default_steps, FEWEST)
    return card.uncertainty or Uncertainty(steps=steps, eta=1.0, calibration=())


def default_samples(card: ModelCard) -> int:
    """Samples where only the uncertainty is asked for: 1 of a model that is calibrated for that."""
    known = card.uncertainty and card.uncertainty.calibration and card.uncertainty.calibration[0]
    return 1 if known and known.weights else SAMPLES


def mean_and_spread(samples: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of at least two tensors of one shape, held one at a time (Welford 1962).

    >>> mean, spread = mean_and_spread(torch.tensor([v]) for v in (1.0, 2.0, 6.0))
    >>> float(mean), round(float(spread), 4)
    (3.0, 2.6458)
    """
    mean = squares = torch.zeros(())
    count = 0
    for count, sample in enumerate(samples, 1):
        off = sample - mean
        mean = mean + off / count
        squares = squares + off * (sample - mean)
    return mean, (squares / (count - 1)).sqrt()


def calibrated(
    card: ModelCard, measurement: Measurement, spread: Tensor, sampling: Sampling
) -> Deviation:
    """The standard deviation from that of samples, which a model that is sampled otherwise than it was
    calibrated for leaves as it is."""
    known = card.uncertainty
    spread = _local(spread.square(), _fine(measurement)).sqrt()
    asked = (sampling.steps, sampling.eta)
    if known is None or not known.calibration or asked != (known.steps, known.eta):
        return Deviation(spread, calibrated=False)
    scalar = _at(known, measurement).scalar
    return Deviation(scalar * spread, round(scalar, 4))


def estimated(card: ModelCard, measurement: Measurement, result: Tensor) -> Deviation:
    """The standard deviation of one answer, from its :func:`features`.

    Raises:
        UsageError: the model is not calibrated for that.
    """
    if card.uncertainty is None or default_samples(card) != 1:
        wanted = "ask for several --samples"
        raise UsageError(
            f"model {card.name}: nobody has calibrated what one answer tells; {wanted}"
        )
    bias, *weights = _at(card.uncertainty, measurement).weights
    total = torch.full_like(result, bias)
    for weight, feature in zip(weights, features(measurement, result), strict=True):
        total += weight * feature
    return Deviation(total.exp_())


def features(measurement: Measurement, result: Tensor) -> list[Tensor]:
    """What an error goes along with, as logarithms of local means: how far the result is from the
    interpolated measurement, how steep it is, and how bright."""
    dims = _fine(measurement)
    steep = sum((torch.gradient(result, dim=d)[0].square() for d in dims), torch.zeros(()))
    detail = (result - measurement.interpolated()).square()
    strengths = [_local(x, dims).clamp(min=0).sqrt() for x in (detail, steep)]
    bright = _local((result + 1) / 2, dims).clamp(min=0)
    return [(x + FAINTEST).log() for x in (*strengths, bright)]


def _fine(measurement: Measurement) -> tuple[int, ...]:
    """The dimensions of a stack along which its images extend."""
    return (-3, *(view - 3 for view in measurement.views)) if measurement.views else (-2, -1)


def _local(x: Tensor, dims: Iterable[int]) -> Tensor:
    """Mean over windows of :data:`WINDOW` voxels along each dimension, smaller at the rim."""
    for dim in dims:
        lines = x.movedim(dim, -1)
        flat = lines.reshape(-1, 1, lines.shape[-1])
        flat = F.avg_pool1d(flat, WINDOW, 1, WINDOW // 2, count_include_pad=False)
        x = flat.reshape(lines.shape).movedim(-1, dim)
    return x


def _at(known: Uncertainty, measurement: Measurement) -> Calibration:
    """The calibration at a measurement's factor and noise, between those of the card; beyond, the last."""
    axes = measurement.operator.axes
    factor = max(axis.factor for axis in axes.values())
    rows = known.calibration
    by_noise = [
        _between(
            [r for r in rows if r.noise == noise], math.log(factor), lambda r: math.log(r.factor)
        )
        for noise in sorted({r.noise for r in rows})
    ]
    return _between(by_noise, measurement.noise, lambda r: r.noise)


def _between(
    rows: list[Calibration], value: float, of: Callable[[Calibration], float]
) -> Calibration:
    """Linear between the two rows beside a value."""
    rows = sorted(rows, key=of)
    value = min(max(value, of(rows[0])), of(rows[-1]))
    for low, high in pairwise(rows):
        if value <= of(high):
            share = (value - of(low)) / (of(high) - of(low))
            mixed = [a + share * (b - a) for a, b in zip(low.numbers, high.numbers, strict=True)]
            factor, noise, scalar, *weights = mixed
            return Calibration(factor=factor, noise=noise, scalar=scalar, weights=tuple(weights))
    return rows[0]
