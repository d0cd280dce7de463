"""Methods with their networks: each restores a measurement, and says what its training minimises."""

from collections.abc import Callable

from mrisr.config import MethodSettings
from mrisr.methods.base import Restorer
from mrisr.methods.diffusion import DiffusionRestorer, InversionRestorer
from mrisr.methods.direct import ImplicitRestorer, InterpolationRestorer, RegressionRestorer

_KINDS: dict[str, Callable[[MethodSettings, int], Restorer]] = {
    "diffusion": DiffusionRestorer,
    "regression": RegressionRestorer,
    "implicit": ImplicitRestorer,
    "inversion": InversionRestorer,
    "interpolation": InterpolationRestorer,
}


def build_restorer(settings: MethodSettings, condition: int) -> Restorer:
    """The restorer that the settings describe, with fresh weights; ``condition`` is the vector's length."""
    return _KINDS[settings.method](settings, condition)
