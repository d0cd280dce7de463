"""Small models of every method, and a measurement for them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mrisr.config import MethodSettings
from mrisr.core.statistics import seeded
from mrisr.data.pairs import Measured, Pair
from mrisr.methods import Restorer, build_restorer
from mrisr.methods.base import Given, given
from mrisr.physics.separable import CONDITION, in_plane_operator

SMALL = {"type": "unshuffle", "width": 8, "blocks": 1, "fold": 2}
SETTINGS: dict[str, dict[str, Any]] = {
    "aligned": {"network": SMALL, "diffusion": {"start": 0.25}},
    "plain": {"network": SMALL, "diffusion": {"path": "plain", "start": 0.01, "from_noise": True}},
    "regression": {"method": "regression", "network": SMALL},
    "implicit": {
        "method": "implicit",
        "network": {"type": "liif", "width": 8, "blocks": 1, "hidden": 8, "layers": 2},
    },
    "inversion": {
        "method": "inversion",
        "network": SMALL,
        "diffusion": {"path": "plain", "start": 0.01},
        "inversion": {"denoiser": "some", "network": SMALL},
    },
    "bspline": {"method": "interpolation", "network": {"type": "interpolation", "kind": "bspline"}},
}


@pytest.fixture
def make() -> Callable[..., Restorer]:
    """A restorer by the name of its settings, lively: all weights random, so every part has a say."""

    def build(name: str, **changes: Any) -> Restorer:
        torch.manual_seed(5)
        settings = MethodSettings.model_validate(SETTINGS[name] | changes)
        restorer = build_restorer(settings, CONDITION)
        with torch.no_grad():
            for parameter in restorer.parameters():
                parameter.normal_(std=0.08)
        return restorer.eval()

    return build


@pytest.fixture
def measurement() -> Given:
    """Two images of 40 x 44 pixels, measured at x2."""
    x = torch.rand(2, 1, 40, 44, generator=seeded("cpu", 1)) * 1.6 - 0.8
    operator = in_plane_operator((20, 22), (40, 44), 2.0)
    return given(operator(x), operator)


@pytest.fixture
def pair() -> Pair:
    """A batch of four crops of 56 pixels with a margin of 4, at x2."""
    shift = torch.rand(4, 1, 1, 1, generator=seeded("cpu", 2)) * 6
    places = torch.arange(64, dtype=torch.float32)
    x = 0.5 * torch.sin(places / 1.2 + shift) + 0.4 * torch.sin(places[:, None] / 1.5 - shift)
    operator = in_plane_operator((32, 32), (64, 64), 2.0)
    y = operator(x)
    inner = (..., slice(4, 60), slice(4, 60))
    low = operator.interpolate(y)
    condition = given(y, operator).condition.expand(4, -1)
    return Pair(x[inner], low[inner], condition, (Measured(y, operator),), 4)


def fields(step: int) -> torch.Tensor:
    """One noise field of 40 x 44 pixels per step."""
    return torch.randn(1, 1, 40, 44, generator=seeded("cpu", 9, step))
